"""Encoders against outputs recorded from the published implementations."""
import json
import zlib
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image, ImageSequence

from acx_jax.models.encoders import ENCODERS, normalise
from acx_jax.models.i3d import I3D, LOGITS
from acx_jax.models.pretrained import load_i3d_kinetics400
from acx_jax.models.resnet3d import STAGES
from acx_jax.models.weight_match import from_torch_names
from acx_jax.models.weight_names import to_torch

GIF = "v_CricketShot_g04_c01_rgb.gif"
# Each of these networks takes half a minute to compile; I3D below runs by default.
ARCHS = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("r2plus1d_34", "r2plus1d_18", "r3d_18", "mc3_18")]
CRICKET = [("cricket16", 0, 16, 1), ("cricket8", 20, 28, 1), ("cricket8_112", 0, 8, 2)]


def recorded(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        pytest.skip(f"{name} is not among the recorded outputs")
    return folder / name


def named_parameter(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The recipe of the recorded runs: every entry is drawn from its own name."""
    draw = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    leaf = name.split(".")[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf in {"bias", "running_mean"}:
        return np.float32(draw.standard_normal(shape) * 0.1)
    if leaf == "running_var" or len(shape) == 1:
        return np.float32(draw.uniform(0.5, 1.5, shape))
    return np.float32(draw.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])))


def backbone(folder: Path, arch: str) -> tuple[nn.Module, dict, Any]:
    shapes = json.loads(recorded(folder, "backbone_state_dict_shapes.json").read_text())[arch]
    seed = json.loads(recorded(folder, "bundle.json").read_text())["seed"]
    state = {name: named_parameter(name, tuple(shape), seed) for name, shape in shapes.items()}
    archive = np.load(recorded(folder, f"backbone_{arch}.npz"))
    return ENCODERS[arch].build(), from_torch_names(arch, state), archive


def close(actual: Any, expected: Any, tolerance: float) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("arch", ARCHS)
def test_features_match_at_every_size(parity: Path, arch: str) -> None:
    model, variables, archive = backbone(parity, arch)
    for size in sorted(name[2:] for name in archive.files if name.startswith("x_")):
        features = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, archive[f"x_{size}"])
        close(features, archive[f"pooled_{size}"], 1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_stages_match(parity: Path, arch: str) -> None:
    model, variables, archive = backbone(parity, arch)
    apply = jax.jit(lambda v, x: [model.apply(v, x, train=False, stage=stage) for stage in STAGES])
    for index, output in enumerate(apply(variables, archive["x_8x64"])):
        batch, channels, *size = archive["stage_shapes_8x64"][index]
        assert output.shape == (batch, *size, channels)
        close(output.mean(), archive["stage_mean_8x64"][index], 1e-3)
        close(output.std(), archive["stage_std_8x64"][index], 1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_running_statistics_and_gradients_match(parity: Path, arch: str) -> None:
    model, variables, archive = backbone(parity, arch)
    clips = archive["train_x"]
    pooled, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable="batch_stats"))(variables, clips)
    close(pooled, archive["train_pooled"], 1e-3)
    loss, gradients = jax.jit(jax.value_and_grad(
        lambda p: jnp.square(model.apply({**variables, "params": p}, clips, train=False)).mean()))(variables["params"])
    close(loss, archive["grad_loss"], 1e-3)
    for name in [name for name in archive.files if name.startswith("after.")]:
        close(torch_entry(arch, updates, name.removeprefix("after.")), archive[name], 1e-3)
    for name in [name for name in archive.files if name.startswith("grad.")]:
        expected = archive[name]
        error = torch_entry(arch, {"params": gradients}, name.removeprefix("grad.")) - expected
        # Rounding flips ReLUs near 0: with XLA's own convolutions the stem's gradient is off by 0.002 too.
        assert np.linalg.norm(error) < 5e-3 * np.linalg.norm(expected), name


def torch_entry(arch: str, tree: dict, name: str) -> np.ndarray:
    """The leaf of `tree` that PyTorch calls `name`, in PyTorch's layout."""
    return to_torch(arch, traverse_util.flatten_dict(tree, sep="/"))[name]


def cricket(folder: Path, first: int, last: int, step: int) -> np.ndarray:
    with Image.open(recorded(folder, GIF)) as gif:
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)])
    return np.asarray(normalise(ENCODERS["i3d"], frames[None, first:last, ::step, ::step]))


@pytest.mark.parametrize(("name", "first", "last", "step"), [
    pytest.param(*case, marks=[] if case[0] == "cricket8_112" else pytest.mark.slow) for case in CRICKET])
def test_i3d_matches_on_real_frames(parity: Path, name: str, first: int, last: int, step: int) -> None:
    archive = np.load(recorded(parity, "i3d_kinetics400.npz"))
    model, variables, clips = I3D(), load_i3d_kinetics400(), cricket(parity, first, last, step)
    run = jax.jit(lambda v, x, stage: model.apply(v, x, train=False, stage=stage), static_argnums=2)
    close(run(variables, clips, None)[0], archive[f"{name}.mixed_5c_pooled"], 1e-3)
    for key in [key for key in archive.files if key.startswith(f"{name}.") and key.endswith("_shape")]:
        stage = key.split(".")[1].removesuffix("_shape").capitalize()
        shape = jax.eval_shape(lambda v, x: model.apply(v, x, train=False, stage=stage), variables, clips).shape
        assert shape == tuple(archive[key])
    if f"{name}.mixed_3c_mean" in archive:
        close(run(variables, clips, "Mixed_3c").mean((0, 1, 2, 3)), archive[f"{name}.mixed_3c_mean"], 1e-3)


@pytest.mark.slow
def test_i3d_sees_cricket(parity: Path) -> None:
    archive = np.load(recorded(parity, "i3d_kinetics400.npz"))
    labels = recorded(parity, "kinetics400_label_map.txt").read_text().splitlines()
    variables, clips = load_i3d_kinetics400(classifier=True), cricket(parity, 0, 16, 1)
    logits = jax.jit(lambda v, x: I3D(400).apply(v, x, train=False, stage=LOGITS))(variables, clips)[0]
    close(logits, archive["cricket16.logits"], 1e-3)
    assert labels[int(logits.argmax())] == "playing cricket"
    assert float(jax.nn.softmax(logits).max()) == pytest.approx(0.956, abs=1e-3)
