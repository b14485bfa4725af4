"""The report's plots as PNG images. Their text never holds anything a user wrote."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.metrics import roc_auc_score, roc_curve

from acx_jax.contracts import ABNORMAL, LABELS
from acx_jax.stages.report_inputs import Row
from acx_jax.stages.report_words import FEATURES, row_name

# Okabe and Ito's colours, told apart by every kind of colour vision.
FEATURE_COLOURS = {"pretrained": "#0072B2", "adapted": "#D55E00", "whitened": "#000000", "given": "#0072B2", "none": "#555555"}
FEATURE_LINES = {"pretrained": "--", "adapted": "-", "whitened": "-.", "given": "-", "none": ":"}
LABEL_COLOURS = ("#009E73", "#CC79A7")
GREY = "#555555"
DPI = 160
BINS = np.linspace(0, 1, 21)


def accuracies(rows: tuple[Row, ...], chance: float) -> bytes:
    """One line a row: accuracy in percent with its 95 % interval, and where chance lies."""
    figure = Figure(figsize=(6.4, 0.9 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _accuracy(axes, place, row)
    axes.axvline(100 * chance, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.annotate(f"chance {100 * chance:.0f} %", (100 * chance, 1), (0, 3), xycoords=("data", "axes fraction"),
                  textcoords="offset points", ha="center", va="bottom", color=GREY)
    axes.set_yticks(range(len(rows)), [row_name(row) for row in rows])
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy, %")
    return as_png(figure, axes)


def roc(curves: dict[str, np.ndarray], classes: np.ndarray) -> bytes:
    """ROC curves of one learner, one for each features it was given.

    curves: by features, float [E, Q] margin of abnormal over normal, which tells apart what is all 1 as a probability; classes: int [Q], the true class of each column.
    """
    figure = Figure(figsize=(3.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for place, (features, scores) in enumerate(curves.items()):
        _roc_curve(axes, features, *_pooled(scores, classes), height=0.06 + 0.09 * (len(curves) - 1 - place))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="normal segments called abnormal", ylabel="abnormal segments found",
             aspect="equal")
    return as_png(figure, axes)


def histograms(curves: dict[str, np.ndarray], classes: np.ndarray) -> bytes:
    """How the probabilities that one learner gives are spread in each true class; arguments as of `roc`."""
    figure = Figure(figsize=(3.6, 0.5 + 1.45 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), squeeze=False, sharex=True)[:, 0]
    for axes, (features, margins) in zip(panels, curves.items()):
        _histogram(axes, *_pooled(expit(margins), classes))
        axes.set_title(FEATURES.get(features, features), loc="left", fontsize=9, color=GREY)
    panels[-1].set_xlabel("score: probability of abnormal")
    return as_png(figure, *panels)


def as_png(figure: Figure, *all_axes: Axes) -> bytes:
    """The figure as a PNG image, its axes in the report's style."""
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, facecolor="white")
    return out.getvalue()


def _accuracy(axes: Axes, place: int, row: Row) -> None:
    value, half = 100 * row["accuracy"], 100 * row["accuracy_ci95"]
    if not np.isfinite(value):
        axes.text(2, place, "no number", va="center", color=GREY)
        return
    colour = FEATURE_COLOURS.get(row["features"], GREY)
    half = half if np.isfinite(half) else 0.0
    axes.errorbar(value, place, xerr=half, color=colour, marker="o", markersize=6, capsize=4, linewidth=1.8)
    beside = value + half < 88
    axes.annotate(f"{value:.1f}", (value + half if beside else value - half, place), (6 if beside else -6, 0),
                  textcoords="offset points", va="center", ha="left" if beside else "right", color=colour,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})


def _pooled(scores: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All scores of all episodes that are numbers, and their true classes."""
    known = np.isfinite(scores)
    return scores[known], np.broadcast_to(classes, scores.shape)[known]


def _roc_curve(axes: Axes, features: str, scores: np.ndarray, classes: np.ndarray, height: float) -> None:
    name = FEATURES.get(features, features)
    style = {"color": FEATURE_COLOURS.get(features, GREY)}
    if len(np.unique(classes)) == 2:
        false, true, _ = roc_curve(classes == ABNORMAL, scores)
        axes.plot(false, true, linestyle=FEATURE_LINES.get(features, "-"), linewidth=1.8, **style)
        text = f"{name} {roc_auc_score(classes == ABNORMAL, scores):.3f}".strip()
    else:
        text = f"{name} no curve".strip()
    axes.text(0.97, height, text, ha="right", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}, **style)


def _histogram(axes: Axes, scores: np.ndarray, classes: np.ndarray) -> None:
    for label, colour in enumerate(LABEL_COLOURS):
        counts, _ = np.histogram(scores[classes == label], BINS)
        share = counts / max(counts.sum(), 1)
        axes.stairs(share, BINS, fill=True, alpha=0.35, color=colour)
        axes.stairs(share, BINS, color=colour, linewidth=1.5)
        axes.text((0.72, 0.98)[label], 1.04, LABELS[label], transform=axes.transAxes, ha="right", color=colour, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(0, None), yticks=[], ylabel="share")
