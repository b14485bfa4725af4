"""meta_train of a source run: the encoder itself, trained end to end on episodes of source classes, such as those of Kinetics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.contracts import ClassEpisodes, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.class_feed import Videos, episodes_feed, source_classes, split_classes
from acx_jax.errors import UsageError, WorkError
from acx_jax.fewshot import baselines, closed_form, episodic
from acx_jax.fewshot.learner import Learner
from acx_jax.models.encoders import normalise, trainable
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import Checkpoints, save_variables
from acx_jax.runtime.files import write_json
from acx_jax.runtime.stopping import deferred
from acx_jax.stages.encoder import compute_dtype, pretrained_variables, settings as encoder_settings, spec_of, taken_over
from acx_jax.stages.job import Job
from acx_jax.stages.resuming import resumed

LOG, SUMMARY, ENCODER = "log.jsonl", "summary.json", "encoder"


class Run(NamedTuple):
    """Where the training stands: the state, the best params and statistics so far with their validation loss, validations since."""

    state: episodic.EncoderState
    best: Any
    best_loss: jax.Array
    since: jax.Array


class Program(NamedTuple):
    """step(state, episodes, key) -> (state, metrics) and measure(params, statistics, episodes) -> (loss, accuracy), over devices."""

    step: Callable[..., Any]
    measure: Callable[..., Any]


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on."""
    head = {key: config.learners[key].to_dict() for key in ("proto_temperature", "ridge", "r2d2", "svm")}
    return {"seed": config.seed, "source": config.source.to_dict(), "encoder": encoder_settings(config),
            "head": head.get(config.source.head, {})}


def check_possible(config: ConfigDict, workdir: Path) -> None:
    """Raises UsageError when the prepared classes are too few, or episodes cannot be shared by the devices."""
    _classes(config, prepared.load(workdir / "prepare")[0])
    if config.source.batch % devices.count():
        raise UsageError(f"config.source.batch is {config.source.batch}, expected a multiple of the {devices.count()} devices")


def run(job: Job) -> None:
    """Leaves the encoder that is best on validation episodes in `encoder`, one line a step in `log.jsonl`, and `summary.json`."""
    config = job.config
    train, held = _classes(config, prepared.load(job.workdir / "prepare")[0])
    program, state = _program(config)
    best = {"params": state.params["encoder"], "batch_stats": state.statistics}
    first = Run(state, best, jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32))
    job.log.info(f"meta_train: the encoder, {config.source.steps} steps of {config.source.batch} episodes, {config.source.way}-way {config.source.shot}-shot "
                 f"{config.source.query}-query with {config.source.head}, on {len(train)} classes; {len(held)} others validate; the first step compiles")
    with closing(Checkpoints(job.out / "checkpoints", every=1)) as checkpoints:
        at = resumed(checkpoints, first, lines=job.out / LOG, what="meta_train", log=job.log)
        done = _steps(job, at, program, list(train.values()), list(held.values()), checkpoints)
    save_variables(job.out / ENCODER, done.best)
    write_json(job.out / SUMMARY, {"trained": "encoder", "steps": int(done.state.step), "validation_loss": round(float(done.best_loss), 6),
                                   "train_classes": list(train), "validation_classes": list(held)})
    job.log.info(f"meta_train: the best encoder lies in {job.workdir}; other runs start from it with --config.encoder.arch="
                 f"{config.encoder.arch} {taken_over(config, job.workdir)}")


def _classes(config: ConfigDict, stored: Sequence[StoredSegment]) -> tuple[dict[str, Videos], dict[str, Videos]]:
    """The classes to train on and those to validate on, each with its videos."""
    own = config.source
    classes = source_classes(stored, each=own.shot + own.query, length=config.data.clip_frames)
    parts = split_classes(list(classes), way=own.way, share=own.validation, seed=config.seed)
    return tuple({name: classes[name] for name in part} for part in parts)


def _steps(job: Job, at: Run, program: Program, train: list[Videos], held: list[Videos], checkpoints: Checkpoints) -> Run:
    """The steps that are left, validated every so often; stops early where validation no longer gets better."""
    own, start = job.config.source, int(at.state.step)
    key, state = randomness.stream(job.config.seed, "source"), devices.replicate(at.state)
    feed = _feed(job, train, "source episode", batch=own.batch, steps=own.steps, start_step=start)
    with job.log.progress("meta_train", own.steps, unit="steps", start=start) as advance, deferred() as asked_to_stop:
        for number, episodes in enumerate(feed if int(at.since) < own.patience else (), start + 1):
            state, metrics = program.step(state, devices.split(ClassEpisodes(*map(np.asarray, episodes))), key)
            line = {"step": number} | {name: round(float(value), 6) for name, value in devices.first(metrics).items()}
            if number % own.validate_every == 0 or number == own.steps:
                at, judged = _validated(job, at, devices.first(state), program, held)
                line |= judged
            _log(job, line)
            stop = asked_to_stop(number)
            if "validation_loss" in line or stop is not None:
                checkpoints.save(number, lambda: at._replace(state=devices.first(state)), now=stop is not None)
            advance(1, f"loss {line['loss']:.3f}, accuracy {line['accuracy']:.3f}")
            if stop is not None:
                job.log.info(f"meta_train: asked to stop, step {number} is saved")
                raise stop
            if int(at.since) >= own.patience:
                job.log.info(f"meta_train: stopped at step {number}: {own.patience} validations were no better")
                break
    return at


