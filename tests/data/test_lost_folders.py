"""Folders that are linked from where they are gone, or cannot be looked into, are named: what they hold is not known."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from media import write_table

from acx_jax.data.builders.features import list_features
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.named import list_data
from acx_jax.errors import UsageError

RECORD = {"anomaly_start": 2, "anomaly_end": 3, "anomaly_class": "ego: turning", "num_frames": 3, "subset": "train"}
PLACES = {"bdd100k": "part1/a.mp4", "kinetics": "run/a.mp4", "folder": "normal/a.mp4", "dota": "frames/A_1/000000.jpg", "ucf_crime": "Training/Normal_001.mp4"}


@pytest.fixture(params=PLACES)
def tree(tmp_path: Path, request) -> tuple[Path, str]:
    """A data set of each kind, with one video."""
    place = tmp_path / PLACES[request.param]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    (tmp_path / "metadata_train.json").write_text(json.dumps({"A_1": RECORD}))
    (tmp_path / "Temporal_Anomaly_Annotation_for_Testing_Videos.txt").write_text("Abuse001_x264.mp4 Abuse 1 9 -1 -1\n")
    return tmp_path, request.param


def listed(root: Path, builder: str) -> Listing:
    return list_data(builder, root, split="official", fps=10.0, annotations="all")


def test_links_to_folders_that_are_gone_are_named(tree) -> None:
    root, builder = tree
    before = listed(root, builder)
    (root / "part2").symlink_to("/mnt/unmounted")
    (root / "more").mkdir()
    (root / "more" / "part.3").symlink_to("loop")
    (root / "more" / "loop").symlink_to("part.3")
    (root / ".hidden").symlink_to("gone")
    after = listed(root, builder)
    new = dict(set(after.skipped) - set(before.skipped))
    assert new == {"part2": "it is a link to /mnt/unmounted, which is not there", "more/part.3": "it is a link to loop, which is not there",
                   "more/loop": "it is a link to part.3, which is not there"}
    assert before.segments == after.segments and before.missing == after.missing


@pytest.fixture
def broken(monkeypatch) -> list[str]:
    """Names of folders that cannot be listed; none at first."""
    names: list[str] = []
    whole = os.scandir

    def scandir(path="."):
        if Path(path).name in names:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return names


def test_folders_that_cannot_be_listed_are_named(tree, broken) -> None:
    root, builder = tree
    (root / "more" / "bad").mkdir(parents=True)
    before = listed(root, builder)
    broken.append("bad")
    after = listed(root, builder)
    assert set(after.skipped) - set(before.skipped) == {("more/bad", "the folder cannot be looked into: Input/output error")}


def test_class_folders_and_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "a.mp4").write_bytes(b"x")
    (tmp_path / "normal" / "cam2").symlink_to("gone")
    (tmp_path / "normal" / "poster.jpg").symlink_to("gone.jpg")
    (tmp_path / "abnormal").symlink_to("/mnt/gone")
    listing = listed(tmp_path, "folder")
    assert dict(listing.skipped) == {"normal/cam2": "it cannot be read: No such file or directory",
                                     "abnormal": "it is a link to /mnt/gone, which is not there"}
    assert listing.missing == ("normal/cam2",) and listing.videos_listed == 2
    assert listing.notes == ("abnormal/ is not there: it is a link to /mnt/gone, which is not there",
                             "1 files that are no videos are ignored, e.g. normal/poster.jpg")
    (tmp_path / "normal").rename(tmp_path / "other")
    with pytest.raises(UsageError, match=r"holds abnormal \(it is a link to /mnt/gone, which is not there\), other: expected"):
        listed(tmp_path, "folder")


def test_links_to_other_files_are_named_and_are_no_videos_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "a.mp4").write_bytes(b"x")
    (tmp_path / "normal" / "notes.txt").symlink_to("gone.txt")
    (tmp_path / "normal" / "day.02").symlink_to("gone")
    listing = listed(tmp_path, "folder")
    assert listing.missing == ("normal/day.02",) and listing.videos_listed == 2 and listing.extra == ("normal/notes.txt",)
    assert dict(listing.skipped)["normal/notes.txt"] == "it is a link to gone.txt, which is not there"


def test_a_table_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "frames").symlink_to("gone")
    listing = listed(write_table(tmp_path, "a.mp4,0,9,normal"), "folder")
    assert listing.skipped == (("frames", "it is a link to gone, which is not there"),) and not listing.notes


def test_features(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    np.save(tmp_path / "normal" / "a.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "normal" / "b.npy").symlink_to("gone.npy")
    (tmp_path / "abnormal").symlink_to("/mnt/gone")
    listing = list_features(tmp_path).listing
    assert [s.video for s in listing.segments] == ["a"] and (listing.segments_listed, listing.missing) == (2, ("b",))
    said = dict(listing.skipped)
    assert said.pop("abnormal") == "it is a link to /mnt/gone, which is not there" and "No such file" in said.pop("normal/b.npy") and not said


@pytest.mark.parametrize("builder", ["bdd100k", "kinetics"])
def test_where_nothing_else_is_there(tmp_path: Path, builder: str) -> None:
    (tmp_path / "part1").symlink_to("gone")
    with pytest.raises(UsageError, match="video; part1: it is a link to gone, which is not there. Expected"):
        listed(tmp_path, builder)
