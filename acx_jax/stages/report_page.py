"""Fills the templates of the page and of its text version."""

from __future__ import annotations

import base64
import importlib.resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from ml_collections import ConfigDict

from acx_jax import __version__
from acx_jax.contracts import LABELS, SPLITS, Coverage, StoredSegment
from acx_jax.fewshot.metrics import chance_precision
from acx_jax.stages import report_curves as curves
from acx_jax.stages import report_figures as figures
from acx_jax.stages import report_verdict, training_words
from acx_jax.stages import report_words as words
from acx_jax.stages.report_inputs import Findings, Training, true_classes
from acx_jax.stages.report_samples import Sample

SHOWN_SKIPPED = 50  # the page stays readable when a whole disk of videos is broken


def html(findings: Findings, config: ConfigDict, workdir: Path, samples: dict[str, list[Sample]]) -> str:
    """The self-contained page. samples: lists by heading."""
    return fill("report.html.j2", **_facts(findings, config, workdir), samples=samples, plots=_plots(findings, config))


def markdown(findings: Findings, config: ConfigDict, workdir: Path, samples: dict[str, list[Sample]]) -> str:
    """The same in text, without images."""
    return fill("report.md.j2", **_facts(findings, config, workdir), samples=samples)


def segment_table(segments: tuple[StoredSegment, ...]) -> list[dict[str, Any]]:
    """One row for each split and label: how many segments and videos, and how long the segments are in frames."""
    table = []
    for split in SPLITS:
        for label, name in enumerate(LABELS):
            of = [s for s in segments if s.segment.split == split and s.segment.label == label]
            table.append({"split": split, "label": name, "segments": len(of), "videos": len({s.segment.video for s in of}),
                          "frames": _spread([s.frames for s in of])})
    return table


def _spread(lengths: list[int]) -> str:
    if not lengths:
        return "–"
    return f"{min(lengths)} / {np.median(lengths):g} / {max(lengths)}"


def _facts(findings: Findings, config: ConfigDict, workdir: Path) -> dict[str, Any]:
    shared = common_facts(config, workdir, findings.segments, findings.coverage, findings.overrides)
    return shared | {
        "was_run": words.what_was_run(findings, config), "measured_on": words.measured_on(findings),
        "told_apart": words.what_is_told_apart(findings.episodes),
        "verdict": report_verdict.verdict(findings, config.episodes.reported, config.adapt.result),
        "adapted": _adapted(findings.training, config), "started": _started(findings, config), "meta_said": words.meta_training(config),
        "best": words.best_row(findings.rows), "against_best": report_verdict.against_best(findings),
        "findings": findings, "chance_precision": chance_precision(findings.episodes.queries),
    }


def common_facts(config: ConfigDict, workdir: Path, segments: tuple[StoredSegment, ...], coverage: Coverage, overrides: dict[str, str]) -> dict[str, Any]:
    """What the base of all pages tells: of the run, its data, and how to do it again."""
    return {"labels": LABELS, "name": config.name, "seed": config.seed, "version": __version__, "overrides": overrides, "coverage": coverage,
            "table": segment_table(segments), "shown_skipped": coverage.skipped[:SHOWN_SKIPPED], "command": words.command(config, workdir, overrides)}


def _adapted(training: Training, config: ConfigDict) -> list[str]:
    """Which encoder the adaptation handed on; nothing where that goes without saying."""
    if not training.losses or (training.probe is None and config.adapt.result == "trained"):
        return []
    return [training_words.handed_on(config.adapt.result, config.adapt.steps, training.probe)]


def _started(findings: Findings, config: ConfigDict) -> dict[str, list[str]]:
    """What each meta-training of a start came to, by the features it saw."""
    return {words.SEEN[name]: training_words.judged(lines, what="start", steps=config.meta.steps, patience=config.meta.patience,
                                                                  chance=1 / findings.episodes.way) for name, lines in findings.training.meta}


def _plots(findings: Findings, config: ConfigDict) -> dict[str, Any]:
    classes, training = true_classes(findings.episodes), findings.training
    margins = _by_learner(findings.margins)
    return {
        "accuracies": figures.accuracies(findings.rows, findings.chance),
        "adaptation": curves.adaptation(training.losses, training.probes, chosen=_probed_step(training, config)) if training.losses else None,
        "meta": {words.SEEN[name]: curves.meta_training(lines, chance=1 / findings.episodes.way, chosen=training_words.chosen(lines)["step"])
                 for name, lines in training.meta},
        "learners": [(words.learner_name(learner), figures.roc(of, classes), figures.histograms(of, classes))
                     for learner, of in margins.items()],
    }


def _probed_step(training: Training, config: ConfigDict) -> int | None:
    """The step that the probe chose."""
    return int(training.probe["best_step"]) if training.probe and config.adapt.result == "best" else None


def _by_learner(margins: dict[tuple[str, str], np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Pretrained before adapted, learners in the order of report_words."""
    order = {learner: place for place, learner in enumerate(words.LEARNERS)}
    learners = sorted({learner for _, learner in margins}, key=lambda learner: order.get(learner, len(order)))
    return {name: {features: margins[features, name] for features in [*words.FEATURES] if (features, name) in margins}
            for name in learners}


def fill(template: str, **facts: Any) -> str:
    """A template's text with these facts in it; that of a page takes names of users for text alone."""
    environment = jinja2.Environment(autoescape=template.endswith(".html.j2"), undefined=jinja2.StrictUndefined, loader=jinja2.FunctionLoader(_template),
                                     trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"percent": words.percent, "accuracy": words.accuracy, "row_name": words.row_name, "interval": words.with_interval,
                            "number": _number, "data": _data, "plain": _plain}
    return environment.get_template(template).render(**facts)


def _template(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _data(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _plain(text: Any) -> str:
    """Text of a user's as one line that Markdown takes literally, in a table too."""
    line = " ".join(str(text).split())
    for mark in "\\`*_[]<>|#":
        line = line.replace(mark, "\\" + mark)
    return line
