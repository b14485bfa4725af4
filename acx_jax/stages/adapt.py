"""DAM, domain adaptation: contrastive training of the encoder on normal clips of the target's videos."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
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
from acx_jax.runtime.checkpoints import Checkpoints, mend, save_variables
from acx_jax.runtime.files import write_json
from acx_jax.runtime.stopping import deferred
from acx_jax.selfsup import training
from acx_jax.stages import adapt_probe, meta_parts
from acx_jax.stages.adapt_behind import Behind, check_finite, numbers
from acx_jax.stages.adapt_probe import Watch, make_probe
from acx_jax.stages.adapt_program import handed_on, make_program
from acx_jax.stages.adapt_record import OneBehind, Record, in_words
from acx_jax.stages.adapt_videos import check_negatives, in_words as videos_in_words, video_count
from acx_jax.stages.encoder import settings as encoder_settings
from acx_jax.stages.job import Job
from acx_jax.stages.training_words import handed_on as handed_on_in_words

SUMMARY, ENCODER, CHECKPOINTS = "summary.json", "encoder", "checkpoints"
Asked = Callable[[int], BaseException | None]


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on; how often it saves changes nothing in what it computes."""
    adapt = config.adapt.to_dict()
    adapt.pop("checkpoint_every")
    probe = {"probe": config.probe.to_dict()} | meta_parts.division(config) if config.probe.share else {}
    return {"seed": config.seed, "adapt": adapt, "encoder": encoder_settings(config)} | probe


def check_possible(config: ConfigDict, workdir: Path) -> None:
    """Raises UsageError where the devices cannot share a batch, or the prepared videos do not do for the objective or the probe."""
    clips = _clips(workdir)
    if _left_out(config, clips) is None:
        check_batch(config)
        check_negatives(config, clips)
        adapt_probe.check_possible(config, workdir)


def run(job: Job) -> None:
    """Trains, and leaves the adapted variables in `encoder`, `summary.json` and what `adapt_record` tells of the steps."""
    clips = _clips(job.workdir)
    if (reason := _left_out(job.config, clips)) is not None:
        job.log.info(f"adapt: left out, {reason}; features of one encoder will be evaluated")
        write_json(job.out / SUMMARY, {"adapted": False, "reason": reason})
        return
    variables, probed = _train(job, clips)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise WorkError(f"adapt: the last step left weights that are not finite: try a lower --config.adapt.learning_rate (it is "
                        f"{job.config.adapt.learning_rate}), and remove {job.out / CHECKPOINTS}")
    save_variables(job.out / ENCODER, variables)
    write_json(job.out / SUMMARY, {"adapted": True, "steps": job.config.adapt.steps, "videos": video_count(clips)} | probed)
    if probed or job.config.adapt.result != "trained":
        job.log.info(f"adapt: {handed_on_in_words(job.config.adapt.result, job.config.adapt.steps, probed.get('probe'))}")


