"""The adaptation stage: an interrupted run that is run again ends as one that was never interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from adapt_case import EVERY, STEPS, job, prepare, results

from acx_jax.contracts import Segment
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import load_variables
from acx_jax.runtime.stopping import Terminated
from acx_jax.stages import adapt, adapt_behind, pipeline
from acx_jax.stages.adapt_record import LOG, Record
from acx_jax.stages.encoder import pretrained_variables
from acx_jax.stages.job import Job

pytestmark = pytest.mark.usefixtures("quick_compiler", "kept_programs")
FAILS_AT = 4


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """Prepared data of four noisy videos to adapt on."""
    return prepare([Segment(str(video), 0, 19, 0, split="adapt") for video in range(4)], tmp_path_factory)


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


@contextlib.contextmanager
def not_ignored(number: int) -> Iterator[None]:
    """The signal arrives inside, also where the tests were started with it ignored, as shells start SIGINT's in the background."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number, raised", [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_run_that_is_asked_to_stop_saves_its_step_first(workdir, uninterrupted, monkeypatch, number, raised):
    asked, log_step = job(workdir, f"asked {number}", checkpoint_every=100), adapt_behind.log_step

    def stopped(of, record, step, metrics, videos):
        log_step(of, record, step, metrics, videos)
        if step == 3:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, not_ignored(number):
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
    late = job(workdir, "late")  # whose last step is none of every EVERY
    with monkeypatch.context() as patch:
        patch.setattr(adapt, "save_variables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt.run(late)
    adapt.run(late)
    assert f"goes on from the checkpoint of step {STEPS}" in late.log._terminal.getvalue()
    for once, resumed in zip(results(uninterrupted)[0], results(late)[0]):
        np.testing.assert_array_equal(resumed, once)
    assert results(late)[1:] == results(uninterrupted)[1:]


def test_a_damaged_encoder_is_written_anew_from_the_checkpoints(workdir, uninterrupted):
    """Which is what the message of one tells to do, by renaming the folder of the stage."""
    mended = job(workdir, "mended")
    shutil.copytree(uninterrupted.out, mended.out, dirs_exist_ok=True)
    for file in (mended.out / adapt.ENCODER).rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    adapt.run(mended)
    for once, again in zip(results(uninterrupted)[0], results(mended)[0]):
        np.testing.assert_array_equal(again, once)
    assert results(mended)[1:] == results(uninterrupted)[1:]


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_with_advice(workdir, loss):
    wild = job(workdir, "wild")
    advice = "the loss of step 3 is .*, on clips of street, yard: .*--config.adapt.learning_rate"
    with contextlib.closing(Record(wild.out, done=0)) as record, pytest.raises(WorkError, match=advice):
        adapt_behind.log_step(wild, record, 3, {"loss": float(loss)}, ["street", "yard"])


def test_of_processes_that_work_together_each_names_its_share(workdir, monkeypatch):
    monkeypatch.setattr(devices, "process", lambda: (1, 4))
    with pytest.raises(WorkError, match="on clips of street, yard, the share of process 1; the other 3 name theirs: try a lower"):
        adapt_behind.check_finite(job(workdir, "shared").config, 3, {"loss": float("nan")}, ["street", "yard"])


def test_without_steps_the_stage_is_left_out_and_says_why(workdir):
    idle = job(workdir, "idle", steps=0)
    adapt.run(idle)
    assert json.loads((idle.out / adapt.SUMMARY).read_text()) == {"adapted": False, "reason": "config.adapt.steps is 0"}


@pytest.mark.parametrize("part", [adapt.run, adapt.take_part])
def test_a_process_that_is_gone_before_the_first_step_is_said_to_be(workdir, monkeypatch, part):
    def gone(state: Any) -> Any:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        raise jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection closed by peer")

    monkeypatch.setattr(devices, "from_first_process", gone)
    with pytest.raises(WorkError, match="adapt: another of the processes that work together is gone, or cannot be reached .*closed by peer"):
        part(job(workdir, f"gone {part.__name__}"))


def test_a_batch_that_the_devices_cannot_share_is_refused(workdir):
    uneven = job(workdir, "uneven", batch=6)
    with uneven.config.unlocked():
        uneven.config.data.builder = "synthetic"
    anew = {"config": uneven.config, "workdir": workdir / "anew", "log": uneven.log}
    for refusing in (lambda: adapt.check_possible(uneven.config, workdir), lambda: pipeline.bring_up_to_date("adapt", **anew)):
        with pytest.raises(UsageError, match="config.adapt.batch is 6, expected a multiple of the 4 devices"):
            refusing()
    assert not (workdir / "anew" / "prepare.partial").exists()  # said before hours of decoding


def test_weights_that_the_last_step_broke_are_not_handed_on(workdir, uninterrupted, monkeypatch):
    """Its own loss is that of the weights before."""
    broken, made = job(workdir, "broken by the last"), adapt.make_program
    monkeypatch.setattr(adapt, "make_program", lambda *config, **options: breaking(*made(*config, **options)))
    with pytest.raises(WorkError, match="the last step left weights that are not finite: try a lower --config.adapt.learning_rate"):
        adapt.run(broken)
    assert not (broken.out / adapt.ENCODER).exists()


def breaking(step: Callable[..., Any], first: Any) -> tuple[Callable[..., Any], Any]:
    """A program whose last step leaves weights that are infinite."""
    def instead(state: Any, *more: Any) -> tuple[Any, Any]:
        state, metrics = step(state, *more)
        if int(devices.first(state.step)) == STEPS:
            state = state._replace(params=jax.tree.map(lambda x: x + np.inf, state.params))
        return state, metrics

    return instead, first


@pytest.mark.slow
def test_the_slow_average_is_handed_on_where_that_is_asked(workdir):
    """An average that keeps all of the first encoder is the first encoder."""
    slow = job(workdir, "slow", key_momentum=1.0, result="average", steps=2, accumulate=2, rate_batch=8)
    adapt.run(slow)
    found = load_variables(slow.out / adapt.ENCODER, pretrained_variables(slow.config))["params"]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(pretrained_variables(slow.config)["params"])):
        np.testing.assert_array_equal(a, b)
