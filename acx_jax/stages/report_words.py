"""The report's sentences: what was run, and what the numbers do and do not say."""

from __future__ import annotations

import math
import shlex
from pathlib import Path, PurePath

from ml_collections import ConfigDict

from acx_jax.contracts import ABNORMAL, NORMAL, in_words
from acx_jax.settings import ON_TOP
from acx_jax.stages.meta_parts import asked_queries
from acx_jax.stages.report_inputs import Findings, Row

LEARNERS = {
    "mcp": "MCP head", "proto": "prototypes", "linear": "linear head", "two_layer": "two-layer head", "cosine": "cosine head",
    "proto_temperature": "prototypes with temperature", "simpleshot": "SimpleShot", "ridge": "ridge regression", "r2d2": "R2D2",
    "svm": "support vector machine", "bd_cspn": "rectified prototypes (BD-CSPN)", "length": "segment length alone",
    "meta": "meta-learnt start, few steps", "meta_random": "random start, as few steps",
}
FEATURES = {"pretrained": "before adaptation", "adapted": "after adaptation", "given": "on given features", "none": ""}
ENCODERS = {
    "i3d": "Inception I3D", "r2plus1d_tiny": "a very small R(2+1)D", "r2plus1d_18": "R(2+1)D-18",
    "r2plus1d_34": "R(2+1)D-34", "r3d_18": "R3D-18", "mc3_18": "MC3-18",
}
_SIDES = {
    "disjoint": "No video and no source is on both sides.",
    "published": "Segments of one video or source may be on both sides, as published: such numbers flatter.",
}
WEIGHTS = {"i3d_kinetics400": "weights pretrained on Kinetics-400", "random": "random weights, never pretrained"}


def what_was_run(findings: Findings, config: ConfigDict) -> list[str]:
    """The set-up in plain sentences."""
    if config.data.builder == "features":
        return [_protocol(findings, config), f"Features were given: {_count(findings.windows or 0, 'vector')}; no encoder was run."]
    return [_protocol(findings, config), _encoder(findings, config), _adaptation(findings, config)]


def verdict(findings: Findings, reported: str = "mean") -> list[str]:
    """What the numbers say, one sentence a question: better than chance? than length alone? did adaptation help?

    reported="best": also the accuracies that the published code would name, each of the one model best on its own queries.
    """
    best = best_row(findings.rows)
    if best is None:
        return ["No learner gave a number to judge by."]
    found = [_against_chance(best, findings), *_balanced(findings), *_against_length(best, findings), *_against_pretrained(findings)]
    return found + ([_of_best_models(findings.rows)] if reported == "best" else [])


def _of_best_models(rows: tuple[Row, ...]) -> str:
    each = "; ".join(f"{row_name(row)} {percent(row.get('accuracy_max', math.nan))}" for row in rows if row["learner"] != "length")
    return f"Of the one episode whose model is best on its own queries, as the published code names it (chosen on what it is judged by): {each}."


def best_row(rows: tuple[Row, ...], measure: str = "accuracy") -> Row | None:
    """The row of a learner, not a baseline, with the highest `measure`; None where no row has a number."""
    judged = [row for row in rows if row["learner"] != "length" and not math.isnan(row[measure])]
    return max(judged, key=lambda row: row[measure], default=None)


def learner_name(learner: str) -> str:
    """A learner in words; one that was named by a path keeps its path."""
    base = learner.removesuffix(ON_TOP)
    return LEARNERS.get(base, base) + ("" if base == learner else " with label propagation")


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


def against_best(findings: Findings) -> list[Row]:
    """The row of highest accuracy against each other one on the same episodes: `name`, the differences best minus other, `apart`.

    apart: whether the interval of the difference in accuracy leaves out 0.
    """
    best = best_row(findings.rows)
    if best is None:
        return []
    names, own, found = {_key(row): row for row in findings.rows}, _key(best), []
    for pair in findings.comparisons:
        other = pair["other"] if pair["row"] == own else pair["row"]
        if own in (pair["row"], pair["other"]) and other in names:
            sign = 1 if pair["row"] == own else -1
            turned = {key: sign * pair[key] for key in ("accuracy", "auroc")} | {key: pair[key] for key in ("accuracy_ci95", "auroc_ci95")}
            found.append(turned | {"name": row_name(names[other]), "apart": abs(turned["accuracy"]) > turned["accuracy_ci95"]})
    return found


def command(config: ConfigDict, workdir: Path, overrides: dict[str, str]) -> str:
    """The shell command that makes this run again from a checkout; of an absolute path only the last name is told."""
    flags = [f"--config.{key}={_without_place(value)}" for key, value in overrides.items()]
    parts = [f"--config=configs/{config.name}.py", f"--workdir=runs/{workdir.name}", *flags]
    return " ".join(["python -m acx_jax.main", *map(shlex.quote, parts)])


def _without_place(value: str) -> str:
    return PurePath(value).name if PurePath(value).is_absolute() else value


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _protocol(findings: Findings, config: ConfigDict) -> str:
    episodes = findings.episodes
    fewer = ""
    if config.episodes.file:
        fewer = f" (replayed from {PurePath(config.episodes.file).name})"
    elif episodes.queries != (asked := asked_queries(config)):
        fewer = f" ({in_words(asked)} were asked for; the data allow no more)"
    return (
        f"{_count(len(episodes.query), 'episode')}, {episodes.way}-way {episodes.shot}-shot: in each, every learner is fitted "
        f"anew on {_count(episodes.shot, 'labelled segment')} of each class and judged on "
        f"{_judged_on(episodes.queries)}{fewer}. {_SIDES[findings.protocol]}"
    )


