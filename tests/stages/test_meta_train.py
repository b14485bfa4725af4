"""meta_train on given features, which need no encoder: whole runs, interrupted ones, and what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from runs import bring

from acx_jax import config as schema
from acx_jax.contracts import ABNORMAL, LABELS, Segment
from acx_jax.data.episodes import group_segments
from acx_jax.data.meta_split import EVALUATE, TRAIN, UNUSED, VALIDATION, meta_parts
from acx_jax.errors import UsageError
from acx_jax.runtime.checkpoints import load_arrays
from acx_jax.runtime.stopping import Terminated
from acx_jax.stages import meta_parts as stage_parts, meta_train

pytestmark = pytest.mark.usefixtures("quick_compiler")
ROOT = Path(__file__).resolve().parents[2]
SMALL = {"data.builder": "features", "episodes.shot": 1, "episodes.query": 3, "episodes.count": 8, "learners.names": ["proto"],
         "data.min_frames": 8, "data.adapt_share": 0.0, "meta.steps": 40, "meta.learner": "two_layer", "meta.validate_every": 20, "meta.query": 2,
         "meta.validation_episodes": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """20 segments of each class, of 9 vectors each, that lie apart in one direction."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    for label, name in enumerate(LABELS):
        (folder / name).mkdir()
        for i in range(20):
            vectors = rng.standard_normal((9, 6)) + (2 * label - 1) * np.eye(6)[0]
            np.save(folder / name / f"v{label}{i:02}.npy", vectors.astype(np.float32))
    return folder


def run(root, workdir, goal="evaluate", **values) -> str:
    return bring(goal, SMALL, root, workdir, **values)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(root, workdir)


def test_two_more_rows_and_episodes_of_other_segments(whole):
    workdir, said = whole
    assert "the other 20 are meta-training's" in said
    rows = json.loads((workdir / "evaluate" / "results.json").read_text())
    assert [row["learner"] for row in rows] == ["proto", "meta", "meta_random", "length"]
    with np.load(workdir / "evaluate" / "episodes.npz") as episodes:
        evaluated = set(np.concatenate([episodes["support"], episodes["query"]], axis=1).ravel().tolist())
    assert evaluated and len(evaluated) <= 20
    lines = [json.loads(line) for line in (workdir / "meta_train" / "given" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], "validation_loss" in line) for line in lines] == [(10, False), (20, True), (30, False), (40, True)]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_killed_run_goes_on_to_the_same_start(root, whole, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    real, left = meta_train._validated, [1]

    def validated(*arguments):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(meta_train, "_validated", validated)
    with pytest.raises(Killed):
        run(root, tmp_path, "meta_train")
    monkeypatch.setattr(meta_train, "_validated", real)
    assert "goes on from the checkpoint of step 20" in run(root, tmp_path, "meta_train")
    assert_same(tmp_path, whole[0])


def assert_same(folder: Path, other: Path) -> None:
    """Asserts that two runs left the same log and the same start."""
    logs = [(one / "meta_train/given/log.jsonl").read_text() for one in (folder, other)]
    ends = [jax.tree.leaves(load_arrays(one / "meta_train/given/start")) for one in (folder, other)]
    assert logs[0] == logs[1] and all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_run_that_is_asked_to_stop_saves_the_scan_it_is_in(root, whole, tmp_path, monkeypatch):
    real = meta_train._log

    def log(job, name, line):
        real(job, name, line)
        if line["step"] == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(meta_train, "_log", log)
        with pytest.raises(Terminated):
            run(root, tmp_path, "meta_train")
    assert "goes on from the checkpoint of step 30" in run(root, tmp_path, "meta_train")
    assert_same(tmp_path, whole[0])


@pytest.mark.slow
def test_a_process_that_gets_sigterm_goes_on_to_the_same_start(root, environment, tmp_path):
    """Long before the next validation, the only other place where it saves."""
    settings = {"learners.names": "proto", "meta.learner": "linear", "meta.steps": 600, "meta.validate_every": 600, "meta.query": 2,
                "meta.validation_episodes": 8, "episodes.shot": 1, "episodes.query": 3}
    command = [sys.executable, "-m", "acx_jax.main", "--config=configs/features.py", "--stage=meta_train", f"--config.data.root={root}",
               *(f"--config.{key}={value}" for key, value in settings.items())]

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen([*command, f"--workdir={tmp_path / name}"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)

    log = tmp_path / "asked" / "meta_train.partial" / "given" / "log.jsonl"
    with start("asked") as process:
        while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 3):
            time.sleep(0.01)
        process.terminate()
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 143 and (found := re.search(r"asked to stop, step (\d+) is saved", said)) and int(found[1]) < 600, said
    for name in ("asked", "once"):
        with start(name) as process:
            said = process.communicate(timeout=120)[0]
        assert process.returncode == 0 and (f"goes on from the checkpoint of step {found[1]}" in said) == (name == "asked"), said
    assert_same(tmp_path / "asked", tmp_path / "once")


def test_it_stops_where_validation_no_longer_gets_better(root, tmp_path):
    said = run(root, tmp_path, "meta_train", meta__learning_rate=1e-9, meta__patience=1, meta__validate_every=4)
    summary = json.loads((tmp_path / "meta_train" / "summary.json").read_text())
    assert "stopped at step" in said and summary["features"]["given"]["steps"] < 40


def test_none_is_trained_by_default(root, tmp_path):
    assert "left out" in run(root, tmp_path, meta__steps=0)
    assert json.loads((tmp_path / "meta_train" / "summary.json").read_text()) == {"trained": False}
    with pytest.raises(UsageError, match="config.meta.steps is 0"):
        run(root, tmp_path, "meta_train", meta__steps=0)


@pytest.mark.parametrize("values, said", [
    ({"meta.held_out": ["bikes"]}, "names 'bikes'.*have no categories"),
    ({"meta.share": 0.05}, "train part|validation part"),
    ({"episodes.shot": 9}, "train part of config.meta.share=0.5"),
    ({"meta.method": "reptile", "meta.learn_rates": True}, "meta.learn_rates"),
    ({"meta.batch": 3}, "meta.batch is 3, expected a multiple of the 4 devices"),
    ({"meta.method": "anil", "meta.learner": "linear"}, "one layer alone"),
])
def test_what_cannot_be_done_is_refused_before_work(root, tmp_path, values, said):
    with pytest.raises(UsageError, match=said):
        run(root, tmp_path, **{key.replace(".", "__"): value for key, value in values.items()})
    assert not (tmp_path / "embed").exists()


def test_another_split_divides_in_another_way_and_as_large():
    segments = [Segment(f"v{i}", 0, 9, i % 2) for i in range(40)]
    parts = [[stage_parts.indices_of(schema.from_flat(SMALL | {"meta.split": split}), segments, part).tolist()
              for part in (TRAIN, VALIDATION, EVALUATE)] for split in (0, 0, 1)]
    assert parts[0] == parts[1] and all(a != b and len(a) == len(b) for a, b in zip(parts[0], parts[2], strict=True))
    assert all(sorted(sum(of, [])) == list(range(40)) for of in parts)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 4), st.sampled_from("abc")), min_size=2, max_size=40),
       st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.booleans(), st.integers(0, 5))
