"""The report says what the results say, stands alone, and holds for odd input."""

from __future__ import annotations

import math
import re

import pytest
from report_case import DATA, Case, make_case
from report_made import FEW, Page, findings_of, make_report

from acx_jax import config as schema
from acx_jax.errors import UsageError, WorkError
from acx_jax.stages import report, report_inputs, report_words

NASTY = '<script>alert("{}")</script> | *ünï* 日本.mp4'


def test_page_stands_alone_and_is_well_formed(usual_report):
    html, _ = usual_report
    page = Page(html)
    assert page.links and all(link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for link in page.links)
    assert "http:" not in html and "https:" not in html and "url(" not in html and "@import" not in html
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_table_has_the_numbers_of_the_results(usual_report):
    html, text = usual_report
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


def test_says_what_was_run_and_on_what(usual_report):
    for said in usual_report:
        assert "20 episodes, 2-way 2-shot" in said
        assert "judged on 5 other segments of each class (15 were asked for; the data allow no more)" in said
        assert "Kinetics-400" in said and "1,234 clips" in said
        assert "24 of 26 listed videos and 48 of 52 listed segments are used." in said
        assert "broken 1.mp4" in said and "holds no video stream" in said and "1 segment was cut to 124 frames" in said
    assert "allow no more" not in make_sentences(make_case(), {"episodes.query": "5"})


def test_coverage_and_data_hash_stand_beside_the_numbers(usual_report, tmp_path):
    beside = f"Measured on 24 of 26 listed videos, data hash {DATA}."
    (html, text), page = usual_report, Page(usual_report[0])
    assert text.count(beside) == 2 and page.text.count(beside) >= 3
    assert text.index("clear of chance") < text.index(beside) < text.index("## What was run") < text.index("## Results") < text.rindex(beside)
    assert html.index("<h2>Results") < html.index(beside, html.index("<h2>Results")) < html.index("All measures") < html.rindex(beside)
    case = make_case(**FEW)
    older = make_report(case._replace(rows=[{key: value for key, value in row.items() if key != "data"} for row in case.rows]), tmp_path)
    assert all("Measured on 24 of 26 listed videos." in said and "data hash" not in said for said in older)


def make_sentences(case: Case, settings: dict[str, str]) -> str:
    config = schema.with_overrides(schema.default_config(), settings)
    return " ".join(report_words.what_was_run(findings_of(case), config))


def test_no_absolute_path_and_the_command_is_quoted(small_report, tmp_path_factory):
    for said in small_report:
        assert str(tmp_path_factory.getbasetemp()) not in said and "/home" not in said
    assert "--workdir=runs/small0 '--config.data.root=my videos' --config.adapt.steps=12" in small_report[1]


def test_a_whitened_set_is_told_of_and_drawn(tmp_path):
    case = make_case(strengths={("pretrained", "proto"): 0.5, ("whitened", "proto"): 0.9, ("none", "length"): 0.0})
    html, text = make_report(case, tmp_path)
    assert "| prototypes whitened | all |" in text and "Whitened: " not in text and "prototypes whitened" in Page(html).text
    findings = findings_of(case)._replace(whitened={"of": "pretrained", "normals": 4000, "weight": 0.1})
    said = report_words.what_was_run(findings, schema.default_config())[-1]
    assert said == ("Whitened: the features before adaptation, in which what varies among 4,000 clips of the normal segments of the adaptation split is "
                    "scaled down (embed.whiten is 0.1).")


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


@pytest.mark.parametrize("name", ["evaluate/results.json", "adapt/summary.json", "adapt/log.jsonl"])
def test_damaged_findings_are_named(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir()
    file.write_text('{"cut": ')
    read = report_inputs.load_training if name.startswith("adapt") else report_inputs.load
    with pytest.raises(WorkError, match=f"{name} is damaged.*delete the folder of the stage that wrote it"):
        read(tmp_path)


def test_two_reports_of_one_run_are_the_same(small_report, tmp_path):
    workdir = tmp_path / "small0"
    workdir.mkdir()
    assert make_report(make_case(**FEW), workdir) == small_report


def test_settings_are_the_part_this_stage_depends_on():
    assert report.settings(schema.default_config()) == {"samples": 6, "reported": "mean"}


def test_a_measure_with_its_interval():
    row = {"f1": 0.5, "f1_ci95": 0.0312, "mcc": float("nan"), "mcc_ci95": 0.1}
    assert [report_words.with_interval(row, name) for name in ("f1", "mcc", "ece")] == ["0.500 ± 0.031", "–", "–"]
