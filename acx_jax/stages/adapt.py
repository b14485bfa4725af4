"""DAM, domain adaptation: contrastive training of the encoder on normal clips of the target's videos."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.contracts import Clips, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.feeds import clips_feed, video_names
from acx_jax.errors import UsageError, WorkError
from acx_jax.models.encoders import ENCODERS, trainable
from acx_jax.models.operations import training_flops
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import Checkpoints, save_variables
from acx_jax.runtime.files import write_json
from acx_jax.runtime.pace import Pace
from acx_jax.runtime.peak import matrix_rate
from acx_jax.runtime.stopping import deferred
from acx_jax.selfsup import projection, schemes, training
from acx_jax.selfsup.memory import Queue, empty_queue, uniform_queue
from acx_jax.selfsup.optimisers import learning_rate, make_optimiser, scaled_rate
from acx_jax.selfsup.views import ViewOptions
from acx_jax.stages.adapt_record import LOG, SPEED, OneBehind, Record, Speed, in_words
from acx_jax.stages.encoder import compute_dtype, pretrained_variables, settings as encoder_settings
from acx_jax.stages.job import Job

SUMMARY, ENCODER = "summary.json", "encoder"


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on; how often it saves changes nothing in what it computes."""
    adapt = config.adapt.to_dict()
    adapt.pop("checkpoint_every")
    return {"seed": config.seed, "adapt": adapt, "encoder": encoder_settings(config)}


def run(job: Job) -> None:
    """Trains, and leaves the adapted variables in `encoder`, `summary.json` and what `adapt_record` tells of the steps."""
    stored, _ = prepared.load(job.workdir / "prepare")
    clips = [s for s in stored if s.segment.split == "adapt"]
    if job.config.data.builder == "features":
        job.log.info("adapt: not applicable, the features are given and no encoder is at hand")
        write_json(job.out / SUMMARY, {"adapted": False, "reason": "the features are given"})
        return
    if job.config.adapt.steps == 0 or not clips:
        reason = "config.adapt.steps is 0" if job.config.adapt.steps == 0 else "no video is left to adapt on"
        job.log.info(f"adapt: left out, {reason}; only pretrained features will be evaluated")
        write_json(job.out / SUMMARY, {"adapted": False, "reason": reason})
        return
    state = _train(job, clips)
    slow = job.config.adapt.result == "average"
    params, statistics = (state.key_params, state.key_statistics) if slow else (state.params, state.statistics)
    save_variables(job.out / ENCODER, {"params": params["encoder"], "batch_stats": statistics})
    videos = len({s.segment.video for s in clips})
    write_json(job.out / SUMMARY, {"adapted": True, "steps": job.config.adapt.steps, "videos": videos})


