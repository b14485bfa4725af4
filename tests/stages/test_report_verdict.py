"""What the report concludes from the numbers: no more than the paired intervals allow."""

from __future__ import annotations

import math

import pytest
from report_case import make_case
from report_made import findings_of

from acx_jax.stages import report_verdict


@pytest.mark.parametrize("pretrained, adapted, length, half, said", [
    ((0.70, 0.02), (0.80, 0.02), (0.50, 0.02), 0.02, ["80.0 ± 2.0 %, of the MCP head after", "clear of chance", "raised", "difference +10.0 ± 2.0",
                                                      "It is clearly above"]),
    ((0.80, 0.02), (0.70, 0.02), (0.78, 0.02), 0.03, ["MCP head before", "lowered", "is not clearly above", "Length alone tells"]),
    ((0.70, 0.05), (0.73, 0.05), (0.69, 0.05), 0.01, ["raised", "It is clearly above", "Length alone tells"]),  # the intervals overlap
    ((0.70, 0.02), (0.80, 0.02), (0.60, 0.02), 0.25, ["no clear difference", "is not clearly above", "Length alone tells"]),
    ((0.51, 0.02), (0.52, 0.03), (0.50, 0.02), 0.03, ["cannot be told from chance", "no clear difference", "is not clearly above"]),
    ((0.30, 0.02), (0.31, 0.02), (0.50, 0.02), 0.02, ["below chance", "no clear difference"]),
    ((0.60, math.nan), (0.90, math.nan), (0.50, 0.02), math.nan, ["cannot be told from chance", "no clear difference"]),
    ((0.70, 0.02), (0.80, 0.02), (0.50, 0.02), None, ["no clear difference", "is not clearly above"]),  # they were not compared
])
def test_verdict_claims_no_more_than_the_paired_intervals_allow(pretrained, adapted, length, half, said):
    case = make_case(strengths={("pretrained", "mcp"): 1, ("adapted", "mcp"): 1, ("none", "length"): 0})
    rows = [row | {"accuracy": value, "accuracy_ci95": half} for row, (value, half) in zip(case.rows, (pretrained, adapted, length))]
    names = [f"{row['features']}-{row['learner']}" for row in rows]
    pairs = [{"row": names[i], "other": names[j], "accuracy": rows[i]["accuracy"] - rows[j]["accuracy"], "accuracy_ci95": half}
             for i, j in ((0, 1), (0, 2), (2, 1)) if half is not None]
    verdict = " ".join(report_verdict.verdict(findings_of(case._replace(rows=rows))._replace(comparisons=tuple(pairs))))
    for words in said:
        assert words in verdict
    assert ("Length alone tells" in verdict) == ("Length alone tells" in said)


def test_differences_are_of_the_best_row_less_the_others():
    case = make_case()
    best = max((row for row in case.rows if row["learner"] != "length"), key=lambda row: row["accuracy"])
    own = f"{best['features']}-{best['learner']}"
    others = [f"{row['features']}-{row['learner']}" for row in case.rows if row is not best]
    pairs = [{"row": own, "other": others[0], "accuracy": 0.2, "accuracy_ci95": 0.1, "auroc": 0.3, "auroc_ci95": 0.1},
             {"row": others[1], "other": own, "accuracy": -0.05, "accuracy_ci95": 0.1, "auroc": 0.02, "auroc_ci95": 0.1},
             {"row": others[0], "other": others[1], "accuracy": 9, "accuracy_ci95": 9, "auroc": 9, "auroc_ci95": 9}]
    findings = findings_of(case)._replace(comparisons=tuple(pairs))
    found = report_verdict.against_best(findings)
    assert [(pair["accuracy"], pair["auroc"], pair["apart"]) for pair in found] == [(0.2, 0.3, True), (0.05, -0.02, False)]
    assert report_verdict.against_best(findings._replace(rows=())) == []


@pytest.mark.parametrize("features, before", [(("pretrained", "adapted"), "adapted"), (("pretrained",), "pretrained")])
def test_whitening_is_held_against_the_set_that_was_whitened(features, before):
    case = make_case(strengths={(name, learner): 1 for name in (*features, "whitened") for learner in ("mcp", "proto")})
    values = {"pretrained": 0.6, "adapted": 0.7, "whitened": 0.8}
    rows = [row | {"accuracy": values[row["features"]], "accuracy_ci95": 0.02} for row in case.rows]
    pairs = [{"row": f"{before}-{learner}", "other": f"whitened-{learner}", "accuracy": values[before] - 0.8, "accuracy_ci95": half}
             for learner, half in (("mcp", 0.05), ("proto", 0.3))]
    found = report_verdict.verdict(findings_of(case._replace(rows=rows))._replace(comparisons=tuple(pairs)))
    change = f"{100 * values[before]:.1f} ± 2.0 % → 80.0 ± 2.0 %; difference +{100 * (0.8 - values[before]):.1f}"
    assert f"Whitening by normal videos raised the accuracy of the MCP head ({change} ± 5.0)." in found
    assert f"Whitening by normal videos made no clear difference to prototypes ({change} ± 30.0)." in found
    assert not any("Whitening" in said for said in report_verdict.verdict(findings_of(make_case())))
