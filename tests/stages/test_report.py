"""The report says what the results say, stands alone, and holds for odd input."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from acx_jax import config as schema
from acx_jax.contracts import Segment, StoredSegment
from acx_jax.errors import UsageError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import report, report_curves, report_inputs, report_samples, report_verdict, report_words, training_words
from acx_jax.stages.job import Job

from PIL import Image
from report_case import Case, make_case, write_case

FEW = {"strengths": {("pretrained", "proto"): 0.5}}
NASTY = '<script>alert("{}")</script> | *ünï* 日本.mp4'


class Page(HTMLParser):
    """Collects what a page refers to, its text, and the rows of its tables; fails where tags do not match."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.links, self.cells, self.text = [], [], [[]], ""
        self._open = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)
        self.cells += [[]] if tag == "tr" else []
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data


def make_report(case: Case, workdir: Path, also: dict[str, Any] | None = None, **settings: str) -> tuple[str, str]:
    """The page and the text, from a workdir that is filled with `case`, and with `also`: JSON values, or lists of lines, by path.

    The records hold grey frames.
    """
    out = workdir / "report"
    out.mkdir()
    write_case(case, workdir)
    for name, value in (also or {}).items():
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text("".join(json.dumps(line) + "\n" for line in value) if name.endswith("jsonl") else json.dumps(value))
    config = schema.with_overrides(schema.default_config(), {"name": "demo", "report.samples": "2", **settings})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_inputs.prepared, "load", lambda folder: (case.segments, case.coverage))
        patch.setattr(report_samples.prepared, "open_records", lambda folder, split: Records())
        report.run(Job(config, workdir, out, RunLog()))
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "report.md"]
    return (out / "index.html").read_text("utf-8"), (out / "report.md").read_text("utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[str, str]:
    """The page and the text of a run with one learner."""
    return make_report(make_case(**FEW), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[str, str]:
    """The page and the text of a run with all learners."""
    return make_report(make_case(), tmp_path_factory.mktemp("usual"))


class Records:
    """Record i holds twelve frames of grey i."""

    def __getitem__(self, index: int) -> dict:
        assert isinstance(index, int)
        return {"frames": np.full((12, 24, 32, 3), index, np.uint8)}


def test_page_stands_alone_and_is_well_formed(usual):
    html, _ = usual
    page = Page(html)
    assert page.links and all(link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for link in page.links)
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_table_has_the_numbers_of_the_results(usual):
    html, text = usual
    table = {}
    for row in Page(html).cells:
        table |= {row[0]: row[1:]} if row and row[0] not in table else {}  # the first table with a learner's name
    names = {"mcp": "MCP head", "proto": "prototypes", "linear": "linear head", "length": "segment length alone"}
    features = {"pretrained": " before adaptation", "adapted": " after adaptation", "none": ""}
    for row in make_case().rows:
        name = names[row["learner"]] + features[row["features"]]
        numbers = [f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_ci95']:.1f} %", f"{row['auroc']:.3f}",
                   f"{row['average_precision']:.3f}", f"{100 * row['recall_normal']:.1f} %", f"{100 * row['recall_abnormal']:.1f} %"]
        assert table[name] == numbers
        assert f"| {name} | all | all | 20 | {' | '.join(numbers)} |" in text
    assert table["chance"][:2] == ["50.0 %", "0.500"]


def test_unequal_classes_have_their_own_chance_and_a_balanced_accuracy(tmp_path):
    case = make_case(query=9, query_abnormal=3, **FEW)
    html, text = make_report(case, tmp_path)
    assert "judged on 9 other normal segments and 3 abnormal (15 were asked for; the data allow no more)" in text
    rows, page = {row[0]: row for row in Page(html).cells[::-1] if row}, Page(html)
    balanced = f"{100 * case.rows[0]['balanced_accuracy']:.1f} %"
    assert rows["chance"][1:4] == ["75.0 %", "50.0 %", "0.500"] and rows["prototypes before adaptation"][2] == balanced
    assert "Chance: accuracy 75.0 %, balanced accuracy 50.0 %, AUROC 0.500, average precision 0.3" in text and f"| {balanced} |" in text
    for said in (text, page.text):
        assert "the class that 9 of an episode's 12 are of" in said and f"{case.rows[0]['balanced_accuracy']:.3f} ± 0.010 (chance 0.500)" in said
    assert "15+5 were asked for" in make_sentences(case, {"episodes.query_abnormal": "5"})
    head, line = (next(row for row in text.splitlines() if row.startswith(start)) for start in ("| learner", "|---"))
    assert head.count("|") == line.count("|") == 11


@pytest.mark.parametrize("older", [False, True])  # an older run compared no balanced accuracy
def test_differences_show_the_balanced_accuracy_where_it_says_more(tmp_path, older):
    pair = {"row": "pretrained-proto", "other": "none-length", "accuracy": 0.2, "accuracy_ci95": 0.1, "auroc": 0.3, "auroc_ci95": 0.1}
    pair |= {} if older else {"balanced_accuracy": 0.125, "balanced_accuracy_ci95": 0.0625}
    strengths, also = {"strengths": {("pretrained", "proto"): 1.5, ("none", "length"): 0.0}}, {"evaluate/comparisons.json": [pair]}
    for equal in (True, False):
        (workdir := tmp_path / str(equal)).mkdir()
        html, text = make_report(make_case(query=9, query_abnormal=9 if equal else 3, **strengths), workdir, also)
        balanced = [] if equal else ["–" if older else "0.125 ± 0.062"]
        assert ["segment length alone", "0.200 ± 0.100", *balanced, "0.300 ± 0.100", "yes"] in Page(html).cells
        head, line, row = text[text.index("| less |"):].splitlines()[:3]
        assert head.count("|") == line.count("|") == row.count("|") == 5 + len(balanced)
        assert ("| balanced accuracy | AUROC | clear |" in head) == (not equal) and row.split(" | ")[2:-2] == balanced


def test_says_what_was_run_and_on_what(usual):
    for said in usual:
        assert "20 episodes, 2-way 2-shot" in said
        assert "judged on 5 other segments of each class (15 were asked for; the data allow no more)" in said
        assert "Kinetics-400" in said and "1,234 clips" in said
        assert "24 of 26 listed videos and 48 of 52 listed segments are used." in said
        assert "broken 1.mp4" in said and "holds no video stream" in said and "1 segment was cut to 124 frames" in said
    assert "allow no more" not in make_sentences(make_case(), {"episodes.query": "5"})


def make_sentences(case: Case, settings: dict[str, str]) -> str:
    config = schema.with_overrides(schema.default_config(), settings)
    return " ".join(report_words.what_was_run(findings_of(case), config))


def findings_of(case: Case) -> report_inputs.Findings:
    margins = {name: logit(scores) for name, scores in case.scores.items()}
    return report_inputs.Findings(tuple(case.rows), (), case.episodes, "disjoint", margins, case.segments, case.coverage, report_inputs.Training(), (), None, {})


def test_no_absolute_path_and_the_command_is_quoted(small, tmp_path_factory):
    for said in small:
        assert str(tmp_path_factory.getbasetemp()) not in said and "/home" not in said
    assert "--workdir=runs/small0 '--config.data.root=my videos' --config.adapt.steps=12" in small[1]


def probed(values: dict[int, float], best: int) -> dict[str, Any]:
    """What an adaptation with a probe leaves."""
    return {"adapt/probes.jsonl": [{"step": step, "probe_auroc": value} for step, value in values.items()],
            "adapt/summary.json": {"adapted": True, "probe": {"best_step": best, "best": values[best], "before": values[0]}}}


def test_an_encoder_that_the_probe_left_as_it_was_is_said_plainly(tmp_path, usual):
    html, text = make_report(make_case(), tmp_path, probed({0: 0.6, 6: 0.5, 12: 0.55}, 0), **{"adapt.result": "best", "adapt.steps": "12"})
    said = "The probe never got better than at step 0 (AUROC 0.600): the encoder handed on is the one it started from, so before and after are the same."
    for one in (Page(html).text, text):
        assert one.count(said) == 2 and "Adaptation raised" not in one and "no clear difference" not in one  # in the verdict and by the curve
    assert "nearest neighbours told" in html and "nearest neighbours told" not in usual[0]


@pytest.mark.parametrize("result, best, said", [
    ("best", 6, "The encoder handed on is that of step 6 of 12, where the probe was best: AUROC 0.700, 0.600 before the first step."),
    ("trained", 6, "The encoder handed on is the trained one, behind the last step, 12. The probe, which chose nothing, was best at step 6"),
    ("average", 0, "is the slow average of the trained one, behind the last step, 12. The probe, which chose nothing, was best at step 0"),
])
def test_the_encoder_handed_on_is_named(tmp_path, result, best, said):
    values = {0: 0.6, 6: 0.7 if best else 0.5, 12: 0.5}
    html, text = make_report(make_case(**FEW), tmp_path, probed(values, best), **{"adapt.result": result, "adapt.steps": "12"})
    assert said in Page(html).text and said in text


def test_an_average_is_named_without_a_probe_and_the_trained_one_goes_without_saying(tmp_path, small):
    html, text = make_report(make_case(**FEW), tmp_path, **{"adapt.result": "average", "adapt.steps": "12"})
    said = "The encoder handed on is the slow average of the trained one, behind the last step, 12."
    assert said in html and said in text and not [one for one in small if "handed on" in one]


def test_meta_training_is_drawn_with_the_step_that_was_chosen(tmp_path, small):
    lines = [{"step": step, "loss": 1 / step, "validation_loss": loss, "validation_accuracy": 0.75} for step, loss in ((10, 0.7), (20, 0.5), (30, 0.6))]
    also = {"meta_train/pretrained/log.jsonl": lines, "meta_train/adapted/log.jsonl": lines[:2]}
    html, text = make_report(make_case(**FEW), tmp_path, also, **{"meta.steps": "40", "meta.patience": "1", "meta.method": "anil", "meta.learner": "linear"})
    for one in (Page(html).text, text):
        assert one.index("Meta-training on features before adaptation") < one.index("Meta-training on features after adaptation")
        assert one.count("The start handed on is that of step 20, which has the lowest loss on the validation episodes, 0.500; its accuracy on them is 75.0 %") == 2
        assert "Training stopped at step 30 of 40, behind 1 validation without a lower loss." in one and "Training stopped at step 20 of 40" in one
    assert html.count("ANIL of the linear head") == 2 and len(Page(html).links) == len(Page(small[0]).links) + 2
    assert not [one for one in small if "Meta-training" in one]


@pytest.mark.parametrize("steps, every", [(1, 1), (3, 5), (600, 50)])
def test_curves_are_drawn_of_few_and_many_steps(steps, every):
    lines = [{"step": i, "loss": 2.0 / i, "accuracy": 0.5} | ({"validation_loss": 1.0, "validation_accuracy": 0.5} if i % every == 0 else {})
             for i in range(1, steps + 1)]
    best = training_words.chosen(lines)
    assert (best and best["step"]) == (every if steps >= every else None)
    for image in (report_curves.meta_training(lines, chance=0.2, chosen=best and best["step"]),
                  report_curves.adaptation(lines, [{"step": 0, "probe_auroc": 0.5}], chosen=0)):
        assert np.ptp(np.asarray(Image.open(io.BytesIO(image)).convert("L"))) > 200


def test_names_of_videos_cannot_break_the_page(tmp_path):
    html, text = make_report(make_case(name=NASTY, **FEW), tmp_path)
    page = Page(html)
    assert "script" not in page.tags
    assert any(NASTY.format(i) in page.text for i in range(24))
    line = next(line for line in text.splitlines() if "日本" in line)
    assert r"\<script\>" in line and r"\|" in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 7


def test_long_lists_are_capped_with_their_count(tmp_path):
    html, text = make_report(make_case(skipped=300, **FEW), tmp_path)
    for said in (html, text):
        assert said.count("holds no video stream") == 50
        assert "and 250 more" in said
    assert "300 left out" in html and "Left out (300)" in text


def test_nothing_left_out_one_learner_no_adaptation_one_query_no_auroc(tmp_path):
    case = make_case(strengths={("pretrained", "proto"): 0.5}, skipped=0, steps=0, shot=1, query=1)
    case = case._replace(rows=[row | {"auroc": None, "accuracy_ci95": math.nan} for row in case.rows])
    html, text = make_report(case, tmp_path, **{"adapt.steps": "0"})
    for said in (Page(html).text, text):
        assert "Nothing was left out." in said and "was not adapted" in said and "nan" not in said.lower()
        assert "judged on 1 other segment of each class" in said
    assert "Adaptation raised" not in html and "clear of chance" not in html


def test_rows_of_categories_stand_apart_from_the_whole(tmp_path):
    case = make_case(**FEW)
    case = case._replace(rows=case.rows + [case.rows[0] | {"category": "<i>hit & run", "accuracy": 1.0}])
    html, text = make_report(case, tmp_path)
    assert "By category (1 rows)" in html and "&lt;i&gt;hit &amp; run" in html
    assert r"| \<i\>hit & run | all |" in text
    assert "The highest accuracy is 100.0" not in html


def test_without_results_the_error_names_the_stage_to_run(tmp_path):
    with pytest.raises(UsageError, match="--stage=evaluate"):
        make_report(make_case(**FEW)._replace(rows=[]), tmp_path)


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


def test_judged_segments_are_those_asked_for_by_their_true_class():
    episodes = make_case(shot=1, query=1, count=3).episodes._replace(query=np.array([[0, 2], [0, 3], [1, 2]], np.int32))
    scores = np.array([[0.1, 0.9], [0.3, 0.2], [np.nan, 0.5]], np.float32)
    judged = report_samples.judge(episodes, scores)
    assert [one.index for one in judged] == [3, 2, 0]  # segment 1 has no score
    assert [one.score for one in judged] == pytest.approx([0.2, 0.7, 0.8])
    assert [one.episodes for one in judged] == [1, 2, 2]


@pytest.mark.parametrize("judged, count", [(0, 3), (1, 3), (4, 3), (20, 3), (20, 0)])
def test_no_segment_is_among_the_best_and_the_worst(judged, count):
    order = [report_samples.Judged(i, i / 20, 1) for i in range(judged)]
    best, worst = report_samples.best_and_worst(order, count)
    assert not set(best) & set(worst) and len(best) <= count and len(worst) <= count
    assert len(best) + len(worst) == min(judged, 2 * count)
    assert all(b.score > w.score for b in best for w in worst)


@pytest.mark.parametrize("records", [1, 2, 5])
def test_shown_frames_run_from_the_first_to_the_last(monkeypatch, records):
    monkeypatch.setattr(report_samples.prepared, "open_records", lambda folder, split: Counted())
    monkeypatch.setattr(report_samples, "_jpeg", lambda frame: int(frame[0, 0, 0]))
    stored = StoredSegment(Segment("a.mp4", 0, 99, 0), 100, 10, records)
    shown = report_samples.show([report_samples.Judged(0, 0.5, 1)], (stored,), Path())[0].jpegs
    assert len(shown) == report_samples.FRAMES
    assert shown[0] == 100 and shown[-1] == 10 * (10 + records - 1) + 9
    assert list(shown) == sorted(set(shown))


class Counted:
    """Record i holds ten frames, of the grey values 10 i to 10 i + 9."""

    def __getitem__(self, index: int) -> dict:
        return {"frames": np.arange(10 * index, 10 * index + 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)}


def test_two_reports_of_one_run_are_the_same(small, tmp_path):
    workdir = tmp_path / "small0"
    workdir.mkdir()
    assert make_report(make_case(**FEW), workdir) == small


def test_settings_are_the_part_this_stage_depends_on():
    assert report.settings(schema.default_config()) == {"samples": 6, "reported": "mean"}


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


def test_a_measure_with_its_interval():
    row = {"f1": 0.5, "f1_ci95": 0.0312, "mcc": float("nan"), "mcc_ci95": 0.1}
    assert [report_words.with_interval(row, name) for name in ("f1", "mcc", "ece")] == ["0.500 ± 0.031", "–", "–"]
