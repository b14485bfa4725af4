"""Brings stages up to date: skips what matches its fingerprint, redoes what does not, and says why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from acx_jax.data import prepared
from acx_jax.errors import UsageError
from acx_jax.runtime import devices
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import adapt, augment, check, embed, encoder, evaluate, learners, meta_train, partial, prepare, report, report_training
from acx_jax.stages import source_train, stamps
from acx_jax.stages.job import Job
from acx_jax.stages.stamps import Stamp

WAIT = 0.5  # seconds between looks


class Stage(NamedTuple):
    """A stage: the stages it reads, the part of the config and the outside inputs it depends on, and its work.

    settings(config) and inputs(config) give JSON values; run(job) fills job.out. damage(folder): what of a finished output is not as it was
    written, quickly, or "". take_part(job): the part of a process that helps the one that does `run`; None where that does it alone.
    check_possible(config, workdir): raises UsageError for what it could not do with the output of the stages before, while nothing is changed on disk.
    """

    needs: tuple[str, ...]
    settings: Callable[[ConfigDict], dict[str, Any]]
    run: Callable[[Job], None]
    inputs: Callable[[ConfigDict], Any] = lambda config: None
    damage: Callable[[Path], str] = lambda folder: ""
    take_part: Callable[[Job], None] | None = None
    check_possible: Callable[[ConfigDict, Path], None] = lambda config, workdir: None


STAGES: dict[str, Stage] = {
    "check": Stage((), check.settings, check.run, prepare.inputs, check.damage),
    "prepare": Stage((), prepare.settings, prepare.run, prepare.inputs, prepared.damage),
    "adapt": Stage(("prepare",), adapt.settings, adapt.run, encoder.inputs, take_part=adapt.take_part, check_possible=adapt.check_possible),
    "embed": Stage(("prepare", "adapt"), embed.settings, embed.run, encoder.inputs, take_part=embed.take_part),
    "meta_train": Stage(("prepare", "embed"), meta_train.settings, meta_train.run, check_possible=meta_train.check_possible),
    "evaluate": Stage(("prepare", "embed", "meta_train"), evaluate.settings, evaluate.run),
    "report": Stage(("prepare", "adapt", "embed", "evaluate"), report.settings, report.run),
}

AUGMENT = Stage(("prepare", "adapt"), augment.settings, augment.run, encoder.inputs)  # only in runs that ask for it

SOURCE_STAGES: dict[str, Stage] = {  # of a run that trains an encoder on source classes
    "check": STAGES["check"],
    "prepare": STAGES["prepare"],
    "meta_train": Stage(("prepare",), source_train.settings, source_train.run, encoder.inputs),
    "report": Stage(("prepare", "meta_train"), report_training.settings, report_training.run),
}

ADAPTATION_STAGES: dict[str, Stage] = {  # of data in which nothing is labelled abnormal
    **{name: STAGES[name] for name in ("check", "prepare", "adapt")},
    "report": Stage(("prepare", "adapt"), report_training.settings, report_training.run),
}
ADAPTATION_ONLY = ("bdd100k",)


def stages_of(config: ConfigDict) -> dict[str, Stage]:
    """The stages that a run with this config has, in order."""
    if config.source.steps:
        return SOURCE_STAGES
    if config.data.builder in ADAPTATION_ONLY:
        return ADAPTATION_STAGES
    return _with_augment(STAGES, in_support=config.episodes.augmented > 0) if augment.wanted(config) else STAGES


def _with_augment(stages: dict[str, Stage], *, in_support: bool) -> dict[str, Stage]:
    """The stages with `augment` behind `embed`, which the evaluation reads where its sequences join the support."""
    found = {}
    for name, stage in stages.items():
        needs = (*stage.needs, augment.NAME) if in_support and name == "evaluate" else stage.needs
        found |= {name: stage._replace(needs=needs)} | ({augment.NAME: AUGMENT} if name == "embed" else {})
    return found


def refuse(goal: str, config: ConfigDict) -> None:
    """Raises UsageError for what a validated config still gets wrong: an idle stage, learners or weights that are not there."""
    _check_goal(goal, config)
    wanted = _with_needs(goal, stages_of(config))
    if "evaluate" in wanted:
        learners.check_names(config)
    if config.source.steps or wanted & {"adapt", "embed"}:
        encoder.check_weights(config)  # wrong weights are better known before hours of decoding


def bring_up_to_date(goal: str, *, config: ConfigDict, workdir: Path, log: RunLog) -> None:
    """Runs what `goal` (a stage, or "all") needs and is not up to date, in order."""
    stages = stages_of(config)
    wanted, made = _with_needs(goal, stages), {}
    for name in [name for name in stages if name in wanted]:
        made[name] = _stamp(stages[name], config, made)
    _of_first_process(goal, [stamp["fingerprint"] for stamp in made.values()])
    for name, stamp in made.items():
        if name == "prepare" and "adapt" in wanted and stamps.read(workdir / name) != stamp:
            adapt.check_batch(config)  # better known before hours of decoding; an adaptation that is there already may be of other devices
        _bring_stage(name, stages[name], stamp, config=config, workdir=workdir, log=log)
        if name == "check":
            check.raise_problems(workdir)
        if name == "prepare" and wanted & {"meta_train", "evaluate"}:  # too few segments is better known before hours of training
            (source_train if config.source.steps else evaluate).check_possible(config, workdir)


def says_up_to_date(name: str, *, config: ConfigDict, workdir: Path, log: RunLog) -> bool:
    """Whether the output of a stage that needs no other one is whole and of this config; it says so."""
    stage, done = STAGES[name], workdir / name
    before = stamps.read(done)
    current = before is not None and before == _stamp(stage, config, {}) and not stage.damage(done)
    if current:
        log.info(f"{name}: up to date, nothing to read (fingerprint {before['fingerprint']})")
    return current


def take_part(goal: str, *, config: ConfigDict, workdir: Path, log: RunLog) -> None:
    """What a process does that works with another one, which does `bring_up_to_date`: its part of the stages that are shared. It waits for the
    others, looks at no data but the workdir's, and writes nothing but its log."""
    stages = stages_of(config)
    wanted = _with_needs(goal, stages)
    names = [name for name in stages if name in wanted]
    for name, fingerprint in zip(names, _of_first_process(goal, ["0" * stamps.DIGITS] * len(names))):
        if stamps.fingerprint(workdir / name) == fingerprint:
            log.info(f"{name}: up to date")
            continue
        if stages[name].take_part:
            stages[name].check_possible(config, workdir)
            stages[name].take_part(Job(config, workdir, workdir / name, log))
        if name != goal:
            log.info(f"{name}: waits for process 0")
            _wait(workdir / name, fingerprint)


