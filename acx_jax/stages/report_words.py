"""The report's words: what was run, and the names and numbers of its tables."""

from __future__ import annotations

import math
import shlex
from pathlib import Path, PurePath

import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import ABNORMAL, LABELS, NORMAL, Episodes, in_words
from acx_jax.settings import ON_TOP
from acx_jax.stages.meta_parts import asked_queries
from acx_jax.stages.report_inputs import Findings, Row

LEARNERS = {
    "mcp": "MCP head", "proto": "prototypes", "linear": "linear head", "two_layer": "two-layer head", "cosine": "cosine head",
    "proto_temperature": "prototypes with temperature", "simpleshot": "SimpleShot", "ridge": "ridge regression", "r2d2": "R2D2",
    "svm": "support vector machine", "bd_cspn": "rectified prototypes (BD-CSPN)", "length": "segment length alone",
    "meta": "meta-learnt start, few steps", "meta_random": "random start, as few steps",
}
FEATURES = {"pretrained": "before adaptation", "adapted": "after adaptation", "whitened": "whitened", "given": "on given features", "none": ""}
SEEN = {"pretrained": "on features before adaptation", "adapted": "on features after adaptation", "whitened": "on whitened features",
        "given": "on given features"}
ENCODERS = {
    "i3d": "Inception I3D", "r2plus1d_tiny": "a very small R(2+1)D", "r2plus1d_18": "R(2+1)D-18",
    "r2plus1d_34": "R(2+1)D-34", "r3d_18": "R3D-18", "mc3_18": "MC3-18",
}
HEADS = {"proto": "prototypes", "ridge": "ridge regression", "r2d2": "R2D2", "svm": "a support vector machine"}
METHODS = {"maml": "MAML", "fomaml": "First-order MAML", "anil": "ANIL", "reptile": "Reptile"}
_SIDES = {
    "disjoint": "No video and no source is on both sides.",
    "published": "Segments of one video or source may be on both sides, as published: such numbers flatter.",
}
WEIGHTS = {"i3d_kinetics400": "weights pretrained on Kinetics-400", "random": "random weights, never pretrained"}


def what_was_run(findings: Findings, config: ConfigDict) -> list[str]:
    """The set-up in plain sentences."""
    if config.data.builder == "features":
        return [_protocol(findings, config), f"Features were given: {count(findings.windows or 0, 'vector')}; no encoder was run."]
    return [_protocol(findings, config), _encoder(findings, config), _adaptation(findings, config), *_whitening(findings)]


def measured_on(findings: Findings) -> str:
    """The data that every number is of, as in "Measured on 24 of 26 listed videos, data hash 0123456789abcdef."."""
    data = f", data hash {findings.data}" if findings.data else ""
    return f"Measured on {findings.coverage.videos_used} of {findings.coverage.videos_listed} listed videos{data}."


def meta_training(config: ConfigDict) -> str:
    """The method and its learner, as in "ANIL of the MCP head"."""
    return f"{METHODS[config.meta.method]} of the {learner_name(config.meta.learner)}"


def best_row(rows: tuple[Row, ...], measure: str = "accuracy") -> Row | None:
    """The row of a learner, not a baseline, with the highest `measure`; None where no row has a number."""
    judged = [row for row in rows if row["learner"] != "length" and not math.isnan(row[measure])]
    return max(judged, key=lambda row: row[measure], default=None)


def learner_name(learner: str) -> str:
    """A learner in words; one that was named by a path keeps its path."""
    base = learner.removesuffix(ON_TOP)
    return LEARNERS.get(base, base) + ("" if base == learner else " with label propagation")


def what_is_told_apart(episodes: Episodes) -> list[str]:
    """Where there are more than two classes: which measure is of what."""
    if episodes.way == len(LABELS):
        return []
    return [f"Accuracy, balanced or not, is of telling all {episodes.way} classes apart. All other measures, curves and scores are of normal against abnormal, whichever "
            "category: a query's probability of abnormal is that of all categories together."]


def row_name(row: Row) -> str:
    """A learner and its features, as in "MCP head after adaptation"."""
    return f"{learner_name(row['learner'])} {FEATURES.get(row['features'], row['features'])}".strip()


