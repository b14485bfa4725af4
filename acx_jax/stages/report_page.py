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
from acx_jax.contracts import LABELS, SPLITS, StoredSegment
from acx_jax.fewshot.metrics import chance_precision
from acx_jax.stages import report_figures as figures
from acx_jax.stages import report_words as words
from acx_jax.stages.report_inputs import Findings, true_classes
from acx_jax.stages.report_samples import Sample

SHOWN_SKIPPED = 50  # the page stays readable when a whole disk of videos is broken


def html(findings: Findings, config: ConfigDict, workdir: Path, samples: dict[str, list[Sample]]) -> str:
    """The self-contained page. samples: lists by heading."""
    return _fill("report.html.j2", **_facts(findings, config, workdir), samples=samples, plots=_plots(findings))


def markdown(findings: Findings, config: ConfigDict, workdir: Path, samples: dict[str, list[Sample]]) -> str:
    """The same in text, without images."""
    return _fill("report.md.j2", **_facts(findings, config, workdir), samples=samples)


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
    return {
        "labels": LABELS, "name": config.name, "seed": config.seed, "version": __version__,
        "was_run": words.what_was_run(findings, config), "verdict": words.verdict(findings, config.episodes.reported),
        "best": words.best_row(findings.rows), "against_best": words.against_best(findings),
        "findings": findings, "coverage": findings.coverage, "table": segment_table(findings.segments),
        "shown_skipped": findings.coverage.skipped[:SHOWN_SKIPPED],
        "chance_precision": chance_precision(findings.episodes.queries), "command": words.command(config, workdir, findings.overrides),
    }


def _plots(findings: Findings) -> dict[str, Any]:
    classes = true_classes(findings.episodes)
    curves = _by_learner(findings.margins)
    return {
        "accuracies": figures.accuracies(findings.rows, findings.chance),
        "adaptation": figures.adaptation(findings.losses) if findings.losses else None,
        "learners": [(words.learner_name(learner), figures.roc(of, classes), figures.histograms(of, classes))
                     for learner, of in curves.items()],
    }


def _by_learner(margins: dict[tuple[str, str], np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Pretrained before adapted, learners in the order of report_words."""
    order = {learner: place for place, learner in enumerate(words.LEARNERS)}
    learners = sorted({learner for _, learner in margins}, key=lambda learner: order.get(learner, len(order)))
    return {name: {features: margins[features, name] for features in [*words.FEATURES] if (features, name) in margins}
            for name in learners}


def _fill(template: str, **facts: Any) -> str:
    environment = jinja2.Environment(autoescape=template.endswith(".html.j2"), undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"percent": words.percent, "accuracy": words.accuracy, "row_name": words.row_name, "interval": words.with_interval,
                            "number": _number, "data": _data, "plain": _plain}
    text = importlib.resources.files(__package__).joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**facts)


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
