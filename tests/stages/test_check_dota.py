"""The check of DoTA's raw videos, of which many annotated ones are parts."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from runs import bring
from test_check import check

from acx_jax.errors import WorkError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from media import grey_frames, write_video  # noqa: E402

RECORD = {"anomaly_start": 12, "anomaly_end": 20, "anomaly_class": "ego: turning", "num_frames": 40}


@pytest.fixture
def root(tmp_path):
    """One raw video, of whose parts one is for training and one for validation."""
    root = tmp_path / "data"
    write_video(root / "videos" / "A.mp4", grey_frames(110, step=2), rate=10)
    for subset, first in (("train", 11), ("val", 61)):
        record = RECORD | {"video_start": first, "video_end": first + 39, "subset": subset}
        (root / f"metadata_{subset}.json").write_text(json.dumps({f"A_{first:06d}": record}))
    return root


def check_dota(root: Path) -> tuple[str, dict]:
    return check(root, data__builder="dota", data__fps=10.0)


def test_parts_of_one_file_are_no_copies(root):
    _, report = check_dota(root)
    assert report["problems"] == [] and report["copies"] == [] and report["coverage"]["segments_usable"] == 4
    assert report["media"]["bytes"] == (root / "videos" / "A.mp4").stat().st_size


@pytest.mark.parametrize("first, against", [(3, "normal segment 0..11 of A_000011 and abnormal segment 12..19 of B_000003"), (41, "")])
def test_copies_of_a_file_contradict_each_other_where_their_parts_meet(root, first, against):
    shutil.copy(root / "videos" / "A.mp4", root / "videos" / "B.mp4")
    metadata = json.loads((root / "metadata_train.json").read_text())
    record = RECORD | {"video_start": first, "video_end": first + 39, "subset": "train"}
    both = RECORD | {"video_start": 90, "video_end": 110, "subset": "val"}  # as the copy: parts for training, and for validation
    (root / "metadata_train.json").write_text(json.dumps(metadata | {f"B_{first:06d}": record, "B_000090": both | {"anomaly_start": 0, "anomaly_end": 9}}))
    (root / "val_split.txt").write_text("A_000061\nB_000090\n")
    (root / "train_split.txt").write_text(f"A_000011\nB_{first:06d}\n")
    _, report = check_dota(root)
    copies, = report["copies"]
    assert copies["videos"] == ["A.mp4", "B.mp4"] and copies["same_bytes"]
    assert bool(copies["contradictions"]) == bool(against) == bool(report["problems"])
    assert against in " ".join(report["problems"])


def test_too_many_bad_annotations_end_the_run(root):
    (root / "metadata_val.json").write_text(json.dumps({"A_000061": RECORD | {"anomaly_end": "20"}}))
    _, report = check_dota(root)
    problem, = report["problems"]
    assert problem.startswith("1 of 2 videos are missing or unreadable, more than config.data.max_bad_share=0.1: A_000061: anomaly_end of its "
                              "annotation is '20', expected a whole number: repair or annotate them, take them out of the lists that name them, ")


def test_where_nothing_can_be_used_a_reason_of_each_kind_is_told(root):
    (root / "train_split.txt").write_text("A_000011\nC_000001\nC_000002\nC_000003\n")
    (root / "val_split.txt").write_text("A_000061\n")
    problem = check(root, data__builder="dota", data__fps=10.0, data__min_frames=20)[1]["problems"][0]
    assert "C_000001: it is in a split file" in problem and "abnormal segment 12..19 of A_000011: it is too short" in problem


def test_a_part_of_the_videos_is_annotated_beside_the_whole_lists(root):
    (root / "train_split.txt").write_text("A_000011\nC_000001\nC_000002\n")
    (root / "val_split.txt").write_text("A_000061\n")
    with pytest.raises(WorkError, match=r"\(C_000001: it is in a split file and has no annotation that can be used\): .* annotate them, take them out of "
                       "the lists that name them, leave them out with --config.data.exclude, or raise --config.data.max_bad_share"):
        bring("prepare", {"data.builder": "dota", "data.fps": 10.0}, root, root.parent)