def _train(job: Job, clips: list[StoredSegment]) -> training.AdaptState:
    config, adapt = job.config, job.config.adapt
    _check_batch(adapt.batch)
    step, state = _program(config, batches_of_an_epoch=max(len({s.segment.video for s in clips}) // adapt.batch, 1))
    with closing(Checkpoints(job.out / "checkpoints", every=adapt.checkpoint_every)) as checkpoints:
        state = _resumed(checkpoints, state, job)
        with closing(Record(job.out, done=int(state.step))) as record:
            return _run_steps(job, clips, step, state, checkpoints, record)


def _run_steps(job: Job, clips: list[StoredSegment], step: Any, state: training.AdaptState, checkpoints: Checkpoints,
               record: Record) -> training.AdaptState:
    """The steps that `state` has not done yet."""
    config, adapt, done = job.config, job.config.adapt, int(state.step)
    feed = clips_feed(job.workdir / "prepare", clips, length=config.data.clip_frames, batch=adapt.batch, steps=adapt.steps,
                      seed=config.seed, negative=adapt.negative, square="squeeze" if adapt.crop == "squeeze" else "random", start_step=done)
    state, key, names = devices.replicate(state), randomness.stream(config.seed, "adapt"), video_names(clips, config.data.clip_frames)
    _say_start(job, clips)
    newest: dict[str, Any] = {}
    pace = Pace(busy=lambda: not all(value.is_ready() for value in jax.tree.leaves(newest)))
    speed = _speed(config, pace, newest)
    with job.log.progress("adapt", adapt.steps, unit="steps", start=done) as advance, deferred() as asked_to_stop:
        late = OneBehind(partial(_take_step, job, record, speed, advance))
        for number, batch in enumerate(pace.batches(feed), done + 1):
            state, newest["metrics"] = step(state, devices.split(Clips(*map(np.asarray, batch))), key)
            late.put(number, newest["metrics"], [names[i] for i in np.unique(batch.video)])
            stop = asked_to_stop()
            if stop is not None or number == adapt.steps or checkpoints.due(number):
                late.flush()  # what is saved was found to be finite
            checkpoints.save(number, lambda: devices.first(state), now=stop is not None)
            if stop is not None:
                job.log.info(f"adapt: asked to stop, step {number} is saved")
                raise stop
    if (rates := speed.whole()) is not None:
        job.log.info(f"adapt: {in_words(rates)}")
    return devices.first(state)


def _take_step(job: Job, record: Record, speed: Speed, advance: Any, number: int, metrics: dict[str, Any], videos: list[str]) -> None:
    """Notes what came of a step."""
    values = {name: float(value[0]) for name, value in metrics.items()}
    _log_step(job, record, number, values, videos)
    if (rates := speed.step()) is not None:
        record.add(SPEED, {"step": number} | rates)
    advance(1, f"loss {values['loss']:.3f}")


def _speed(config: ConfigDict, pace: Pace, newest: dict[str, Any]) -> Speed:
    adapt, crop = config.adapt, config.encoder.crop
    shape, scheme = (adapt.batch, config.data.clip_frames, crop, crop, 3), _scheme(adapt, 1)
    flops = training_flops(ENCODERS[config.encoder.arch], shape, trained=len(scheme.trained), frozen=adapt.freeze or None,
                           forward=int(schemes.POSITIVE not in scheme.trained))

    def peak() -> float:
        jax.block_until_ready(newest)
        return matrix_rate(config.encoder.dtype)

    return Speed(pace, clips=adapt.batch, flops=flops, peak=peak)


def _program(config: ConfigDict, *, batches_of_an_epoch: int) -> tuple[Any, training.AdaptState]:
    """The compiled step and the state it starts from."""
    adapt, spec = config.adapt, ENCODERS[config.encoder.arch]
    variables = pretrained_variables(config)
    head = projection.init_head(randomness.stream(config.seed, "projection"), inputs=spec.feature_dim, outputs=adapt.projection)
    frozen = adapt.freeze or None
    params = {"encoder": variables["params"], "head": head}
    trained = {"encoder": trainable(spec, params["encoder"], frozen), "head": True}
    optimiser = make_optimiser(params, trained, name=adapt.optimiser, rate=_rate(adapt), momentum=adapt.momentum,
                               decay=adapt.weight_decay, decay_norms=adapt.decay_norms, accumulate=adapt.accumulate)
    scheme = _scheme(adapt, batches_of_an_epoch)
    project = projection.make_projection(spec, dtype=compute_dtype(config), axis=devices.AXIS, train_norm=adapt.train_norm, frozen=frozen,
                                         shared_norm=adapt.shared_norm, unit=scheme.unit)
    state = training.initial_state(params, variables["batch_stats"], optimiser, _queue(config))
    options = ViewOptions(config.encoder.crop, adapt.crop, adapt.jitter, adapt.warp, flip=adapt.flip, blur=adapt.blur, grey=adapt.grey,
                          temporal_jitter=adapt.temporal_jitter)
    step = training.make_step(project, optimiser, scheme, options=options,
                              key_momentum=adapt.key_momentum, axis=devices.AXIS, remat=adapt.remat)
    return devices.map_over_devices(step, in_axes=(0, 0, None), donate=(0,)), state


def _queue(config: ConfigDict) -> Queue:
    size, dimension = config.adapt.queue, config.adapt.projection
    if config.adapt.queue_start == "empty":
        return empty_queue(size, dimension)
    return uniform_queue(randomness.stream(config.seed, "queue"), size, dimension)


def _scheme(adapt: ConfigDict, batches_of_an_epoch: int) -> schemes.Scheme:
    """The objective; the published loss takes the number of batches of an epoch for the number of data."""
    if adapt.objective == "triplet":
        return schemes.triplets(margin=adapt.margin)
    if adapt.objective == "vicreg":
        return schemes.vicreg()
    broken = () if adapt.motion_broken == "none" else (schemes.BROKEN,)
    negatives = (schemes.NEGATIVE, *broken) if adapt.objective == "dsm" else ()
    return schemes.contrastive(negatives=negatives, warp=adapt.objective == "dsm", broken=adapt.motion_broken, loss=adapt.loss,
                               temperature=adapt.temperature, n_data=batches_of_an_epoch, exclude_own=adapt.exclude_own)


def _rate(adapt: ConfigDict) -> optax.Schedule:
    peak = scaled_rate(adapt.learning_rate, batch=adapt.batch * adapt.accumulate, per=adapt.rate_batch)
    return learning_rate(adapt.schedule, peak=peak, steps=-(-adapt.steps // adapt.accumulate), warmup=adapt.warmup)


def _check_batch(batch: int) -> None:
    if batch % devices.count():
        raise UsageError(f"config.adapt.batch is {batch}, expected a multiple of the {devices.count()} devices")


def _resumed(checkpoints: Checkpoints, state: training.AdaptState, job: Job) -> training.AdaptState:
    """The newest checkpointed state that can be read, or the first one."""
    newest = checkpoints.restore_newest(state, lambda line: job.log.info(f"adapt: {line}"))
    if newest is None:
        return state
    job.log.info(f"adapt: goes on from the checkpoint of step {int(newest.step)}")
    return newest


def _log_step(job: Job, record: Record, step: int, metrics: dict[str, float], videos: list[str]) -> None:
    record.add(LOG, {"step": step} | metrics)
    if not np.isfinite(metrics["loss"]):
        raise WorkError(f"adapt: the loss of step {step} is {metrics['loss']}, on clips of {', '.join(videos)}: try a lower "
                        f"--config.adapt.learning_rate (it is {job.config.adapt.learning_rate}), or leave those videos out with "
                        "--config.data.exclude")


def _say_start(job: Job, clips: list[StoredSegment]) -> None:
    videos, adapt = len({s.segment.video for s in clips}), job.config.adapt
    few = "; fewer videos than the batch, so a batch holds several clips of one" if videos < adapt.batch else ""
    job.log.info(f"adapt: {adapt.steps} steps of {adapt.batch} clips from {len(clips)} normal segments of {videos} videos{few}; "
                 "the first step compiles")
