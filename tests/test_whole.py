"""The whole of configs/tiny.py, smaller still, in processes of its own: results, repetition, kills."""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acx_jax.stages.job import STAMP
from acx_jax.stages.pipeline import STAGES

ROOT = Path(__file__).resolve().parents[1]
SMALLER = ("--config=configs/tiny.py", "--config.data.videos=8", "--config.adapt.steps=2", "--config.adapt.checkpoint_every=1",
           "--config.episodes.count=4", "--config.learners.mcp.epochs=3", "--config.learners.linear.epochs=3")
KEYS = {"learner", "features", "category", "ego_involved", "way", "shot", "query", "episodes", "accuracy", "accuracy_ci95", "auroc",
        "average_precision", "recall_normal", "recall_abnormal"}
SHARES = ("accuracy", "auroc", "average_precision", "recall_normal", "recall_abnormal")
RESULTS = Path("evaluate") / "results.json"


def finished(done) -> str:
    """What a run said that must have ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(acx, tmp_path_factory) -> Path:
    """The workdir of one finished run, to look at and not to change."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finished(acx(*SMALLER, f"--workdir={workdir}"))
    return workdir


@pytest.fixture
def again(whole, tmp_path) -> Path:
    """A copy of it, to run in."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_results_are_what_was_promised(whole):
    rows = json.loads((whole / RESULTS).read_text())
    learned = [(learner, features) for features in ("pretrained", "adapted") for learner in ("mcp", "proto", "linear")]
    assert [(row["learner"], row["features"]) for row in rows] == [*learned, ("length", "none")]
    for row in rows:
        assert KEYS <= row.keys()
        assert (row["way"], row["shot"], row["query"], row["episodes"]) == (2, 1, 3, 4)
        assert (row["category"], row["ego_involved"]) == ("all", "all")
        assert all(0 <= row[name] <= 1 for name in SHARES) and row["accuracy_ci95"] >= 0
        assert row["accuracy"] == pytest.approx((row["recall_normal"] + row["recall_abnormal"]) / 2, abs=2e-6)


def test_results_hold_no_times_and_no_paths(whole):
    rows = json.loads((whole / RESULTS).read_text())
    texts = {value for row in rows for key, value in row.items() if isinstance(value, str) and key != "data"}  # that is a hash
    assert texts <= {"mcp", "proto", "linear", "length", "pretrained", "adapted", "none", "all"}
    assert not [key for row in rows for key in row if any(word in key for word in ("time", "seconds", "date", "path", "dir"))]


def test_report_is_there_and_self_contained(whole):
    page = (whole / "report" / "index.html").read_text(encoding="utf-8")
    assert "mcp" in page and "chance" in page.lower()
    assert 'src="http' not in page and '<link rel="stylesheet"' not in page and str(whole) not in page
    assert "mcp" in (whole / "report" / "report.md").read_text(encoding="utf-8")


def test_nothing_is_left_over(whole):
    assert {path.name for path in whole.iterdir()} == {*STAGES, "config.json", "log.txt", ".lock"}


def test_second_run_skips_all_and_changes_nothing(acx, again):
    before = {name: contents(again / name) for name in STAGES}
    said = finished(acx(f"--workdir={again}"))
    assert [line.split(":")[0] for line in said.splitlines() if "up to date, skipped" in line] == list(STAGES)
    assert {name: contents(again / name) for name in STAGES} == before


def test_changed_query_redoes_only_evaluate_and_report(acx, again):
    said = finished(acx(f"--workdir={again}", "--config.episodes.query=2", "--config.learners.names=proto"))
    assert [line.split(":")[0] for line in said.splitlines() if "up to date, skipped" in line] == ["prepare", "adapt", "embed", "meta_train"]
    assert "evaluate: is redone: config.episodes.query was 3, is 2; config.learners.names was" in said
    rows = json.loads((again / RESULTS).read_text())
    assert [(row["learner"], row["query"]) for row in rows] == [("proto", 2), ("proto", 2), ("length", 2)]


def test_a_second_run_at_once_is_refused(acx_here, environment, tmp_path):
    with running(tmp_path / "w", environment, tmp_path / "log") as first:
        wait_for(lambda: (tmp_path / "w" / "prepare.partial").exists(), first)
        done = acx_here(*SMALLER, f"--workdir={tmp_path}/w")
        assert done.returncode == 2 and "in use by another run" in done.stderr


@contextlib.contextmanager
def running(workdir: Path, environment: dict[str, str], log: Path, *more: str) -> Iterator[subprocess.Popen]:
    """A run in the background, killed when the block ends."""
    command = [sys.executable, "-m", "acx_jax.main", *SMALLER, f"--workdir={workdir}", *more]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    """Returns when `happened()`, or when the process has ended."""
    while not happened() and process.poll() is None:
        time.sleep(0.02)


def kill_in(stage: str, workdir: Path, environment: dict[str, str], rng: random.Random) -> None:
    """Starts a run and kills it at a random moment after `stage` began."""
    with running(workdir, environment, workdir.with_suffix(".log")) as process:
        wait_for((workdir / f"{stage}.partial" / STAMP).exists, process)
        stop = time.monotonic() + rng.uniform(0, 5)
        wait_for(lambda: time.monotonic() > stop, process)


def killed_in(stages, whole: Path, acx, environment, workdir: Path, seed: int) -> None:
    """Kills one run in each of the stages, lets it end, and asserts the results of a run without a kill."""
    rng = random.Random(seed)
    for stage in stages:
        kill_in(stage, workdir, environment, rng)
    said = finished(acx(*SMALLER, f"--workdir={workdir}"))
    assert (workdir / RESULTS).read_bytes() == (whole / RESULTS).read_bytes(), said
    assert {path.name for path in workdir.iterdir()} == {path.name for path in whole.iterdir()}


def test_killed_and_run_again_gives_the_same_results(whole, acx, environment, tmp_path):
    killed_in(("prepare", "adapt", "embed"), whole, acx, environment, tmp_path / "run", seed=0)


def test_a_run_ends_soon_after_sigterm_and_says_so(environment, tmp_path):
    log = tmp_path / "log"
    with running(tmp_path / "run", environment, log) as process:
        wait_for((tmp_path / "run" / "prepare.partial" / STAMP).exists, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert "ended by SIGTERM; the same command goes on from here" in log.read_text() and "Traceback" not in log.read_text()


@pytest.mark.slow
def test_twenty_kills_change_no_loss_of_the_adaptation(acx, environment, tmp_path):
    """Steps are as many as there are kills, so that most of them meet a step, a save or a restore."""
    more, rng = ("--config.adapt.steps=40", "--stage=adapt"), random.Random(0)
    finished(acx(*SMALLER, f"--workdir={tmp_path}/once", *more))
    for _ in range(20):
        with running(tmp_path / "killed", environment, tmp_path / "log", *more) as process:
            wait_for((tmp_path / "killed" / "adapt.partial" / STAMP).exists, process)
            stop = time.monotonic() + rng.uniform(0, 12)
            wait_for(lambda: time.monotonic() > stop, process)
    finished(acx(*SMALLER, f"--workdir={tmp_path}/killed", *more))
    once, killed = ((tmp_path / name / "adapt" / "log.jsonl").read_text() for name in ("once", "killed"))
    assert killed == once and len(once.splitlines()) == 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_in_every_stage(whole, acx, environment, tmp_path, seed):
    killed_in([stage for stage in STAGES for _ in range(2)], whole, acx, environment, tmp_path / "run", seed)


@pytest.mark.slow
def test_one_seed_gives_one_result_and_another_another(whole, acx, tmp_path):
    finished(acx(*SMALLER, f"--workdir={tmp_path}/same", "--config.seed=0"))
    finished(acx(*SMALLER, f"--workdir={tmp_path}/other", "--config.seed=1"))
    assert (tmp_path / "same" / RESULTS).read_bytes() == (whole / RESULTS).read_bytes()
    assert (tmp_path / "other" / RESULTS).read_bytes() != (whole / RESULTS).read_bytes()
