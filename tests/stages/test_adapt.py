"""The adaptation stage: an interrupted run that is run again ends as one that was never interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from acx_jax.config import default_config
from acx_jax.contracts import Coverage, Segment
from acx_jax.data import prepared
from acx_jax.data.builders import records
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.reading import Reading
from acx_jax.data.meta_split import EVALUATE, PROBE
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.checkpoints import load_variables
from acx_jax.runtime.run_log import RunLog
from acx_jax.runtime.stopping import Terminated
from acx_jax.stages import adapt, adapt_behind, adapt_probe, meta_parts, pipeline
from acx_jax.stages.adapt_record import LOG, PROBES, Record
from acx_jax.stages.encoder import pretrained_variables
from acx_jax.stages.job import Job

pytestmark = pytest.mark.usefixtures("quick_compiler", "kept_programs")
STEPS, EVERY, FAILS_AT = 5, 2, 4


@pytest.fixture(scope="module")
def kept_programs() -> Iterator[None]:
    """Runs of the same settings share their compiled step, as a run and its rerun do through JAX's folder of programs."""
    made, kept = adapt.make_program, {}

    def program(config: ConfigDict, **options: Any) -> tuple[Any, Any]:
        step, state = made(config, **options)
        settings = {name: value for name, value in config.adapt.to_dict().items() if name != "checkpoint_every"}
        return kept.setdefault(json.dumps([settings, options], sort_keys=True), step), state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt, "make_program", program)
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """Prepared data of four noisy videos to adapt on."""
    root, workdir = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for video in range(4):
        (root / str(video)).mkdir()
        for frame in range(20):
            Image.fromarray(rng.integers(0, 256, (18, 22, 3), dtype=np.uint8)).save(root / str(video) / f"{frame:03}.png")
    segments = tuple(Segment(str(video), 0, 19, 0, split="adapt") for video in range(4))
    listing = Listing(segments, {str(video): root / str(video) for video in range(4)}, (), 4, 4)
    reading = Reading(8, 4, 0.0, 18, "nearest", 0, 8, {"adapt": 0, "evaluate": 0})
    built = records.build(listing, workdir / "prepare" / prepared.RECORDS, reading, folder=tmp_path_factory.mktemp("parts"), max_bad_share=0.0)
    value = prepared.to_json(built.stored, Coverage(4, 4, 4, 4, (), ()), prepared.Windows(8, 4), {})
    (workdir / "prepare" / prepared.SEGMENTS).write_text(json.dumps(value))
    return workdir


def job(workdir: Path, out: str, **changes) -> Job:
    config = default_config()
    with config.unlocked():
        config.data.short_side = 18
        config.encoder.update(arch="r2plus1d_tiny", weights="random", crop=16)
        config.adapt.update(ConfigDict(dict(steps=STEPS, batch=4, queue=6, projection=8, learning_rate=0.01, checkpoint_every=EVERY) | changes))
    (workdir / out).mkdir(exist_ok=True)
    return Job(config, workdir, workdir / out, RunLog(terminal=io.StringIO()))


def results(of: Job) -> tuple[list, str, dict]:
    variables = load_variables(of.out / adapt.ENCODER, pretrained_variables(of.config))
    return jax.tree.leaves(variables), (of.out / LOG).read_text(), json.loads((of.out / adapt.SUMMARY).read_text())


@pytest.fixture(scope="module")
def uninterrupted(workdir) -> Job:
    whole = job(workdir, "whole")
    adapt.run(whole)
    return whole


def test_every_step_is_logged_and_the_encoder_has_changed(uninterrupted):
    variables, log, summary = results(uninterrupted)
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    before = jax.tree.leaves(pretrained_variables(uninterrupted.config))
    assert all(np.isfinite(v).all() for v in variables)
    assert sum(not np.array_equal(a, b) for a, b in zip(variables, before)) > len(before) / 2
    assert summary == {"adapted": True, "steps": STEPS, "videos": 4}


def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(workdir, uninterrupted, monkeypatch):
    broken = job(workdir, "broken")
    log_step = adapt_behind.log_step

    def interrupted(of, record, step, metrics, videos):
        log_step(of, record, step, metrics, videos)
        if step == FAILS_AT:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adapt_behind, "log_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapt.run(broken)
    with (broken.out / LOG).open("a") as file:
        file.write('{"step": 5, "lo')  # and the last line was cut
    adapt.run(broken)
    assert f"goes on from the checkpoint of step {EVERY}" in broken.log._terminal.getvalue()
    for once, resumed in zip(results(uninterrupted)[0], results(broken)[0]):
        np.testing.assert_array_equal(resumed, once)
    assert results(broken)[1:] == results(uninterrupted)[1:]


