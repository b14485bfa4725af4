"""What the published code computed, as far as it fits into the repository; the whole bundle, where it is at hand, is slow."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from acx_jax.models.i3d import LOGITS
from acx_jax.models.pretrained import load_i3d_kinetics400
from acx_jax.published import families, real_frames
from acx_jax.published.bundle import Bundle, Lacking, named_parameter

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.usefixtures("quick_compiler")
CHECKS = families.checks()
KEPT = [name for name, check in CHECKS.items() if all((GOLDEN / file).exists() for file in check.files)]


def judge(path: Path, name: str) -> None:
    rows = list(CHECKS[name].measure(Bundle(path)))
    assert rows and not [row for row in rows if row.tolerance is not None and not row.ok]


@pytest.mark.parametrize("name", KEPT)
def test_golden_outputs_are_ours(name):
    judge(GOLDEN, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_all_recorded_outputs_are_ours(parity, name):
    missing = [file for file in CHECKS[name].files if not (parity / file).exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not among the recorded outputs")
    judge(parity, name)


def test_golden_files_are_small_and_hold_arrays_alone():
    files = list(GOLDEN.iterdir())
    assert sum(file.stat().st_size for file in files) < 3e6
    assert {file.suffix for file in files} == {".npz", ".json"}
    for file in files:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype.kind in "iuf" for name in arrays.files)


def test_a_wrong_output_is_seen(tmp_path):
    """The checks can fail: one weight drawn from another seed is noticed everywhere."""
    for file in ("mcp_k3.npz", "mcp_shapes.json"):
        (tmp_path / file).write_bytes((GOLDEN / file).read_bytes())
    (tmp_path / "bundle.json").write_text(json.dumps({"seed": 1}))
    rows = list(CHECKS["mcp_k3"].measure(Bundle(tmp_path)))
    assert rows and not [row.quantity for row in rows if row.ok]


def test_parameters_are_drawn_from_their_names():
    first, again = (named_parameter("a.weight", (4, 3, 2), 5) for _ in range(2))
    assert first.dtype == np.float32 and (first == again).all()
    assert not (first == named_parameter("a.weight", (4, 3, 2), 6)).any()
    big = {leaf: named_parameter(f"x.{leaf}", (20000,), 0) for leaf in ("bias", "running_mean", "running_var", "weight")}
    assert big["bias"].std() == pytest.approx(0.1, rel=0.05) and big["running_mean"].std() == pytest.approx(0.1, rel=0.05)
    assert all(0.5 <= big[leaf].min() < big[leaf].max() <= 1.5 for leaf in ("running_var", "weight"))
    assert named_parameter("x.weight", (500, 8, 5), 0).std() == pytest.approx(np.sqrt(2 / 40), rel=0.05)
    assert named_parameter("x.num_batches_tracked", (), 0).dtype == np.int64


def test_real_frames_give_the_recorded_features_of_i3d(parity):
    bundle = Bundle(parity)
    try:
        arrays, clips = bundle.arrays(real_frames.RECORDED), real_frames.cricket_clips(bundle, "cricket8_112")
    except Lacking as error:
        pytest.skip(str(error))
    rows = list(real_frames.compare_clip(load_i3d_kinetics400(classifier=True), clips, arrays, "cricket8_112"))
    assert len(rows) == 2 and all(row.ok for row in rows)


@pytest.mark.slow
def test_i3d_sees_cricket(parity):
    bundle = Bundle(parity)
    labels = bundle.text("kinetics400_label_map.txt").splitlines()
    variables = load_i3d_kinetics400(classifier=True)
    logits = real_frames.forward(LOGITS, variables, real_frames.cricket_clips(bundle, "cricket16"))[0][0]
    assert labels[int(logits.argmax())] == "playing cricket"
    assert float(jax.nn.softmax(logits).max()) == pytest.approx(0.956, abs=1e-3)
