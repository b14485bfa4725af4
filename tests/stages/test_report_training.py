"""What the report says of trainings: which encoder or start was handed on, and their curves."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_case import make_case
from report_made import FEW, Page, make_report

from acx_jax.stages import report_curves, training_words


def probed(values: dict[int, float], best: int) -> dict[str, Any]:
    """What an adaptation with a probe leaves."""
    return {"adapt/probes.jsonl": [{"step": step, "probe_auroc": value} for step, value in values.items()],
            "adapt/summary.json": {"adapted": True, "probe": {"best_step": best, "best": values[best], "before": values[0]}}}


def test_an_encoder_that_the_probe_left_as_it_was_is_said_plainly(tmp_path, usual_report):
    html, text = make_report(make_case(), tmp_path, probed({0: 0.6, 6: 0.5, 12: 0.55}, 0), **{"adapt.result": "best", "adapt.steps": "12"})
    said = "The probe never got better than at step 0 (AUROC 0.600): the encoder handed on is the one it started from, so before and after are the same."
    for one in (Page(html).text, text):
        assert one.count(said) == 2 and "Adaptation raised" not in one and "no clear difference" not in one  # in the verdict and by the curve
    assert "nearest neighbours told" in html and "nearest neighbours told" not in usual_report[0]


@pytest.mark.parametrize("result, best, said", [
    ("best", 6, "The encoder handed on is that of step 6 of 12, where the probe was best: AUROC 0.700, 0.600 before the first step."),
    ("trained", 6, "The encoder handed on is the trained one, behind the last step, 12. The probe, which chose nothing, was best at step 6"),
    ("average", 0, "is the slow average of the trained one, behind the last step, 12. The probe, which chose nothing, was best at step 0"),
])
def test_the_encoder_handed_on_is_named(tmp_path, result, best, said):
    values = {0: 0.6, 6: 0.7 if best else 0.5, 12: 0.5}
    html, text = make_report(make_case(**FEW), tmp_path, probed(values, best), **{"adapt.result": result, "adapt.steps": "12"})
    assert said in Page(html).text and said in text


def test_an_average_is_named_without_a_probe_and_the_trained_one_goes_without_saying(tmp_path, small_report):
    html, text = make_report(make_case(**FEW), tmp_path, **{"adapt.result": "average", "adapt.steps": "12"})
    said = "The encoder handed on is the slow average of the trained one, behind the last step, 12."
    assert said in html and said in text and not [one for one in small_report if "handed on" in one]


def test_meta_training_is_drawn_with_the_step_that_was_chosen(tmp_path, small_report):
    lines = [{"step": step, "loss": 1 / step, "validation_loss": loss, "validation_accuracy": 0.75} for step, loss in ((10, 0.7), (20, 0.5), (30, 0.6))]
    also = {"meta_train/pretrained/log.jsonl": lines, "meta_train/adapted/log.jsonl": lines[:2]}
    html, text = make_report(make_case(**FEW), tmp_path, also, **{"meta.steps": "40", "meta.patience": "1", "meta.method": "anil", "meta.learner": "linear"})
    for one in (Page(html).text, text):
        assert one.index("Meta-training on features before adaptation") < one.index("Meta-training on features after adaptation")
        assert one.count("The start handed on is that of step 20, which has the lowest loss on the validation episodes, 0.500; its accuracy on them is 75.0 %") == 2
        assert "Training stopped at step 30 of 40, behind 1 validation without a lower loss." in one and "Training stopped at step 20 of 40" in one
    assert html.count("ANIL of the linear head") == 2 and len(Page(html).links) == len(Page(small_report[0]).links) + 2
    assert not [one for one in small_report if "Meta-training" in one]


@pytest.mark.parametrize("steps, every", [(1, 1), (3, 5), (600, 50)])
def test_curves_are_drawn_of_few_and_many_steps(steps, every):
    lines = [{"step": i, "loss": 2.0 / i, "accuracy": 0.5} | ({"validation_loss": 1.0, "validation_accuracy": 0.5} if i % every == 0 else {})
             for i in range(1, steps + 1)]
    best = training_words.chosen(lines)
    assert (best and best["step"]) == (every if steps >= every else None)
    for image in (report_curves.meta_training(lines, chance=0.2, chosen=best and best["step"]),
                  report_curves.adaptation(lines, [{"step": 0, "probe_auroc": 0.5}], chosen=0)):
        assert np.ptp(np.asarray(Image.open(io.BytesIO(image)).convert("L"))) > 200
