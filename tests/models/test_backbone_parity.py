"""Encoders against outputs recorded from the published implementations."""
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

from acx_jax.models.encoders import ENCODERS
from acx_jax.models.i3d import I3D, LOGITS
from acx_jax.models.pretrained import from_torch_names, load_i3d_kinetics400
from acx_jax.models.resnet3d import STAGES

PARITY = Path(__file__).resolve().parents[2].parent / "shared" / "parity"
GIF = "v_CricketShot_g04_c01_rgb.gif"


def recorded(name: str) -> Path:
    path = PARITY / name
    if not path.exists():
        pytest.skip(f"the recorded outputs {name} are not beside the repository")
    return path


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


def backbone(arch: str):
    shapes = json.loads(recorded("backbone_state_dict_shapes.json").read_text())[arch]
    seed = json.loads(recorded("bundle.json").read_text())["seed"]
    state = {name: named_parameter(name, tuple(shape), seed) for name, shape in shapes.items()}
    archive = np.load(recorded(f"backbone_{arch}.npz"))
    return ENCODERS[arch].build(), from_torch_names(arch, state), archive


def close(actual, expected, tolerance: float) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


ARCHS = [pytest.param(arch, marks=[] if arch == "r3d_18" else pytest.mark.slow)
         for arch in ("r3d_18", "mc3_18", "r2plus1d_18", "r2plus1d_34")]


@pytest.mark.parametrize("arch", ARCHS)
def test_evaluation_features_match(arch: str) -> None:
    model, variables, archive = backbone(arch)
    for size in sorted(name[2:] for name in archive.files if name.startswith("x_")):
        features = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, archive[f"x_{size}"])
        close(features, archive[f"pooled_{size}"], 1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_stages_match(arch: str) -> None:
    model, variables, archive = backbone(arch)
    apply = jax.jit(lambda v, x: [model.apply(v, x, train=False, stage=stage) for stage in STAGES])
    outputs = apply(variables, archive["x_8x64"])
    for index, output in enumerate(outputs):
        batch, channels, *size = archive["stage_shapes_8x64"][index]
        assert output.shape == (batch, *size, channels)
        close(output.mean(), archive["stage_mean_8x64"][index], 1e-3)
        close(output.std(), archive["stage_std_8x64"][index], 1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_training_pass_then_gradients_match(arch: str) -> None:
    model, variables, archive = backbone(arch)
    clips = archive["train_x"]
    step = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable="batch_stats"))
    pooled, updates = step(variables, clips)
    close(pooled, archive["train_pooled"], 1e-3)
    trained = {"params": variables["params"], **updates}
    loss, gradients = jax.jit(jax.value_and_grad(
        lambda p: jnp.square(model.apply({**trained, "params": p}, clips, train=False)).mean()))(variables["params"])
    close(loss, archive["grad_loss"], 1e-3)
    compare_named(arch, trained, archive, "after.", 1e-3)
    compare_named(arch, {"params": gradients, **updates}, archive, "grad.", 2e-3)


def compare_named(arch: str, tree, archive, prefix: str, tolerance: float) -> None:
    """Compares what `archive` holds under `prefix` with the entries of `tree` that PyTorch's names lead to."""
    shapes = json.loads(recorded("backbone_state_dict_shapes.json").read_text())[arch]
    for name in [name for name in archive.files if name.startswith(prefix)]:
        entry = name.removeprefix(prefix)
        marked = from_torch_names(arch, {n: np.full(s, n == entry, np.float32) for n, s in shapes.items()})
        (place,) = [path for path, leaf in jax.tree_util.tree_leaves_with_path(marked) if leaf.any()]
        (value,) = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if path == place]
        close(value.transpose(4, 3, 0, 1, 2) if value.ndim == 5 else value, archive[name], tolerance)


def cricket(first: int, last: int, step: int) -> np.ndarray:
    with Image.open(recorded(GIF)) as gif:
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)])
    return frames[None, first:last, ::step, ::step].astype(np.float32) / 127.5 - 1


CRICKET = [("cricket16", 0, 16, 1), ("cricket8", 20, 28, 1), ("cricket8_112", 0, 8, 2)]


@pytest.mark.parametrize(("name", "first", "last", "step"), [
    pytest.param(*case, marks=[] if case[0] == "cricket8_112" else pytest.mark.slow) for case in CRICKET])
def test_i3d_matches_on_real_frames(name: str, first: int, last: int, step: int) -> None:
    archive = np.load(recorded("i3d_kinetics400.npz"))
    model, variables, clips = I3D(), load_i3d_kinetics400(), cricket(first, last, step)
    run = jax.jit(lambda v, x, stage: model.apply(v, x, train=False, stage=stage), static_argnums=2)
    close(run(variables, clips, None)[0], archive[f"{name}.mixed_5c_pooled"], 1e-3)
    for key in [key for key in archive.files if key.startswith(f"{name}.") and key.endswith("_shape")]:
        stage = key.split(".")[1].removesuffix("_shape").capitalize()
        assert run(variables, clips, stage).shape == tuple(archive[key])
    if f"{name}.mixed_3c_mean" in archive:
        close(run(variables, clips, "Mixed_3c").mean((0, 1, 2, 3)), archive[f"{name}.mixed_3c_mean"], 1e-3)


@pytest.mark.slow
def test_i3d_sees_cricket() -> None:
    archive = np.load(recorded("i3d_kinetics400.npz"))
    labels = recorded("kinetics400_label_map.txt").read_text().splitlines()
    logits = I3D(400).apply(load_i3d_kinetics400(classifier=True), cricket(0, 16, 1), train=False, stage=LOGITS)
    close(logits[0], archive["cricket16.logits"], 1e-3)
    assert labels[int(logits[0].argmax())] == "playing cricket"
    assert float(jax.nn.softmax(logits[0]).max()) == pytest.approx(0.956, abs=1e-3)
