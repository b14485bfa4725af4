"""The report's plots of trainings as PNG images."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acx_jax.stages.report_figures import GREY, as_png
from acx_jax.stages.training_words import Line

TRAINED, JUDGED, PROBED = "#0072B2", "#D55E00", "#009E73"
NOTE = {"textcoords": "offset points", "color": GREY, "fontsize": 8,
        "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}}


def adaptation(losses: Sequence[Line], probes: Sequence[Line] = (), *, chosen: int | None = None) -> bytes:
    """The contrastive loss by training step, how sure the encoder is of the right pair where that was logged, and what a probe found.

    chosen: the step whose encoder is handed on for its probe.
    """
    series = [(losses, "loss", "loss", TRAINED), (losses, "positive_probability", "probability of the right pair", JUDGED),
              (probes, "probe_auroc", "AUROC of the probe", PROBED)]
    series = [one for one in series if any(one[1] in line for line in one[0])]
    figure = Figure(figsize=(7, 2.2), layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (lines, key, label, colour) in zip(panels, series):
        _curve(axes, lines, key, colour)
        axes.set_title(label, loc="left", fontsize=10 if len(series) < 3 else 9)
        axes.set_xlabel("step")
        if key == "probe_auroc":
            _share_axis(axes, 0.5)
            _mark(axes, chosen)
        else:
            axes.set_ylim(bottom=0)
    return as_png(figure, *panels)


def meta_training(lines: Sequence[Line], *, chance: float, chosen: int | None) -> bytes:
    """Loss and accuracy of episodes by training step, of those that train and of those that validate. chosen: the step that is handed on."""
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, name in zip(panels, ("loss", "accuracy")):
        drawn = [_curve(axes, lines, name, TRAINED), _curve(axes, lines, f"validation_{name}", JUDGED)]
        _title(axes, name, drawn)
        axes.set_xlabel("step")
    panels[0].set_ylim(bottom=0)
    _mark(panels[0], chosen, top=True)
    _mark(panels[1], chosen)
    _share_axis(panels[1], chance)
    return as_png(figure, *panels)


def _curve(axes: Axes, lines: Sequence[Line], key: str, colour: str) -> bool:
    """Draws what is there of one measure, and says whether there is anything."""
    of = [line for line in lines if key in line]
    dense = {"linewidth": 0.6, "alpha": 0.5} if len(of) >= 500 else {}
    axes.plot([line["step"] for line in of], [line[key] for line in of], color=colour, marker="o" if len(of) < 60 else "", markersize=3, **dense)
    return bool(of)


def _title(axes: Axes, name: str, drawn: list[bool]) -> None:
    axes.set_title(name, loc="left", fontsize=10)
    for place, (there, label, colour) in enumerate(zip(drawn, ("training", "validation"), (TRAINED, JUDGED))):
        if there:
            axes.text(1 - 0.28 * (1 - place), 1.04, label, transform=axes.transAxes, ha="right", color=colour, fontsize=9)


def _share_axis(axes: Axes, chance: float) -> None:
    """The axis of a share, from 0 to 1, with the line of chance."""
    axes.set_ylim(0, 1)
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.annotate("chance", (1, chance), (-2, 2), xycoords=("axes fraction", "data"), ha="right", va="bottom", **NOTE)


def _mark(axes: Axes, step: int | None, *, top: bool = False) -> None:
    """A line at the step whose result is handed on, named where there are few points: losses fall, shares rise."""
    if step is not None:
        axes.axvline(step, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
        right = step < sum(axes.get_xlim()) / 2
        axes.annotate(f"step {step}", (step, int(top)), (3 if right else -3, -3 if top else 3), xycoords=("data", "axes fraction"),
                      ha="left" if right else "right", va="top" if top else "bottom", **NOTE)
