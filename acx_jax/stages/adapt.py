"""DAM, domain adaptation: contrastive training of the encoder on normal clips of the target's videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.contracts import Clips, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.feeds import Process, clips_feed, video_names
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import Checkpoints, save_variables
from acx_jax.runtime.files import write_json
from acx_jax.runtime.pace import Pace
from acx_jax.runtime.peak import matrix_rate
from acx_jax.runtime.stopping import deferred
from acx_jax.selfsup import training
from acx_jax.stages.adapt_program import make_program, step_flops
from acx_jax.stages.adapt_record import LOG, SPEED, OneBehind, Record, Speed, in_words
from acx_jax.stages.encoder import settings as encoder_settings
from acx_jax.stages.job import Job

SUMMARY, ENCODER = "summary.json", "encoder"


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on; how often it saves changes nothing in what it computes."""
    adapt = config.adapt.to_dict()
    adapt.pop("checkpoint_every")
    return {"seed": config.seed, "adapt": adapt, "encoder": encoder_settings(config)}


def run(job: Job) -> None:
    """Trains, and leaves the adapted variables in `encoder`, `summary.json` and what `adapt_record` tells of the steps."""
    clips = _clips(job)
    if (reason := _left_out(job.config, clips)) is not None:
        job.log.info(f"adapt: left out, {reason}; features of one encoder will be evaluated")
        write_json(job.out / SUMMARY, {"adapted": False, "reason": reason})
        return
    state = _train(job, clips)
    slow = job.config.adapt.result == "average"
    params, statistics = (state.key_params, state.key_statistics) if slow else (state.params, state.statistics)
    save_variables(job.out / ENCODER, {"params": params["encoder"], "batch_stats": statistics})
    write_json(job.out / SUMMARY, {"adapted": True, "steps": job.config.adapt.steps, "videos": _video_count(clips)})


def take_part(job: Job) -> None:
    """The part of a process that joined another, which does `run`: its share of every batch. It writes nothing but its log."""
    clips = _clips(job)
    if (reason := _left_out(job.config, clips)) is not None:
        job.log.info(f"adapt: left out, {reason}")
        return
    step, state = _program(job.config, clips)

    def take(number: int, metrics: dict[str, Any], videos: list[str]) -> None:
        _check_finite(job.config, number, _numbers(metrics), videos)

    _run_steps(job, clips, step, devices.from_first_process(state), take=take)


def _clips(job: Job) -> list[StoredSegment]:
    stored, _ = prepared.load(job.workdir / "prepare")
    return [s for s in stored if s.segment.split == "adapt"]


def _left_out(config: ConfigDict, clips: list[StoredSegment]) -> str | None:
    """Why there is nothing to do; None where there is."""
    if config.data.builder == "features":
        return "the features are given and no encoder is at hand"
    if config.adapt.steps == 0:
        return "config.adapt.steps is 0"
    return None if clips else "no video is left to adapt on"


def _train(job: Job, clips: list[StoredSegment]) -> training.AdaptState:
    step, state = _program(job.config, clips)
    with closing(Checkpoints(job.out / "checkpoints", every=job.config.adapt.checkpoint_every)) as checkpoints:
        state = devices.from_first_process(_resumed(checkpoints, state, job))
        _say_start(job, clips)
        with closing(Record(job.out, done=int(state.step))) as record:
            return _train_on(job, clips, step, state, checkpoints, record)


def _train_on(job: Job, clips: list[StoredSegment], step: Any, state: training.AdaptState, checkpoints: Checkpoints,
              record: Record) -> training.AdaptState:
    """The steps that `state` has not done yet, told of and kept."""
    newest: dict[str, Any] = {}
    pace = Pace(busy=lambda: not all(value.is_ready() for value in jax.tree.leaves(newest)))
    speed = _speed(job.config, pace, newest)
    with job.log.progress("adapt", job.config.adapt.steps, unit="steps", start=int(state.step)) as advance:
        take = partial(_take_step, job, record, speed, advance)
        state = _run_steps(job, clips, step, state, take=take, checkpoints=checkpoints, pace=pace, newest=newest)
    if (rates := speed.whole()) is not None:
        job.log.info(f"adapt: {in_words(rates)}")
    return state


