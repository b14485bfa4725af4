"""meta_train: a start for a learner, from which few gradient steps on the support set suffice, learnt over other episodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.contracts import ContextFeatures, Episodes, Segment, in_words
from acx_jax.data import prepared
from acx_jax.data.feature_store import load_features
from acx_jax.data.meta_split import TRAIN, VALIDATION
from acx_jax.errors import WorkError
from acx_jax.fewshot import meta
from acx_jax.fewshot.episodes import class_labels
from acx_jax.fewshot.learner import Learner
from acx_jax.fewshot.ragged import ragged
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import Checkpoints, load_variables, save_variables
from acx_jax.runtime.files import write_json, write_text
from acx_jax.stages import meta_parts
from acx_jax.stages.embed import SETS
from acx_jax.stages.job import Job
from acx_jax.stages.learners import WAY, check_dimension, make_learner, seen_by

LEARNT, RANDOM = "meta", "meta_random"  # the rows of the evaluation: from the learnt start, and from a random one as far
SUMMARY, LOG = "summary.json", "log.jsonl"
LAST_LAYERS = ("classifier", "out")  # that ANIL moves


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


def run(job: Job) -> None:
    """Writes `<features>/start` (the best start on validation episodes), `<features>/log.jsonl` and `summary.json`."""
    if not job.config.meta.steps:
        job.log.info("meta_train: left out, config.meta.steps is 0")
        write_json(job.out / SUMMARY, {"trained": False})
        return
    segments = [s.segment for s in prepared.load(job.workdir / "prepare")[0] if s.segment.split == "evaluate"]
    features = {name: load_features(job.workdir / "embed" / name) for name in SETS if (job.workdir / "embed" / name).is_dir()}
    for given in features.values():
        check_dimension(job.config, given.vectors.shape[1])
    found = {name: _learn(job, name, given, segments) for name, given in features.items()}
    write_json(job.out / SUMMARY, {"trained": True, "features": found})


def learners_of(config: ConfigDict, workdir: Path, features_name: str, *, features: int) -> dict[str, Learner]:
    """What meta-training adds to an evaluation, by name: the learner from the learnt start, and the same from a random one."""
    learner, steps = make_learner(config.meta.learner, config, features=features), config.meta.fit_steps
    start = load_variables(workdir / "meta_train" / features_name / "start", _first_start(config, learner)._asdict())
    return {LEARNT: meta.from_start(learner, meta.Start(**start), steps=steps),
            RANDOM: meta.from_start(learner, None, steps=steps, rates=lambda params: _rates(config, params))}


def _learn(job: Job, name: str, features: ContextFeatures, segments: list[Segment]) -> dict[str, Any]:
    """Learns a start on one set of features. Returns what the summary says of it."""
    config, out = job.config, job.out / name
    out.mkdir(exist_ok=True)
    learner = make_learner(config.meta.learner, config, features=features.vectors.shape[1])
    seen = ragged(seen_by(config.meta.learner, config, features))
    tasks = _episodes(config, segments, TRAIN, count=config.meta.steps * config.meta.batch)
    held = _episodes(config, segments, VALIDATION, count=devices.round_up(config.meta.validation_episodes))
    nodes = int(seen.counts[np.concatenate([side.ravel() for drawn in (tasks, held) for side in (drawn.support, drawn.query)])].max())
    graphs, train, validation = devices.replicate(seen), _program(config, learner, nodes), _measure(config, learner, nodes)
    job.log.info(f"meta_train {name}: {config.meta.method} of {config.meta.learner}, {config.meta.steps} steps of {config.meta.batch} "
                 f"episodes, {config.episodes.shot}-shot {in_words(tasks.queries)}-query, {config.meta.inner_steps} inner steps")
    start = _first_start(config, learner)
    first = Run(meta.initial_state(start, _optimiser(config)), start, jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32))
    with closing(Checkpoints(out / "checkpoints", every=1)) as checkpoints:
        done = _run(job, name, _resumed(checkpoints, first, job, out), train, lambda at: validation(at, graphs, held), graphs, tasks,
                    checkpoints)
    save_variables(out / "start", done.best._asdict())
    return {"steps": int(done.state.step), "validation_loss": round(float(done.best_loss), 6)}


def _run(job: Job, name: str, at: Run, train: Callable, validate: Callable, graphs: Any, tasks: Episodes,
         checkpoints: Checkpoints) -> Run:
    """The outer steps that are left, validated every so often; stops early where validation no longer gets better."""
    own, log = job.config.meta, job.out / name / LOG
    with job.log.progress(f"meta_train {name}", own.steps, unit="steps", start=int(at.state.step)) as advance:
        while int(at.state.step) < own.steps and int(at.since) < own.patience:
            first = int(at.state.step)
            steps = min(own.validate_every, own.steps - first)
            state, losses = train(at.state, graphs, tasks, first, steps)
            loss, accuracy = validate(state.start)
            at = _judged(at, state, loss)
            line = {"step": first + steps, "loss": round(float(np.mean(losses)), 6), "validation_loss": round(loss, 6),
                    "validation_accuracy": round(accuracy, 6)}
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if not np.isfinite([line["loss"], loss]).all():
                raise WorkError(f"meta_train: the loss of step {first + steps} is {line['loss']}: try a lower --config.meta.inner_rate "
                                f"(it is {own.inner_rate}) or --config.meta.learning_rate (it is {own.learning_rate})")
            checkpoints.save(first + steps, lambda: at)
            advance(steps, f"loss {line['loss']:.3f}, validation {loss:.3f} (accuracy {accuracy:.3f})")
    if int(at.state.step) < own.steps:
        job.log.info(f"meta_train {name}: stopped at step {int(at.state.step)}: {own.patience} validations were no better")
    return at


def _judged(at: Run, state: meta.MetaState, loss: float) -> Run:
    if loss < float(at.best_loss):
        return Run(state, state.start, jnp.asarray(loss, jnp.float32), jnp.zeros((), jnp.int32))
    return Run(state, at.best, at.best_loss, at.since + 1)


def _resumed(checkpoints: Checkpoints, first: Run, job: Job, out: Path) -> Run:
    """Where the newest checkpoint stands, or the beginning; the log is cut back to it."""
    newest = checkpoints.restore_newest(first._asdict(), lambda line: job.log.info(f"meta_train: {line}"))
    at = first if newest is None else Run(**newest)
    lines = (out / LOG).read_text().splitlines() if (out / LOG).exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= int(at.state.step)]
    write_text(out / LOG, "".join(line + "\n" for line in kept))
    return at


def _first_start(config: ConfigDict, learner: Learner) -> meta.Start:
    params = jax.jit(learner.init)(randomness.stream(config.seed, "meta"))
    return meta.Start(params, _rates(config, params))


def _rates(config: ConfigDict, params: Any) -> Any:
    last_alone = config.meta.method == "anil"
    return meta.uniform_rates(params, config.meta.inner_rate,
                              moving=lambda path: not last_alone or any(name in path.split("/") for name in LAST_LAYERS))


def _optimiser(config: ConfigDict) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(config.meta.learning_rate))


def _program(config: ConfigDict, learner: Learner, nodes: int) -> Callable:
    """(state, graphs, episodes, first step, steps) -> state and the losses [steps]: a scan of outer steps on every device."""
    own, loss = config.meta, meta.classification_loss(learner)
    gradient = meta.reptile_gradient(loss, steps=own.inner_steps) if own.method == "reptile" else meta.gradient_through(
        loss, steps=own.inner_steps, first_order=own.method == "fomaml")
    step = meta.make_step(gradient, _optimiser(config), learn_rates=own.learn_rates, axis=devices.AXIS)

    def steps_of(state: Any, graphs: Any, support: jax.Array, query: jax.Array) -> tuple[Any, jax.Array]:
        labels = _labels(support, query)
        return jax.lax.scan(lambda state, drawn: step(state, meta.gather_tasks(graphs, *drawn, labels, nodes=nodes)), state, (support, query))

    mapped = devices.map_over_devices(steps_of)

    def program(state: meta.MetaState, graphs: Any, tasks: Episodes, first: int, steps: int) -> tuple[meta.MetaState, np.ndarray]:
        rows = slice(first * own.batch, (first + steps) * own.batch)
        drawn = [x[rows].reshape(steps, devices.count(), -1, x.shape[1]).swapaxes(0, 1) for x in (tasks.support, tasks.query)]
        state, losses = mapped(devices.replicate(state), graphs, *drawn)
        return devices.first(state), np.asarray(devices.first(losses))

    return program


def _measure(config: ConfigDict, learner: Learner, nodes: int) -> Callable[..., tuple[float, float]]:
    """(start, graphs, episodes) -> mean loss and accuracy on the queries after the inner loop."""
    loss = meta.classification_loss(learner)

    def one(start: meta.Start, task: meta.Task) -> tuple[jax.Array, jax.Array]:
        params = meta.inner_loop(loss, start, task.support, steps=config.meta.inner_steps)
        right = jnp.argmax(learner.logits(params, task.query.graphs), axis=-1) == task.query.labels
        return loss(params, task.query), jnp.mean(right)

    def of_share(start: meta.Start, graphs: Any, support: jax.Array, query: jax.Array) -> tuple[jax.Array, jax.Array]:
        tasks = meta.gather_tasks(graphs, support, query, _labels(support, query), nodes=nodes)
        return jax.tree.map(jnp.mean, jax.vmap(one, in_axes=(None, 0))(start, tasks))

    mapped = devices.map_over_devices(of_share)

    def measure(start: meta.Start, graphs: Any, episodes: Episodes) -> tuple[float, float]:
        values = mapped(devices.replicate(start), graphs, *devices.split((episodes.support, episodes.query)))
        return float(np.mean(values[0])), float(np.mean(values[1]))

    return measure


def _labels(support: jax.Array, query: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.asarray(class_labels(WAY, side.shape[-1] // WAY)) for side in (support, query))


def _episodes(config: ConfigDict, segments: list[Segment], part: str, *, count: int) -> Episodes:
    queries = meta_parts.feasible_queries(config, segments, part)
    return meta_parts.episodes_of(config, segments, part, count=count, queries=queries)
