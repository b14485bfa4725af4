"""Videos in the folders normal/ and abnormal/, and the sources beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from media import grey_frames, touch, write_frames, write_table

from acx_jax.contracts import ABNORMAL, NORMAL, TO_THE_END
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.listing import fingerprint
from acx_jax.errors import UsageError


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "normal/a 10.mp4", "normal/a 9.MP4", "normal/.DS_Store", "normal/Thumbs.db", "normal/notes.txt", "abnormal/é.avi", "abnormal/1.jpg")
    write_frames(tmp_path / "abnormal" / "frames1", grey_frames(2))
    (tmp_path / "abnormal" / "nothing").mkdir()
    listing = list_folder(tmp_path)
    assert [(s.video, s.start, s.end, s.label, s.source) for s in listing.segments] == [
        (name, 0, TO_THE_END, label, name) for name, label in [
            ("normal/a 9.MP4", NORMAL), ("normal/a 10.mp4", NORMAL), ("abnormal/frames1", ABNORMAL), ("abnormal/é.avi", ABNORMAL)]]
    assert listing.skipped == (("abnormal/nothing", "the folder holds no images"),) and listing.missing == ("abnormal/nothing",)
    assert listing.notes == ("2 files that are no videos are ignored, e.g. normal/notes.txt",) and listing.videos_listed == 5
    assert listing.extra == ("normal/notes.txt", "abnormal/1.jpg")


def test_class_folders_in_other_cases_are_one_class_and_what_lies_elsewhere_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "normal/a.mp4", "Normal/a.mp4", "abnormal/b.mp4", "abnormal/cam/c.mp4", "extra/d.mp4", "e.mp4")
    (tmp_path / "abnormal" / "gone.mp4").symlink_to(tmp_path / "nowhere")
    listing = list_folder(tmp_path)
    assert {(s.video, s.label) for s in listing.segments} == {("normal/a.mp4", NORMAL), ("Normal/a.mp4", NORMAL), ("abnormal/b.mp4", ABNORMAL)}
    assert dict(listing.skipped) == {
        "abnormal/cam": "the folder holds no images, but 1 videos: put them beside it", "abnormal/gone.mp4": "it cannot be read: No such file or directory",
        "e.mp4": "it lies in neither normal/ nor abnormal/", "extra/d.mp4": "it lies in neither normal/ nor abnormal/"}
    assert listing.missing == ("abnormal/cam", "abnormal/gone.mp4") and (listing.videos_listed, listing.segments_listed) == (5, 5)


def test_videos_in_a_folder_that_is_taken_for_a_video_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "normal/day1/a.mp4", "normal/day1/b.mp4", "normal/day1/more/1.jpg", "normal/day1/thumb.jpg", "abnormal/c/1.jpg", "normal/cover.jpg")
    listing = list_folder(root)
    assert [s.video for s in listing.segments] == ["normal/day1", "abnormal/c"]
    reason = "it lies in normal/day1, which is one video of its images: put it beside that folder"
    assert dict(listing.skipped) == dict.fromkeys(("normal/day1/a.mp4", "normal/day1/b.mp4", "normal/day1/more"), reason)


def test_class_folders_with_sources(tmp_path: Path) -> None:
    root = touch(tmp_path, "normal/a.mp4", "normal/b.mp4", "abnormal/c.mp4")
    (root / "sources.csv").write_text("\ufeffSource, video\nhouse,normal/a.mp4\r\nhouse,./abnormal//c.mp4\n,normal/b.mp4\nhouse,gone.mp4\nhouse,normal/a.mp4\n", encoding="utf-8")
    listing = list_folder(root)
    assert {s.video: s.source for s in listing.segments} == {"normal/a.mp4": "house", "normal/b.mp4": "normal/b.mp4", "abnormal/c.mp4": "house"}
    assert listing.notes == ("sources.csv: 1 of the videos it names are not there, e.g. gone.mp4",) and listing.extra == ("sources.csv: gone.mp4",)
    before = fingerprint(listing)
    (root / "sources.csv").write_text("video,source\nnormal/a.mp4,yard\n")
    assert fingerprint(list_folder(root)) != before
    write_table(root, "normal/a.mp4,0,9,normal", "normal/b.mp4,0,9,normal", "abnormal/c.mp4,0,9,abnormal")
    assert list_folder(root).notes == ("sources.csv is not read: beside segments.csv, sources stand in its column source",)


@pytest.mark.parametrize("content, message", [
    ("video\na.mp4\n", "sources.csv has the columns video: expected video,source"), ("", "has the columns none"),
    ("video,source\na.mp4,one\na.mp4,two\n", r"gives a.mp4 two sources, 'one' \(line 2\) and 'two' \(line 3\)"),
    ("video,source\na.mp4,gate, north\nb.mp4,gate, south\n", "sources.csv, line 2 is 'a.mp4,gate,north': expected a video and its source, in quotes"),
    ("source,video\ngate\n", "line 2 is 'gate': expected a video"),
    ('video,source\na.mp4,"one\nb.mp4,two\n', "sources.csv, line 2: a cell that begins with 'one' goes on"),
])
def test_sources_that_cannot_be_understood(tmp_path: Path, content: str, message: str) -> None:
    (touch(tmp_path, "normal/a.mp4") / "sources.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        list_folder(tmp_path)


def test_one_class_folder_is_noted(tmp_path: Path) -> None:
    assert list_folder(touch(tmp_path, "normal/a.mp4")).notes == ("there is no folder abnormal/",)


def test_a_video_whose_name_is_not_utf8_is_skipped_by_name(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    for name in (b"caf\xe9.mp4", b"fine.mp4"):
        (tmp_path / "normal" / os.fsdecode(name)).write_bytes(b"x")
    listing = list_folder(tmp_path)
    assert [segment.video for segment in listing.segments] == ["normal/fine.mp4"]
    assert [skipped.reason for skipped in listing.skipped] == ["its name is not UTF-8: rename it"]
