"""The benchmark command as a user runs it, what it imports, and its arithmetic."""
import json
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from acx_jax.benchmark import __main__ as command
from acx_jax.benchmark import suites
from acx_jax.benchmark.outcome import OURS, Outcome, Row, as_dict, table
from acx_jax.benchmark.suites import embed
from acx_jax.benchmark.timing import Timing, interleave
from acx_jax.errors import UsageError
from acx_jax.models.encoders import ENCODERS, init_variables

TINY = ["--suite=embed", "--encoders=r2plus1d_tiny", "--batch=1", "--size=16", "--repeats=2"]
# Not on a bare GPU image: everything but jax, flax, optax, numpy, PyTorch and what those bring along themselves.
ABSENT = ("ml_collections", "tqdm", "dm_pix", "sklearn", "grain", "tensorflow_datasets", "av", "PIL", "matplotlib", "jinja2", "tensorboardX")


@pytest.fixture
def bench(environment):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "acx_jax.benchmark", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_a_suite_prints_a_table_and_writes_json(bench, tmp_path) -> None:
    done = bench(*TINY, f"--out={tmp_path / 'made'}")
    assert done.returncode == 0, done.stderr
    assert "r2plus1d_tiny float32" in done.stdout and "GFLOP/s" in done.stdout
    (path,) = (tmp_path / "made").iterdir()
    written = json.loads(path.read_text())
    assert path.name == "embed.json" and written["machine"]["platform"] == "cpu" and written["matrix_gflops"]["float32"] > 0
    (row,) = written["rows"]
    assert (row["program"], row["items"], len(row["seconds"])) == (OURS, 1, 2)
    assert row["per_second"] == pytest.approx(1 / row["median"]) and row["gflops"] > 0


@pytest.mark.parametrize(("arguments", "said"), [
    (["--suite=embd"], "embed"), ([], "--suite"), ([*TINY, "--peer=tf"], "torch"), ([*TINY, "--repeats=0"], "--repeats=0"),
])
def test_bad_flags_exit_with_2_and_name_the_choices(capsys, arguments, said) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.parse(arguments)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["--suite=embed", "--encoders=vgg"], "r2plus1d_34"), ([*TINY, "--dtypes=int8"], "bfloat16"), ([*TINY, "--batch=0"], "--batch=0"),
    ([*TINY, "--size=4"], "at least 8 frames of 16x16"),
])
def test_impossible_options_are_refused_before_anything_is_measured(arguments, said) -> None:
    with pytest.raises(UsageError, match=said):
        command.run(command.parse(arguments))


def test_an_output_folder_that_cannot_be_is_said_first(bench, tmp_path) -> None:
    (tmp_path / "file").touch()
    done = bench(*TINY, f"--out={tmp_path / 'file'}")
    assert done.returncode == 2 and "--out" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("name", ("embed", "adapt", "episodes"))  # the other suites read videos and arrays: they need what preparation needs
def test_suites_load_on_a_bare_gpu_image(name: str, environment) -> None:
    program = (f"import sys; sys.modules.update(dict.fromkeys({ABSENT}, None)); sys.modules['torch'] = None\n"
               f"from acx_jax.benchmark import __main__, machine, outcome, suites; suites.load('{name}')")
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.parametrize("name", suites.names())
def test_every_suite_keeps_the_interface(name: str) -> None:
    suite = suites.load(name)
    assert suite.SUMMARY and callable(suite.add_arguments) and callable(suite.run)


def test_programs_are_called_in_turns() -> None:
    calls = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=2)
    assert "".join(calls) == "ab" + "ab" + "ab" + "ba"  # first, warm-up, and the order turned round
    assert all(len(timing.seconds) == 2 and timing.low <= timing.median <= timing.high for timing in timings.values())


def test_a_measured_call_can_follow_one_of_its_own() -> None:
    calls = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=2, settle=True)
    assert "".join(calls) == "ab" + "ab" + "aabb" + "bbaa" and all(len(timing.seconds) == 2 for timing in timings.values())


def test_something_can_be_done_before_each_measured_call_and_is_not_measured() -> None:
    calls = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=1, before=lambda: (calls.append("-"), time.sleep(0.5)))
    assert "".join(calls) == "ab" + "ab" + "-a-b" and all(timing.high < 0.4 for timing in timings.values())


def test_rows_are_compared_within_their_case() -> None:
    rows = [Row("a", OURS, Timing(1.0, (0.1, 0.3, 0.2)), 4, 2e9), Row("a", "peer", Timing(0.0, (0.3,)), 4, error=1e-6),
            Row("b", "peer", Timing(0.0, (0.3,)), 4)]
    mine, peer, alone = (as_dict(row, rows, {"float32": 40.0}) for row in rows)
    assert (mine["median"], mine["gflops"], mine["share_of_matrix_rate"]) == pytest.approx((0.2, 10.0, 0.25))
    assert peer["times"] == pytest.approx(1.5) and alone["times"] is None and mine["times"] is None
    lines = table(Outcome("clips", {}, rows, []), {})
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1 and "1.50 times as fast" in lines[2]


def test_flops_are_those_of_the_published_network() -> None:
    # torchvision gives 40.7 thousand million multiply-adds for a clip of 16 frames.
    assert embed.flops(ENCODERS["r3d_18"], (1, 8, 112, 112, 3)) == pytest.approx(2 * 20.4e9, rel=0.02)


@pytest.mark.parametrize("arch", ["r2plus1d_tiny", "r3d_18", pytest.param("i3d", marks=pytest.mark.slow)])
def test_the_peer_computes_the_same(arch: str, quick_compiler) -> None:
    torch = pytest.importorskip("torch")
    from acx_jax.benchmark.peers.torch_encoders import build

    clips = np.random.default_rng(0).standard_normal((1, 8, 32, 40, 3)).astype(np.float32)
    variables = embed.varied(init_variables(ENCODERS[arch], jax.random.key(0), clips.shape))
    expected = np.asarray(embed.ours(ENCODERS[arch], variables, clips, np.float32)())
    with torch.no_grad():
        found = build(arch, variables)(torch.from_numpy(clips.transpose(0, 4, 1, 2, 3).copy())).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-3