def _of_first_process(goal: str, fingerprints: Sequence[str]) -> list[str]:
    """Process 0's fingerprints, in every process: on another machine the data may lie elsewhere, or be copies of another time."""
    own = np.frombuffer(bytes.fromhex("".join(fingerprints)), np.uint8).reshape(len(fingerprints), -1)
    with devices.others_may_go(goal):
        return [bytes(row).hex() for row in np.asarray(devices.from_first_process(own))]


def _wait(folder: Path, fingerprint: str) -> None:
    while stamps.fingerprint(folder) != fingerprint:
        time.sleep(WAIT)


def _check_goal(goal: str, config: ConfigDict) -> None:
    """Raises UsageError for a stage that this config gives nothing to do."""
    if config.source.steps and goal not in ("all", *SOURCE_STAGES):
        raise UsageError(f"--stage={goal}: config.source.steps is {config.source.steps}, so this run trains an encoder on source classes and "
                         f"evaluates nothing: give its folder to another run with {encoder.taken_over(config, 'FOLDER')}, or set --config.source.steps=0")
    if config.data.builder in ADAPTATION_ONLY and goal not in ("all", *stages_of(config)):
        raise UsageError(f"--stage={goal}: nothing in a data set of config.data.builder={config.data.builder!r} is labelled abnormal, so it is only "
                         "adapted on (check, prepare, adapt, report): give the run's folder to another run with "
                         f"{encoder.taken_over(config, 'FOLDER')}")
    if goal == augment.NAME and goal not in stages_of(config):
        setting = "episodes" if config.data.builder == "features" else "embed"
        raise UsageError(f"--stage=augment: config.{setting}.augmented is 0, so there is nothing to do: say how many, such as "
                         f"--config.{setting}.augmented=10")
    if goal == "meta_train" and not config.meta.steps and not config.source.steps:
        raise UsageError("--stage=meta_train: config.meta.steps is 0, so there is nothing to do: say how many, such as "
                         "--config.meta.steps=200 (or --config.source.steps to train an encoder on source classes)")


def _with_needs(goal: str, stages: dict[str, Stage]) -> set[str]:
    if goal == "all":
        return set(stages)
    return {goal}.union(*(_with_needs(need, stages) for need in stages[goal].needs))


def _stamp(stage: Stage, config: ConfigDict, made: dict[str, Stamp]) -> Stamp:
    """The stamp that a stage's output is to have; made: those of the stages before."""
    return stamps.make(settings=stage.settings(config), inputs=stage.inputs(config), stages={need: made[need]["fingerprint"] for need in stage.needs})


def _bring_stage(name: str, stage: Stage, stamp: Stamp, *, config: ConfigDict, workdir: Path, log: RunLog) -> None:
    done, folder = workdir / name, workdir / f"{name}.partial"
    _finish_swap(done, workdir / f"{name}.old")
    before = stamps.read(done)
    damage = stage.damage(done) if before == stamp else ""
    if before == stamp and not damage:
        log.info(f"{name}: up to date, skipped (fingerprint {stamp['fingerprint']})")
        return
    stage.check_possible(config, workdir)
    log.info(f"{name}: {stamps.why(before, stamp, damage, interrupted=partial.begin(folder, stamp, log))}")
    stage.run(Job(config, workdir, folder, log))
    _swap(folder, done, workdir / f"{name}.old")


def _swap(new: Path, done: Path, old: Path) -> None:
    if done.exists():
        done.rename(old)
    new.rename(done)
    shutil.rmtree(old, ignore_errors=True)


def _finish_swap(done: Path, old: Path) -> None:
    """Clears up behind a run that was killed inside `_swap`."""
    if old.exists() and not done.exists():
        old.rename(done)
    shutil.rmtree(old, ignore_errors=True)