def _validated(job: Job, at: Run, state: episodic.EncoderState, program: Program, held: list[Videos]) -> tuple[Run, dict[str, float]]:
    """The run with the judgement of a state on the validation episodes, the same ones every time."""
    count = -(-job.config.source.validation_episodes // job.config.source.batch)
    copies = devices.replicate((state.params, state.statistics))
    values = [program.measure(*copies, devices.split(ClassEpisodes(*map(np.asarray, episodes))))
              for episodes in _feed(job, held, "source validation", batch=job.config.source.batch, steps=count)]
    loss, accuracy = (float(np.mean([np.asarray(value[i]) for value in values])) for i in range(2))
    judged = {"validation_loss": round(loss, 6), "validation_accuracy": round(accuracy, 6)}
    job.log.info(f"meta_train: step {int(state.step)}: validation loss {loss:.3f}, accuracy {accuracy:.3f}")
    if loss < float(at.best_loss):
        best = {"params": state.params["encoder"], "batch_stats": state.statistics}
        return Run(state, best, jnp.asarray(loss, jnp.float32), jnp.zeros((), jnp.int32)), judged
    return Run(state, at.best, at.best_loss, at.since + 1), judged


def _feed(job: Job, classes: list[Videos], stream: str, **batches: int) -> Iterator[ClassEpisodes]:
    own = job.config.source
    return episodes_feed(job.workdir / "prepare", classes, way=own.way, shot=own.shot, query=own.query, length=job.config.data.clip_frames,
                         seed=job.config.seed, stream=stream, **batches)


def _program(config: ConfigDict) -> tuple[Program, episodic.EncoderState]:
    """The compiled step and measure, and the state training starts from."""
    own, spec = config.source, spec_of(config)
    variables, frozen = pretrained_variables(config), own.freeze or None
    encoder = spec.build(compute_dtype(config), devices.AXIS)

    def embed(train: bool, params: Any, statistics: Any, clips: jax.Array) -> tuple[jax.Array, Any]:
        inputs, whole = normalise(spec, clips), {"params": params, "batch_stats": statistics}
        if not train:
            return encoder.apply(whole, inputs, train=False), statistics
        vectors, changed = encoder.apply(whole, inputs, train=True, frozen=frozen, mutable=["batch_stats"])
        return vectors, changed["batch_stats"]

    losses = partial(episodic.episode_losses, _head(config), way=own.way, smoothing=own.smoothing, spectral=own.spectral)
    trained = {"encoder": trainable(spec, variables["params"], frozen), "log_scale": True}
    optimiser = episodic.make_optimiser(trained, learning_rate=own.learning_rate, halve_every=own.halve_every, weight_decay=own.weight_decay)
    step = episodic.make_step(partial(embed, True), losses, optimiser, size=config.encoder.crop, learn_scale=own.learn_scale,
                              axis=devices.AXIS)
    measure = episodic.make_measure(partial(embed, False), losses, size=config.encoder.crop)
    state = episodic.initial_state(variables["params"], variables["batch_stats"], optimiser)
    return Program(devices.map_over_devices(step, in_axes=(0, 0, None), donate=(0,)), devices.map_over_devices(measure)), state


def _head(config: ConfigDict) -> Learner:
    """What is solved on the support's vectors."""
    shape = {"features": spec_of(config).feature_dim, "way": config.source.way, "pool": "mean"}
    options = config.learners
    heads = {"proto": lambda: baselines.proto(**shape, **options.proto_temperature), "ridge": lambda: closed_form.ridge(**shape, **options.ridge),
             "r2d2": lambda: closed_form.ridge(**shape, **options.r2d2), "svm": lambda: closed_form.svm(**shape, **options.svm)}
    return heads[config.source.head]()


def _log(job: Job, line: dict[str, Any]) -> None:
    with (job.out / LOG).open("a") as file:
        file.write(json.dumps(line) + "\n")
    if not np.isfinite(line["loss"]):
        raise WorkError(f"meta_train: the loss of step {line['step']} is {line['loss']}: try a lower --config.source.learning_rate "
                        f"(it is {job.config.source.learning_rate})")
