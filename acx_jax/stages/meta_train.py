"""meta_train: a start for a learner, from which few gradient steps on the support set suffice, learnt over other episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import ContextFeatures, Episodes, Segment, in_words
from acx_jax.data import prepared
from acx_jax.data.meta_split import TRAIN, VALIDATION
from acx_jax.errors import WorkError
from acx_jax.fewshot import meta
from acx_jax.fewshot.learner import Learner
from acx_jax.fewshot.ragged import ragged
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import Checkpoints, load_variables, save_variables
from acx_jax.runtime.files import write_json
from acx_jax.runtime.stopping import deferred
from acx_jax.stages import meta_parts, meta_program
from acx_jax.stages.embed import load_sets
from acx_jax.stages.job import Job
from acx_jax.stages.learners import check_dimension, make_learner, seen_by
from acx_jax.stages.resuming import resumed

LEARNT, RANDOM = "meta", "meta_random"  # the rows of the evaluation: from the learnt start, and from a random one as far
SUMMARY, LOG = "summary.json", "log.jsonl"
SCANNED = 10  # outer steps at most in one scan, behind which a run may be stopped


class Run(NamedTuple):
    """Where a meta-training stands: the outer state, the best start so far with its loss on validation episodes, and the
    validations since then."""

    state: meta.MetaState
    best: meta.Start
    best_loss: jax.Array
    since: jax.Array


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on."""
    own = config.meta.to_dict()
    own.pop("fit_steps")
    learner = config.learners.to_dict()
    return {"seed": config.seed, "meta": own, "shot": config.episodes.shot, "protocol": config.episodes.protocol,
            "learner": {"pool": learner["pool"]} | learner[config.meta.learner]} | (meta_parts.division(config) if config.probe.share else {}) if config.meta.steps else {"meta": None}


def check_possible(config: ConfigDict, workdir: Path) -> None:
    """Raises UsageError where a learner cannot be fitted on the embedded vectors."""
    for given in load_sets(workdir).values() if config.meta.steps else ():
        check_dimension(config, given.vectors.shape[1])


def run(job: Job) -> None:
    """Writes `<features>/start` (the best start on validation episodes), `<features>/log.jsonl` and `summary.json`."""
    if not job.config.meta.steps:
        job.log.info("meta_train: left out, config.meta.steps is 0")
        write_json(job.out / SUMMARY, {"trained": False})
        return
    segments = [s.segment for s in prepared.load(job.workdir / "prepare")[0] if s.segment.split == "evaluate"]
    features = load_sets(job.workdir)
    found = {name: _learn(job, name, given, segments) for name, given in features.items()}
    write_json(job.out / SUMMARY, {"trained": True, "features": found})


def learners_of(config: ConfigDict, workdir: Path, features_name: str, *, features: int) -> dict[str, Learner]:
    """What meta-training adds to an evaluation, by name: the learner from the learnt start, and the same from a random one."""
    learner, steps = make_learner(config.meta.learner, config, features=features), config.meta.fit_steps
    like, stage = meta_program.first_start(config, learner)._asdict(), workdir / "meta_train"
    start = load_variables(stage / features_name / "start", like, stage=stage)
    return {LEARNT: meta.from_start(learner, meta.Start(**start), steps=steps),
            RANDOM: meta.from_start(learner, None, steps=steps, rates=lambda params: meta_program.rates(config, params))}


