"""Tables that give abnormal segments to adaptation: none is trained on, all are named, and where nothing else is given the run is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from runs import bring
from test_check import pictures
from test_check_dota import RECORD

from acx_jax import config as schema
from acx_jax.contracts import NORMAL
from acx_jax.data import prepared
from acx_jax.errors import UsageError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import pipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from media import grey_frames, write_frames, write_table  # noqa: E402

REASON = "it is abnormal, and the table gives its video to adaptation, which learns from normal segments alone"
EVALUATED = ("c,0,9,normal,evaluate", "c,12,29,abnormal,evaluate", "d,0,9,normal,evaluate")


def given(root: Path, *rows: str) -> Path:
    for i, name in enumerate("abcd"):
        pictures(root / name, i, count=30)
    return write_table(root, *rows, *EVALUATED, header="video,start,end,label,split")


def adapting(workdir: Path) -> set:
    return {s.segment[:4] for s in prepared.load(workdir / "prepare")[0] if s.segment.split == "adapt"}


SMALL = {"data.short_side": 16, "encoder.crop": 16, "encoder.arch": "r2plus1d_tiny", "encoder.weights": "random", "encoder.stage": "", "adapt.freeze": ""}


@pytest.mark.parametrize("split", ["official", "published"])
def test_they_are_left_out_by_name(tmp_path: Path, split: str) -> None:
    root = given(tmp_path / "in", "a,0,9,normal,adapt", "a,12,29,abnormal,", "b,0,29,abnormal,adapt")
    said = bring("prepare", SMALL, root, tmp_path, data__split=split)
    bring("check", SMALL, root, tmp_path, data__split=split)
    assert adapting(tmp_path) == {("a", 0, 9, NORMAL)} | ({("c", 0, 9, NORMAL), ("d", 0, 9, NORMAL)} if split == "published" else set())
    left_out = [("abnormal segment 12..29 of a", REASON), ("abnormal segment 0..29 of b", REASON)]
    assert list(prepared.load(tmp_path / "prepare")[1].skipped) == left_out and "are not used" not in said
    coverage = json.loads((tmp_path / "check" / "check.json").read_text())["coverage"]
    assert coverage["skipped"] == [list(item) for item in left_out]


def test_where_sources_decide_the_table_does_not(tmp_path: Path) -> None:
    root = given(tmp_path / "in", "a,0,9,normal,adapt", "a,12,29,abnormal,adapt", "b,0,29,abnormal,adapt")
    bring("prepare", SMALL, root, tmp_path, data__split="source")
    stored, coverage = prepared.load(tmp_path / "prepare")
    assert all(s.segment.label == NORMAL for s in stored if s.segment.split == "adapt") and not coverage.skipped


def refused(goal: str, root: Path, workdir: Path, **values) -> str:
    config = schema.from_flat(SMALL | {"data.root": str(root)} | {k.replace("__", "."): v for k, v in values.items()})
    with pytest.raises(UsageError) as caught:
        pipeline.bring_up_to_date(goal, config=config, workdir=workdir, log=RunLog(terminal=io.StringIO()))
    return str(caught.value)


@pytest.mark.parametrize("goal", ["all", "check", "adapt"])
def test_where_nothing_else_is_given_the_run_is_refused(tmp_path: Path, goal: str) -> None:
    root = given(tmp_path / "in", "a,0,9,abnormal,adapt", "a,10,19,abnormal,adapt", "b,0,20,abnormal,adapt", "b,21,29,abnormal,adapt")
    said = refused(goal, root, tmp_path)
    assert "segments.csv gives adaptation (split adapt) no normal segment that can be used: abnormal segment 0..9 of a; abnormal segment 10..19 of a; " in said
    assert "; and 1 more." in said and "--config.adapt.steps=0" in said and not (tmp_path / goal).exists()
    assert "leakage" in bring("check", SMALL, root, tmp_path, adapt__steps=0)
    assert "leakage" in bring("check", SMALL, root, tmp_path, data__exclude=("a", "b"))


def test_normal_ones_that_share_frames_with_abnormal_ones_are_none(tmp_path: Path) -> None:
    root = given(tmp_path / "in", "a,0,20,normal,adapt", "a,20,29,abnormal,adapt", "gone,0,29,normal,adapt")
    said = refused("check", root, tmp_path)
    assert "line 2 (a 0..20): overlaps with the abnormal segment 20..29 of a" in said and "line 4 (gone 0..29): no video file" in said
    more = given(tmp_path / "more", "a,0,20,normal,adapt", "a,20,29,abnormal,", "a,1,8,normal,")  # the rows that are left have the split of their video
    bring("prepare", SMALL, more, tmp_path)
    assert adapting(tmp_path) == {("a", 1, 8, NORMAL)}


def test_of_official_splits_they_are_expected(tmp_path: Path) -> None:
    for subset in ("train", "val"):
        write_frames(tmp_path / "in" / "frames" / f"{subset}_1", grey_frames(40), suffix=".jpg")
        (tmp_path / "in" / f"metadata_{subset}.json").write_text(json.dumps({f"{subset}_1": RECORD | {"subset": subset}}))
    said = bring("prepare", SMALL, tmp_path / "in", tmp_path, data__builder="dota", data__fps=10.0)
    assert adapting(tmp_path) == {("train_1", 0, 11, NORMAL)} and not prepared.load(tmp_path / "prepare")[1].skipped
    assert "1 abnormal segments of adaptation videos are not used" in said