def handed_on_any(stage: Path) -> bool:
    """Whether what `run` left in `stage` has variables. Raises WorkError where it does not say so."""
    try:
        return bool(json.loads((stage / SUMMARY).read_text())["adapted"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise WorkError(f"{stage / SUMMARY} is damaged ({type(error).__name__}: {error}): {mend(stage)}") from None


def take_part(job: Job) -> None:
    """The part of a process that joined another, which does `run`: its share of every batch. It writes nothing but its log."""
    clips = _clips(job.workdir)
    if (reason := _left_out(job.config, clips)) is not None:
        job.log.info(f"adapt: left out, {reason}")
        return
    step, state = _program(job.config, clips)
    late = OneBehind(lambda number, metrics, videos: check_finite(job.config, number, numbers(metrics), videos))

    def after(number: int, state: training.AdaptState, metrics: dict[str, Any], videos: list[str], asked_to_stop: Asked) -> BaseException | None:
        late.put(number, metrics, videos)
        return asked_to_stop(number)

    _run_steps(job, clips, step, _shared(state), after)


def _clips(workdir: Path) -> list[StoredSegment]:
    stored, _ = prepared.load(workdir / "prepare")
    return [s for s in stored if s.segment.split == "adapt"]


def _left_out(config: ConfigDict, clips: list[StoredSegment]) -> str | None:
    """Why there is nothing to do; None where there is."""
    if config.data.builder == "features":
        return "the features are given and no encoder is at hand"
    if config.adapt.steps == 0:
        return "config.adapt.steps is 0"
    return None if clips else "no video is left to adapt on"


def _train(job: Job, clips: list[StoredSegment]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables of the encoder to hand on, and what a probe found."""
    step, state = _program(job.config, clips)
    probe = make_probe(job)
    with closing(Checkpoints(job.out / CHECKPOINTS, every=job.config.adapt.checkpoint_every)) as checkpoints:
        state = _shared(_resumed(checkpoints, state, job))
        job.log.info(f"adapt: {videos_in_words(job.config, clips)}; the first step compiles")
        with closing(Record(job.out, done=int(state.step))) as record:
            watch = Watch(job, probe, record) if probe else None
            state = _train_on(job, clips, step, state, checkpoints, record, watch)
    variables = handed_on(state, job.config)
    if watch is None:
        return variables, {}
    return watch.variables(variables) if job.config.adapt.result == "best" else variables, {"probe": watch.summary()}


def _shared(state: training.AdaptState) -> training.AdaptState:
    """That of process 0, in every process."""
    with devices.others_may_go("adapt"):
        return devices.from_first_process(state)


def _train_on(job: Job, clips: list[StoredSegment], step: Any, state: training.AdaptState, checkpoints: Checkpoints, record: Record,
              watch: Watch | None) -> training.AdaptState:
    """The steps that `state` has not done yet, told of, watched and kept."""
    if watch and watch.due(int(state.step)):
        watch.look(int(state.step), handed_on(state, job.config))
    with job.log.progress("adapt", job.config.adapt.steps, unit="steps", start=int(state.step)) as advance:
        behind = Behind(job, advance, checkpoints=checkpoints, record=record, watch=watch)
        state = _run_steps(job, clips, step, state, behind, behind.pace.batches)
    if (rates := behind.speed.whole()) is not None:
        job.log.info(f"adapt: {in_words(rates)}")
    return state


def _run_steps(job: Job, clips: list[StoredSegment], step: Any, state: training.AdaptState, after: Callable[..., BaseException | None],
               watched: Callable[[Iterator[Clips]], Iterator[Clips]] = iter) -> training.AdaptState:
    """The steps that `state` has not done yet. after(number, state, metrics, videos, asked_to_stop) is called behind each and gives what to
    raise, None mostly. watched: looks on as batches are asked for."""
    config, done = job.config, int(state.step)
    key, names = randomness.stream(config.seed, "adapt"), video_names(clips, config.data.clip_frames)
    state, feed = devices.replicate(state), _feed(job, clips, start_step=done)
    with deferred(devices.process()[1]) as asked_to_stop, devices.others_may_go("adapt"):
        for number, batch in enumerate(watched(feed), done + 1):
            state, metrics = step(state, devices.split(Clips(*map(np.asarray, batch))), key)
            stop = after(number, state, metrics, [names[i] for i in np.unique(batch.video)], asked_to_stop)
            if stop is not None:
                job.log.info(f"adapt: asked to stop, step {number} is saved")
                raise stop
    return devices.first(state)


def _feed(job: Job, clips: list[StoredSegment], *, start_step: int) -> Iterator[Clips]:
    config, adapt = job.config, job.config.adapt
    return clips_feed(job.workdir / "prepare", clips, length=config.data.clip_frames, batch=adapt.batch, steps=adapt.steps,
                      seed=config.seed, negative=adapt.negative, square="squeeze" if adapt.crop == "squeeze" else "random",
                      start_step=start_step, process=Process(*devices.process()))


def _program(config: ConfigDict, clips: list[StoredSegment]) -> tuple[Any, training.AdaptState]:
    return make_program(config, batches_of_an_epoch=max(video_count(clips) // config.adapt.batch, 1))


def check_batch(config: ConfigDict) -> None:
    """Raises UsageError where the devices cannot share a batch equally."""
    if config.adapt.steps and config.data.builder != "features" and config.adapt.batch % devices.everywhere():
        raise UsageError(f"config.adapt.batch is {config.adapt.batch}, expected a multiple of the {devices.everywhere()} devices")


def _resumed(checkpoints: Checkpoints, state: training.AdaptState, job: Job) -> training.AdaptState:
    """The newest checkpointed state that can be read, or the first one."""
    newest = checkpoints.restore_newest(state, lambda line: job.log.info(f"adapt: {line}"))
    if newest is None:
        return state
    job.log.info(f"adapt: goes on from the checkpoint of step {int(newest.step)}")
    return newest