def _learn(job: Job, name: str, features: ContextFeatures, segments: list[Segment]) -> dict[str, Any]:
    """Learns a start on one set of features. Returns what the summary says of it."""
    config, out = job.config, job.out / name
    out.mkdir(exist_ok=True)
    learner = make_learner(config.meta.learner, config, features=features.vectors.shape[1])
    seen = ragged(seen_by(config.meta.learner, config, features))
    tasks = _episodes(config, segments, TRAIN, count=config.meta.steps * config.meta.batch)
    held = _episodes(config, segments, VALIDATION, count=devices.round_up(config.meta.validation_episodes))
    nodes = int(seen.counts[np.concatenate([side.ravel() for drawn in (tasks, held) for side in (drawn.support, drawn.query)])].max())
    train, validation = meta_program.make_program(config, learner, nodes=nodes), meta_program.make_measure(config, learner, nodes=nodes)
    graphs = devices.replicate(seen)
    job.log.info(f"meta_train {name}: {config.meta.method} of {config.meta.learner}, {config.meta.steps} steps of {config.meta.batch} "
                 f"episodes, {config.episodes.shot}-shot {in_words(tasks.queries)}-query, {config.meta.inner_steps} inner steps")
    start = meta_program.first_start(config, learner)
    first = Run(meta.initial_state(start, meta_program.optimiser(config)), start, jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32))
    with closing(Checkpoints(out / "checkpoints", every=1)) as checkpoints:
        at = resumed(checkpoints, first, lines=out / LOG, what=f"meta_train {name}", log=job.log)
        done = _run(job, name, at, train, lambda at: validation(at, graphs, held), graphs, tasks, checkpoints)
    save_variables(out / "start", done.best._asdict())
    return {"steps": int(done.state.step), "validation_loss": round(float(done.best_loss), 6)}


def _run(job: Job, name: str, at: Run, train: Callable, validate: Callable, graphs: Any, tasks: Episodes,
         checkpoints: Checkpoints) -> Run:
    """The outer steps that are left, validated every so often; stops early where validation no longer gets better."""
    own, start = job.config.meta, int(at.state.step)
    with job.log.progress(f"meta_train {name}", own.steps, unit="steps", start=start) as advance, deferred() as asked_to_stop:
        for first, number in _scans(own, start):
            if int(at.since) >= own.patience:
                job.log.info(f"meta_train {name}: stopped at step {first}: {own.patience} validations were no better")
                break
            state, losses = train(at.state, graphs, tasks, first, number - first)
            at, line = at._replace(state=state), {"step": number, "loss": round(float(np.mean(losses)), 6)}
            if number % own.validate_every == 0 or number == own.steps:
                at, judged = _validated(at, validate)
                line |= judged
            _log(job, name, line)
            stop = asked_to_stop(number)
            if "validation_loss" in line or stop is not None:
                checkpoints.save(number, lambda: at, now=stop is not None)
            advance(number - first, _told(line))
            if stop is not None:
                job.log.info(f"meta_train {name}: asked to stop, step {number} is saved")
                raise stop
    return at


def _scans(own: ConfigDict, start: int) -> Iterator[tuple[int, int]]:
    """(steps before, steps behind) of each scan that is left: as long as divides `validate_every`, for one compiled program, but for the last."""
    length = max(n for n in range(1, SCANNED + 1) if own.validate_every % n == 0)
    return ((first, min(first + length, own.steps)) for first in range(start, own.steps, length))


def _validated(at: Run, validate: Callable) -> tuple[Run, dict[str, float]]:
    """The run with the judgement of its start on the validation episodes."""
    loss, accuracy = validate(at.state.start)
    judged = {"validation_loss": round(loss, 6), "validation_accuracy": round(accuracy, 6)}
    if loss < float(at.best_loss):
        return Run(at.state, at.state.start, jnp.asarray(loss, jnp.float32), jnp.zeros((), jnp.int32)), judged
    return at._replace(since=at.since + 1), judged


def _log(job: Job, name: str, line: dict[str, float]) -> None:
    with (job.out / name / LOG).open("a") as file:
        file.write(json.dumps(line) + "\n")
    if not np.isfinite(list(line.values())).all():
        own = job.config.meta
        raise WorkError(f"meta_train: the loss of step {line['step']} is {line['loss']}: try a lower --config.meta.inner_rate "
                        f"(it is {own.inner_rate}) or --config.meta.learning_rate (it is {own.learning_rate})")


def _told(line: dict[str, float]) -> str:
    judged = f", validation {line['validation_loss']:.3f} (accuracy {line['validation_accuracy']:.3f})" if "validation_loss" in line else ""
    return f"loss {line['loss']:.3f}{judged}"


def _episodes(config: ConfigDict, segments: list[Segment], part: str, *, count: int) -> Episodes:
    queries = meta_parts.feasible_queries(config, segments, part)
    return meta_parts.episodes_of(config, segments, part, count=count, queries=queries)
