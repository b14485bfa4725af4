"""What trainings came to, in sentences: which encoder or start was handed on, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]  # of a training's log


def handed_on(result: str, steps: int, probe: Mapping[str, float] | None) -> str:
    """Which encoder the adaptation hands on. result: as config.adapt.result. probe: of adapt/summary.json, None where there was none."""
    last = {"average": "The encoder handed on is the slow average of the trained one"}.get(result, "The encoder handed on is the trained one")
    if probe is None:
        return f"{last}, behind the last step, {steps}."
    before, best, step = probe["before"], probe["best"], int(probe["best_step"])
    if result != "best":
        return (f"{last}, behind the last step, {steps}. The probe, which chose nothing, was best at step {step}: AUROC {best:.3f}, "
                f"{before:.3f} before the first step.")
    if step == 0:
        return (f"The probe never got better than at step 0 (AUROC {before:.3f}): the encoder handed on is the one it started from, so before and "
                "after are the same.")
    return f"The encoder handed on is that of step {step} of {steps}, where the probe was best: AUROC {best:.3f}, {before:.3f} before the first step."


def unchanged(result: str, probe: Mapping[str, float] | None) -> bool:
    """Whether the encoder handed on is the one that the adaptation started from."""
    return result == "best" and probe is not None and probe["best_step"] == 0


def chosen(lines: Sequence[Line]) -> Line | None:
    """The line of the step whose start or encoder is handed on: of the lowest validation loss, the first of them; None without validations."""
    judged = [line for line in lines if not math.isnan(line.get("validation_loss", math.nan))]
    return min(judged, key=lambda line: line["validation_loss"], default=None)


def judged(lines: Sequence[Line], *, what: str, steps: int, patience: int, chance: float) -> list[str]:
    """Which step of a meta-training is handed on, and whether it stopped early. what: it trains, such as "start"."""
    best, last = chosen(lines), lines[-1]["step"]
    found = [] if best is None else [
        f"The {what} handed on is that of step {best['step']}, which has the lowest loss on the validation episodes, {best['validation_loss']:.3f}; its "
        f"accuracy on them is {100 * best['validation_accuracy']:.1f} % (chance {100 * chance:.0f} %). It was chosen by them, so that they flatter it."]
    if last < steps:
        return [*found, f"Training stopped at step {last} of {steps}, behind {patience} validation{'s' * (patience > 1)} without a lower loss."]
    return [*found, f"It trained for all of its {steps} steps."]