@pytest.mark.parametrize("number, raised", [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_run_that_is_asked_to_stop_saves_its_step_first(workdir, uninterrupted, monkeypatch, number, raised):
    asked, log_step = job(workdir, f"asked {number}", checkpoint_every=100), adapt_behind.log_step

    def stopped(of, record, step, metrics, videos):
        log_step(of, record, step, metrics, videos)
        if step == 3:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(adapt_behind, "log_step", stopped)
        with pytest.raises(raised):
            adapt.run(asked)
    assert "step 4 is saved" in asked.log._terminal.getvalue()
    adapt.run(asked)
    assert "goes on from the checkpoint of step 4" in asked.log._terminal.getvalue()
    for once, resumed in zip(results(uninterrupted)[0], results(asked)[0]):
        np.testing.assert_array_equal(resumed, once)
    assert results(asked)[1:] == results(uninterrupted)[1:]


def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(workdir, uninterrupted, monkeypatch):
    hurt = job(workdir, "hurt", checkpoint_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(adapt, "save_variables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt.run(hurt)
    for file in (hurt.out / "checkpoints" / str(STEPS)).rglob("*"):
        if file.is_file() and file.name != "_CHECKPOINT_METADATA":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    adapt.run(hurt)
    said = hurt.log._terminal.getvalue()
    assert f"the checkpoint of step {STEPS} is damaged" in said and f"goes on from the checkpoint of step {STEPS - 1}" in said
    for once, resumed in zip(results(uninterrupted)[0], results(hurt)[0]):
        np.testing.assert_array_equal(resumed, once)


def test_a_run_stopped_behind_its_last_step_only_writes_its_results(workdir, uninterrupted, monkeypatch):
    late = job(workdir, "late", checkpoint_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(adapt, "save_variables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt.run(late)
    adapt.run(late)
    for once, resumed in zip(results(uninterrupted)[0], results(late)[0]):
        np.testing.assert_array_equal(resumed, once)
    assert results(late)[1:] == results(uninterrupted)[1:]


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_with_advice(workdir, loss):
    wild = job(workdir, "wild")
    with pytest.raises(WorkError, match="the loss of step 3 is .*, on clips of street, yard: .*--config.adapt.learning_rate"):
        adapt_behind.log_step(wild, Record(wild.out, done=0), 3, {"loss": float(loss)}, ["street", "yard"])


def test_without_steps_the_stage_is_left_out_and_says_why(workdir):
    idle = job(workdir, "idle", steps=0)
    adapt.run(idle)
    assert json.loads((idle.out / adapt.SUMMARY).read_text()) == {"adapted": False, "reason": "config.adapt.steps is 0"}


def test_a_batch_that_the_devices_cannot_share_is_refused(workdir):
    uneven = job(workdir, "uneven", batch=6)
    with uneven.config.unlocked():
        uneven.config.data.builder = "synthetic"
    anew = {"config": uneven.config, "workdir": workdir / "anew", "log": uneven.log}
    for refusing in (lambda: adapt.run(uneven), lambda: pipeline.bring_up_to_date("adapt", **anew)):
        with pytest.raises(UsageError, match="config.adapt.batch is 6, expected a multiple of the 4 devices"):
            refusing()
    assert not (workdir / "anew" / "prepare.partial").exists()  # said before hours of decoding


def test_weights_that_the_last_step_broke_are_not_handed_on(workdir):
    broken = job(workdir, "broken by the last", learning_rate=1e38, steps=1)
    with pytest.raises(WorkError, match="the last step left weights that are not finite: try a lower --config.adapt.learning_rate"):
        adapt.run(broken)
    assert not (broken.out / adapt.ENCODER).exists()


@pytest.mark.slow
def test_the_slow_average_is_handed_on_where_that_is_asked(workdir):
    """An average that keeps all of the first encoder is the first encoder."""
    slow = job(workdir, "slow", key_momentum=1.0, result="average", steps=2, accumulate=2, rate_batch=8)
    adapt.run(slow)
    found = load_variables(slow.out / adapt.ENCODER, pretrained_variables(slow.config))["params"]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(pretrained_variables(slow.config)["params"])):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def watched_workdir(workdir, tmp_path_factory) -> Path:
    """The four videos to adapt on, and eight to evaluate: the abnormal ones are bright."""
    root, into = tmp_path_factory.mktemp("more videos"), tmp_path_factory.mktemp("watched")
    rng, segments = np.random.default_rng(1), [Segment(f"a{i}", 0, 19, 0, split="adapt") for i in range(4)]
    segments += [Segment(f"e{i}", 0, 19, i % 2, split="evaluate") for i in range(8)]
    for segment in segments:
        (root / segment.video).mkdir()
        for frame in range(20):
            Image.fromarray(rng.integers(120 * segment.label, 130 + 120 * segment.label, (18, 22, 3), dtype=np.uint8)).save(
                root / segment.video / f"{frame:03}.png")
    listing = Listing(tuple(segments), {s.video: root / s.video for s in segments}, (), 12, 12)
    reading = Reading(8, 4, 0.0, 18, "nearest", 0, 8, {"adapt": 0, "evaluate": 0})
    built = records.build(listing, into / "prepare" / prepared.RECORDS, reading, folder=tmp_path_factory.mktemp("parts"), max_bad_share=0.0)
    value = prepared.to_json(built.stored, Coverage(12, 12, 12, 12, (), ()), prepared.Windows(8, 4), {})
    (into / "prepare" / prepared.SEGMENTS).write_text(json.dumps(value))
    return into


def watched(workdir: Path, out: str, **changes) -> Job:
    made = job(workdir, out, **changes)
    with made.config.unlocked():
        made.config.probe.update(share=0.5, every=2, neighbours=1, windows=2)
    return made


def test_a_probe_watches_and_changes_nothing(watched_workdir, monkeypatch):
    plain, seen = job(watched_workdir, "plain"), watched(watched_workdir, "seen")
    adapt.run(plain)
    adapt.run(seen)
    for a, b in zip(results(plain)[0], results(seen)[0]):
        np.testing.assert_array_equal(a, b)
    lines = [json.loads(line) for line in (seen.out / PROBES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4, 5] and lines[0]["probe_auroc"] == 1.0  # bright is easily told from dark
    assert results(seen)[2]["probe"] == {"best_step": 0, "best": 1.0, "before": 1.0}
    segments = [s.segment for s in prepared.load(watched_workdir / "prepare")[0] if s.segment.split == "evaluate"]
    parts = [{segments[i].video for i in meta_parts.indices_of(seen.config, segments, part)} for part in (PROBE, EVALUATE)]
    assert len(parts[0]) == len(parts[1]) == 4 and not parts[0] & parts[1]


@pytest.mark.parametrize("killed_at", [None, "line", "checkpoint", "forget"])
def test_the_best_encoder_by_the_probe_is_handed_on_wherever_the_run_was_killed(watched_workdir, monkeypatch, killed_at):
    """Probes that say 0.5, 0.7, 0.9, 0.6 at steps 0, 2, 4, 5: that of step 4 is best, though the run is killed once at step 4."""
    told = watched(watched_workdir, f"best {killed_at}", result="best", checkpoint_every=100)
    kept = {}

    def probe_of(of):
        def probe(variables):
            step = {0: 0, 1: 2, 2: 4, 3: 5}[min(len(kept), 3)]
            known = [s for s, v in kept.items() if all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(v), jax.tree.leaves(variables)))]
            step = known[0] if known else step
            kept[step] = jax.tree.map(np.array, variables)
            return {0: 0.5, 2: 0.7, 4: 0.9, 5: 0.6}[step]
        return probe

    def once(name, owner):
        true, calls = getattr(owner, name), []

        def failing(*arguments, **options):
            calls.append(arguments)
            if len(calls) == 3:  # steps 0, 2, 4; forget is not called for step 0
                raise KeyboardInterrupt
            return true(*arguments, **options)
        monkeypatch.setattr(owner, name, failing)

    monkeypatch.setattr(adapt, "make_probe", probe_of)
    if killed_at:
        once(*{"line": ("save_variables", adapt_probe), "checkpoint": ("wait", adapt_behind.Checkpoints), "forget": ("forget", adapt_probe.Watch)}[killed_at])
        if killed_at == "forget":
            monkeypatch.setattr(adapt_probe.Watch, "forget", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt.run(told)
        monkeypatch.undo()
        monkeypatch.setattr(adapt, "make_probe", probe_of)
    adapt.run(told)
    variables, _, summary = results(told)
    for a, b in zip(variables, jax.tree.leaves(kept[4]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert summary["probe"] == {"best_step": 4, "best": 0.9, "before": 0.5}
    assert [path.name for path in (told.out / adapt_probe.BEST).iterdir()] == ["4"]


def test_a_probe_of_one_class_is_refused(watched_workdir):
    few = watched(watched_workdir, "few")
    with few.config.unlocked():
        few.config.probe.share = 0.1  # of four videos of a class none
    with pytest.raises(UsageError, match="config.probe.share is 0.1, which gives the probe 0 normal and 0 abnormal segments"):
        adapt.run(few)