def _run_steps(job: Job, clips: list[StoredSegment], step: Any, state: training.AdaptState, *, take: Callable[..., None],
               checkpoints: Checkpoints | None = None, pace: Pace | None = None, newest: dict[str, Any] | None = None) -> training.AdaptState:
    """The steps that `state` has not done yet. take(number, metrics, videos) gets what came of each, one late; `newest` the metrics at once."""
    config, steps, done = job.config, job.config.adapt.steps, int(state.step)
    key, names = randomness.stream(config.seed, "adapt"), video_names(clips, config.data.clip_frames)
    state, late = devices.replicate(state), OneBehind(take)
    feed = _feed(job, clips, start_step=done)
    with deferred(devices.process()[1]) as asked_to_stop, _others_may_go():
        for number, batch in enumerate(pace.batches(feed) if pace else feed, done + 1):
            state, metrics = step(state, devices.split(Clips(*map(np.asarray, batch))), key)
            if newest is not None:
                newest["metrics"] = metrics
            late.put(number, metrics, [names[i] for i in np.unique(batch.video)])
            stop = asked_to_stop(number)
            if stop is not None or number == steps or (checkpoints and checkpoints.due(number)):
                late.flush()  # what is saved was found to be finite
            if checkpoints:
                checkpoints.save(number, lambda: devices.first(state), now=stop is not None)
            if stop is not None:
                job.log.info(f"adapt: asked to stop, step {number} is saved")
                raise stop
    return devices.first(state)


@contextmanager
def _others_may_go() -> Iterator[None]:
    """Raises WorkError where a process that trains with this one is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if devices.process()[1] == 1:
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise WorkError(f"adapt: another of the processes that train together is gone, or cannot be reached ({reason}): start all of them "
                        "again, and they go on from the newest checkpoint") from error


def _feed(job: Job, clips: list[StoredSegment], *, start_step: int) -> Iterator[Clips]:
    config, adapt = job.config, job.config.adapt
    return clips_feed(job.workdir / "prepare", clips, length=config.data.clip_frames, batch=adapt.batch, steps=adapt.steps,
                      seed=config.seed, negative=adapt.negative, square="squeeze" if adapt.crop == "squeeze" else "random",
                      start_step=start_step, process=Process(*devices.process()))


def _take_step(job: Job, record: Record, speed: Speed, advance: Any, number: int, metrics: dict[str, Any], videos: list[str]) -> None:
    """Notes what came of a step."""
    values = _numbers(metrics)
    _log_step(job, record, number, values, videos)
    if (rates := speed.step()) is not None:
        record.add(SPEED, {"step": number} | rates)
    advance(1, f"loss {values['loss']:.3f}")


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in metrics.items()}


def _speed(config: ConfigDict, pace: Pace, newest: dict[str, Any]) -> Speed:
    def peak() -> float:
        jax.block_until_ready(newest)
        return devices.process()[1] * matrix_rate(config.encoder.dtype)  # of processes on machines alike

    return Speed(pace, clips=config.adapt.batch, flops=step_flops(config), peak=peak)


def _program(config: ConfigDict, clips: list[StoredSegment]) -> tuple[Any, training.AdaptState]:
    _check_batch(config.adapt.batch)
    return make_program(config, batches_of_an_epoch=max(_video_count(clips) // config.adapt.batch, 1))


def _check_batch(batch: int) -> None:
    if batch % devices.everywhere():
        raise UsageError(f"config.adapt.batch is {batch}, expected a multiple of the {devices.everywhere()} devices")


def _resumed(checkpoints: Checkpoints, state: training.AdaptState, job: Job) -> training.AdaptState:
    """The newest checkpointed state that can be read, or the first one."""
    newest = checkpoints.restore_newest(state, lambda line: job.log.info(f"adapt: {line}"))
    if newest is None:
        return state
    job.log.info(f"adapt: goes on from the checkpoint of step {int(newest.step)}")
    return newest


def _log_step(job: Job, record: Record, step: int, metrics: dict[str, float], videos: list[str]) -> None:
    record.add(LOG, {"step": step} | metrics)
    _check_finite(job.config, step, metrics, videos)


def _check_finite(config: ConfigDict, step: int, metrics: dict[str, float], videos: list[str]) -> None:
    if not np.isfinite(metrics["loss"]):
        raise WorkError(f"adapt: the loss of step {step} is {metrics['loss']}, on clips of {', '.join(videos)}: try a lower "
                        f"--config.adapt.learning_rate (it is {config.adapt.learning_rate}), or leave those videos out with "
                        "--config.data.exclude")


def _say_start(job: Job, clips: list[StoredSegment]) -> None:
    videos, adapt = _video_count(clips), job.config.adapt
    few = "; fewer videos than the batch, so a batch holds several clips of one" if videos < adapt.batch else ""
    job.log.info(f"adapt: {adapt.steps} steps of {adapt.batch} clips from {len(clips)} normal segments of {videos} videos{few}; "
                 "the first step compiles")


def _video_count(clips: list[StoredSegment]) -> int:
    return len({s.segment.video for s in clips})
