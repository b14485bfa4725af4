"""Reports of made-up workdirs: the page and the text, and how a page is read."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_case import Case, write_case
from scipy.special import logit

from acx_jax import config as schema
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import report, report_inputs, report_samples
from acx_jax.stages.job import Job

FEW = {"strengths": {("pretrained", "proto"): 0.5}}


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


class Records:
    """Record i holds twelve frames of grey i."""

    def __getitem__(self, index: int) -> dict:
        assert isinstance(index, int)
        return {"frames": np.full((12, 24, 32, 3), index, np.uint8)}


def findings_of(case: Case) -> report_inputs.Findings:
    margins = {name: logit(scores) for name, scores in case.scores.items()}
    return report_inputs.Findings(tuple(case.rows), (), case.episodes, "disjoint", margins, case.segments, case.coverage, report_inputs.Training(), (), None, {})