def percent(value: float) -> str:
    """A share as a percentage with one decimal; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def accuracy(row: Row) -> str:
    """Accuracy with its 95 % interval, as in "78.2 ± 2.1 %"; a dash for what is NaN."""
    if math.isnan(row["accuracy"]) or math.isnan(row["accuracy_ci95"]):
        return percent(row["accuracy"])
    return f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_ci95']:.1f} %"


def with_interval(row: Row, measure: str) -> str:
    """A measure with its 95 % interval, as in "0.712 ± 0.021"; a dash where there is none."""
    value, half = row.get(measure), row.get(f"{measure}_ci95")
    if value is None or half is None or math.isnan(value) or math.isnan(half):
        return "–"
    return f"{value:.3f} ± {half:.3f}"


def command(config: ConfigDict, workdir: Path, overrides: dict[str, str]) -> str:
    """The shell command that makes this run again from a checkout; of an absolute path only the last name is told."""
    flags = [f"--config.{key}={_without_place(value)}" for key, value in overrides.items()]
    parts = [f"--config=configs/{config.name}.py", f"--workdir=runs/{workdir.name}", *flags]
    return " ".join(["python -m acx_jax.main", *map(shlex.quote, parts)])


def _without_place(value: str) -> str:
    return PurePath(value).name if PurePath(value).is_absolute() else value


def encoder_name(config: ConfigDict) -> str:
    """The encoder and where its weights are from, as in "R(2+1)D-18 up to layer2, random weights, never pretrained"."""
    arch, weights, stage = config.encoder.arch, config.encoder.weights, config.encoder.stage
    return f"{ENCODERS.get(arch, arch)}{f' up to {stage}' if stage else ''}, {WEIGHTS.get(weights, f'weights from {PurePath(weights).name}')}"


def count(number: int, noun: str) -> str:
    """As in "1 step" and "1,200 steps"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _protocol(findings: Findings, config: ConfigDict) -> str:
    episodes = findings.episodes
    fewer = ""
    if config.episodes.file:
        fewer = f" (replayed from {PurePath(config.episodes.file).name})"
    elif episodes.queries != (asked := asked_queries(config)):
        fewer = f" ({in_words(asked)} were asked for; the data allow no more)"
    return (
        f"{count(len(episodes.query), 'episode')}, {episodes.way}-way {episodes.shot}-shot{_drawn_classes(episodes)}: in each, every learner is fitted "
        f"anew on {count(episodes.shot, 'labelled segment')} of each class and judged on "
        f"{_judged_on(episodes.queries)}{fewer}. {_SIDES[findings.protocol]}{_augmented(findings.rows)}"
    )


def _drawn_classes(episodes: Episodes) -> str:
    if episodes.categories is None:
        return ""
    return f" (normal and {episodes.way - 1} of {count(len(np.unique(episodes.categories)), 'kind')} of anomalies, drawn anew for each)"


def _judged_on(queries: tuple[int, ...]) -> str:
    if len(set(queries)) == 1:
        return f"{count(queries[0], 'other segment')} of each class"
    of_abnormal = "abnormal" if len(queries) == len(LABELS) else "of each category"
    return f"{count(queries[NORMAL], 'other normal segment')} and {queries[ABNORMAL]} {of_abnormal}"


def _augmented(rows: tuple[Row, ...]) -> str:
    number = max((row.get("augmented", 0) for row in rows), default=0)
    return "" if not number else (f" {count(number, 'augmented sequence')} of each labelled segment, drawn afresh in each episode, "
                                  f"{'join' if number > 1 else 'joins'} it; what is judged is never augmented.")


def _encoder(findings: Findings, config: ConfigDict) -> str:
    windows = "" if findings.windows is None else f"; {count(findings.windows, 'clip')} encoded"
    return f"Encoder: {encoder_name(config)}{windows}."


def _adaptation(findings: Findings, config: ConfigDict) -> str:
    if not config.adapt.steps:
        return "The encoder was not adapted to these videos (adapt.steps is 0)."
    normal = [stored for stored in findings.segments if stored.segment.split == "adapt" and stored.segment.label == NORMAL]
    shared = {stored.segment.video for stored in normal} & {stored.segment.video for stored in findings.evaluated}
    videos = f"in part evaluated too ({count(len(shared), 'video')})" if shared else "not used in the evaluation"
    return (
        f"Adaptation: {count(config.adapt.steps, 'step')} of self-supervised training on the {count(len(normal), 'normal segment')} "
        f"of the adaptation split, whose videos are {videos}."
    )


def _whitening(findings: Findings) -> list[str]:
    if findings.whitened is None:
        return []
    of = FEATURES[findings.whitened["of"]]
    return [f"Whitened: the features {of}, in which what varies among {count(findings.whitened['normals'], 'clip')} of the normal segments of the "
            f"adaptation split is scaled down (embed.whiten is {findings.whitened['weight']})."]