def _judged_on(queries: tuple[int, ...]) -> str:
    if len(set(queries)) == 1:
        return f"{_count(queries[0], 'other segment')} of each class"
    return f"{_count(queries[NORMAL], 'other normal segment')} and {queries[ABNORMAL]} abnormal"


def _encoder(findings: Findings, config: ConfigDict) -> str:
    windows = "" if findings.windows is None else f"; {_count(findings.windows, 'clip')} encoded"
    arch, weights = config.encoder.arch, config.encoder.weights
    weights = WEIGHTS.get(weights, f"weights from {PurePath(weights).name}")
    return f"Encoder: {ENCODERS.get(arch, arch)}, {weights}{windows}."


def _adaptation(findings: Findings, config: ConfigDict) -> str:
    if not config.adapt.steps:
        return "The encoder was not adapted to these videos (adapt.steps is 0)."
    normal = [stored for stored in findings.segments if stored.segment.split == "adapt" and stored.segment.label == NORMAL]
    shared = {stored.segment.video for stored in normal} & {stored.segment.video for stored in findings.evaluated}
    videos = f"in part evaluated too ({_count(len(shared), 'video')})" if shared else "not used in the evaluation"
    return (
        f"Adaptation: {_count(config.adapt.steps, 'step')} of self-supervised training on the {_count(len(normal), 'normal segment')} "
        f"of the adaptation split, whose videos are {videos}."
    )


def _interval(row: Row) -> tuple[float, float]:
    return row["accuracy"] - row["accuracy_ci95"], row["accuracy"] + row["accuracy_ci95"]


def _difference(row: Row, other: Row, findings: Findings) -> tuple[float, float]:
    """Mean accuracy of `row` less that of `other` over the same episodes and half its 95 % interval; NaN where they were not compared.

    Two intervals that overlap say little of it: what makes an episode hard is hard for both.
    """
    names = (_key(row), _key(other))
    for pair in findings.comparisons:
        if (pair["row"], pair["other"]) in (names, names[::-1]):
            return (pair["accuracy"] if pair["row"] == names[0] else -pair["accuracy"]), pair["accuracy_ci95"]
    return math.nan, math.nan


def _key(row: Row) -> str:
    """The name of a row in evaluate/comparisons.json."""
    return f"{row['features']}-{row['learner']}"


def _against_chance(best: Row, findings: Findings) -> str:
    low, high = _interval(best)
    if low > findings.chance:
        said = f"its 95 % interval is clear of chance ({percent(findings.chance)})"
    elif high < findings.chance:
        said = f"its 95 % interval lies below chance ({percent(findings.chance)})"
    else:
        said = f"that cannot be told from chance ({percent(findings.chance)})"
    return f"The highest accuracy is {accuracy(best)}, of the {row_name(best)}; {said}."


def _balanced(findings: Findings) -> list[str]:
    """What accuracy hides where the classes have not as many queries."""
    queries, best = findings.episodes.queries, best_row(findings.rows, "balanced_accuracy")
    if not findings.unequal or best is None:
        return []
    return [f"Chance is here to call every query the class that {max(queries)} of an episode's {sum(queries)} are of. The balanced accuracy, which "
            f"that does not raise, is highest for the {row_name(best)}: {with_interval(best, 'balanced_accuracy')} "
            f"(chance {1 / findings.episodes.way:.3f})."]


def _against_pretrained(findings: Findings) -> list[str]:
    by_name = {(row["features"], row["learner"]): row for row in findings.rows}
    changes = [(_change(row, by_name["adapted", learner], *gain), *gain) for (features, learner), row in by_name.items()
               if features == "pretrained" and ("adapted", learner) in by_name
               for gain in [_difference(by_name["adapted", learner], row, findings)]]
    better = [words for words, gain, half in changes if gain > half]
    worse = [words for words, gain, half in changes if -gain > half]
    alike = [words for words, gain, half in changes if not abs(gain) > half]
    found = [("Adaptation raised the accuracy of ", better), ("Adaptation lowered the accuracy of ", worse),
             ("Adaptation made no clear difference to ", alike)]
    return [start + "; ".join(of) + "." for start, of in found if of]


def _change(before: Row, after: Row, gain: float, half: float) -> str:
    learner = learner_name(before["learner"])
    by = "" if math.isnan(gain + half) else f"; difference {100 * gain:+z.1f} ± {100 * half:.1f}"
    return f"the {learner} ({accuracy(before)} → {accuracy(after)}{by})".replace("the prototypes", "prototypes")


def _against_length(best: Row, findings: Findings) -> list[str]:
    length = next((row for row in findings.rows if row["learner"] == "length"), None)
    if length is None:
        return []
    gain, half = _difference(best, length, findings)
    above = "is clearly above" if gain > half else "is not clearly above"
    tells = " Length alone tells the classes apart here, so part of any learner's accuracy may be length." if (
        _interval(length)[0] > findings.chance) else ""
    return [f"It {above} the baseline on segment length alone ({accuracy(length)}).{tells}"]