def test_no_video_and_no_source_is_in_two_parts(drawn, share, validation, hold, seed):
    segments = [Segment(f"v{v}", 0, 9, label, category=kind if label else "", source=f"s{s}") for v, label, s, kind in drawn]
    kinds = sorted({s.category for s in segments if s.label == ABNORMAL})
    held = kinds[:1] if hold else []
    parts = meta_parts(segments, share=share, validation=validation, held_out=held, seed=seed)
    group = group_segments(segments).of_segment
    for g in np.unique(group):
        assert len(set(parts[group == g]) - {UNUSED}) <= 1
    assert set(parts) <= {TRAIN, VALIDATION, EVALUATE} | ({UNUSED} if held else set())
    for segment, part in zip(segments, parts):
        if held and segment.label == ABNORMAL and part != UNUSED:
            assert (segment.category in held) == (part == EVALUATE)


def test_a_run_replays_the_episodes_of_another(root, whole, tmp_path):
    """Also those of a run with meta-training; the other way round, what was trained on is refused."""
    file = whole[0] / "evaluate" / "episodes.npz"
    said = run(root, tmp_path, meta__steps=0, episodes__file=str(file), episodes__shot=2, episodes__count=3)
    assert f"8 episodes, 2-way 1-shot 3-query, disjoint, from 40 segments; replayed from {file}" in said
    proto = [json.loads((folder / "evaluate" / "results.json").read_text())[0] for folder in (whole[0], tmp_path)]
    assert proto[0] == proto[1] and len(proto[0]["data"]) == 16 and proto[0]["videos_used"] == 40
    said = run(root, tmp_path, meta__steps=0)
    assert "evaluate: is redone" in said
    with pytest.raises(UsageError, match="that meta-training or the probe has seen"):
        run(root, tmp_path, episodes__file=str(tmp_path / "evaluate" / "episodes.npz"))


def test_rows_of_parts_follow_those_of_all(root, tmp_path):
    """Given features name no ego involvement: such a row is left out by name, and the others stay."""
    said = run(root, tmp_path, meta__steps=0, episodes__rows=["ego", "categories"])
    assert "no row for ego-involved: its 20 segments allow no 1-shot episode" in said
    rows = json.loads((tmp_path / "evaluate" / "results.json").read_text())
    assert [(row["learner"], row["category"]) for row in rows] == [("proto", "all"), ("length", "all")]


@pytest.mark.parametrize(("values", "goal", "place"), [
    ({"learners__names": ["proto", "mcp"], "meta__steps": 0}, "evaluate", r"config\.learners\.names"),
    ({"learners__names": ["mcp+propagation"]}, "meta_train", r"config\.learners\.names"),  # better known before meta-training
    ({"meta__learner": "mcp"}, "meta_train", r"config\.meta\.learner"),
    ({"meta__learner": "mcp", "learners__names": ["mcp"]}, "evaluate", r"config\.learners\.names and config\.meta\.learner"),
])
def test_vectors_that_the_context_head_cannot_take_are_refused_before_anything_is_fitted(root, tmp_path, values, goal, place):
    with pytest.raises(UsageError, match=rf"^the features have 6 dimensions, and mcp in {place} takes a multiple of 4: .* append 2 zeros"):
        run(root, tmp_path, goal, **values)
    assert not list(tmp_path.rglob("scores/*")) and not list(tmp_path.rglob("log.jsonl"))
