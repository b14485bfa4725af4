"""DoTA's frames: folders that are counted wrongly, and raw videos that are cut."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from dota_case import RECORD, add_frames, listed, write_metadata
from media import grey_frames, write_frames, write_video

from acx_jax.config import from_flat
from acx_jax.contracts import NORMAL
from acx_jax.data import prepared
from acx_jax.data.decode import DecodeError, frames
from acx_jax.errors import UsageError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import prepare
from acx_jax.stages.job import Job


def test_frames_with_a_hole_or_a_late_start_are_skipped(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {f"{n}_1": RECORD for n in "abcd"}), "a_1", "b_1", "c_1")
    (root / "frames" / "a_1" / "000007.jpg").unlink()
    for i in range(3):
        (root / "frames" / "b_1" / f"{i:06d}.jpg").unlink()
    (root / "frames" / "d_1").mkdir()
    said = dict(listed(root).skipped)
    assert said == {"a_1": "1 frames are missing, the first is number 7", "d_1": "the folder holds no images",
                    "b_1": "its first frame is number 3: the ones before it are missing"}


def shift(folder: Path) -> None:
    """Counts frames from 1."""
    for file in sorted(folder.iterdir(), reverse=True):
        file.rename(folder / f"{int(file.stem) + 1:06d}.jpg")


@pytest.mark.parametrize("change, reason", [
    (lambda folder: (folder / "000000.jpg").unlink(), "its first frame is number 1, and it has 39 of 40, counted from 0: frame 0 is missing"),
    (shift, ""),  # all of them
    (lambda folder: (folder / "000039.jpg").unlink(), ""),  # shorter than it is said to be
    (lambda folder: (folder / "000005.png").write_bytes(b"png"), "000005.jpg and 000005.png are one frame: take one away"),
    (lambda folder: (folder / "05.jpg").write_bytes(b"jpeg"), "000005.jpg and 05.jpg are one frame: take one away"),
    (lambda folder: (folder / "000003 (1).jpg").write_bytes(b"jpeg"), "000003 (1).jpg would count as a frame, and its name is no number"),
    (lambda folder: [file.rename(folder / f"frame_{file.name}") for file in sorted(folder.iterdir())[1:]], "frame_000001.jpg would count as a frame"),
    (lambda folder: [file.rename(folder / f"frame_{file.name}") for file in sorted(folder.iterdir())], ""),
    (lambda folder: (folder / "000039.jpg").rename(folder / "1000000000000.jpg"), "999999999961 frames are missing, the first is number 39"),
    (lambda folder: [file.rename(folder / f"17{file.stem}0000.jpg") for file in sorted(folder.iterdir())], "its first frame is number 170000000000:"),
])
def test_frames_that_would_be_counted_wrongly_are_skipped(tmp_path: Path, change, reason: str) -> None:
    root = add_frames(write_metadata(tmp_path, {"a_1": RECORD, "b_1": RECORD}), "a_1", "b_1")
    change(root / "frames" / "a_1")
    listing = listed(root)
    assert len(listing.segments) == (2 if reason else 4)
    assert [(item, why[:len(reason)]) for item, why in listing.skipped] == ([("a_1", reason)] if reason else [])


def test_a_tree_of_frames_that_count_from_1_is_read(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {"a_1": RECORD, "b_1": RECORD}), "a_1", "b_1", count=38)
    for name in ("a_1", "b_1"):
        shift(root / "frames" / name)
    assert len(listed(root).segments) == 4 and not listed(root).skipped


def test_raw_videos_are_cut_where_the_annotation_says(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "a.mp4", grey_frames(180, step=1), rate=30)
    root = write_metadata(tmp_path, {"a_000011": RECORD | {"video_start": 11, "num_frames": 30}})
    with pytest.raises(UsageError, match="config.data.fps is 0, but DoTA is annotated at 10"):
        listed(root, fps=0.0)
    listing = listed(root)
    assert listing.offsets == {"a_000011": 10} and listing.paths["a_000011"].name == "a.mp4"
    cut = list(frames(listing.paths["a_000011"], fps=10.0, first=10))
    whole = list(frames(listing.paths["a_000011"], fps=10.0))
    assert len(whole) == 60 and len(cut) == 50 and all(np.array_equal(a, b) for a, b in zip(cut, whole[10:]))


def test_what_is_annotated_behind_the_end_of_a_part_is_not_read_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    (tmp_path / "videos" / "b_000011.mp4").write_bytes(b"x")  # a file of its own says itself where it ends
    lengths = {"a_000011": 14, "a_000061": 20, "a_000099": 9, "b_000011": 14}
    write_metadata(tmp_path, {name: RECORD | {"num_frames": frames} for name, frames in lengths.items()})
    listing = listed(tmp_path)
    assert [(s.video, s.start, s.end) for s in listing.segments] == [
        ("a_000011", 0, 11), ("a_000061", 12, 19), ("a_000061", 0, 11), ("b_000011", 12, 19), ("b_000011", 0, 11)]
    assert dict(listing.skipped) == {"abnormal segment 12..19 of a_000011": "it ends beyond the video's last frame, 13",
                                     "abnormal segment 12..19 of a_000099": "it starts beyond the video's last frame, 8",
                                     "normal segment 0..11 of a_000099": "it ends beyond the video's last frame, 8"}
    assert (listing.videos_listed, listing.segments_listed, listing.missing) == (4, 8, ())
    assert [note.split(":")[0] for note in listing.notes] == ["b_000011"]  # the others are said to be left out


@pytest.mark.parametrize("first", [0, 1, 12, 37, 59, 60, 200])
@pytest.mark.parametrize("fps", [0.0, 10.0, 7.3])
def test_frames_from_the_middle_are_those_of_the_whole(tmp_path_factory, first: int, fps: float) -> None:
    path = tmp_path_factory.getbasetemp() / "long.mp4"
    if not path.exists():
        write_video(path, grey_frames(180, step=1), rate=25)
    whole = list(frames(path, fps=fps))
    if first >= len(whole):
        with pytest.raises(DecodeError, match=f"it ends before frame {first}"):
            list(frames(path, fps=fps, first=first))
        return
    part = list(frames(path, fps=fps, first=first))
    assert len(part) == len(whole) - first and all(np.array_equal(a, b) for a, b in zip(part, whole[first:]))


def test_frames_and_raw_videos_are_prepared(tmp_path: Path) -> None:
    root = write_metadata(tmp_path / "in", {"a_000011": RECORD | {"video_start": 11}, "b_000001": RECORD | {"subset": "val"},
                                            "c_000001": RECORD})
    write_video(root / "videos" / "a.mp4", grey_frames(180, (48, 32), step=1), rate=30)
    write_frames(root / "frames" / "b_000001", grey_frames(15, (48, 32)), suffix=".jpg")  # too few for its anomaly
    values = {"data.builder": "dota", "data.root": str(root), "data.fps": 10.0, "data.short_side": 32, "encoder.crop": 32,
              "data.max_bad_share": 0.5}
    out, said = tmp_path / "out", io.StringIO()
    out.mkdir()
    prepare.run(Job(from_flat(values), out, out, RunLog(terminal=said)))
    stored, coverage = prepared.load(out)
    assert [(s.segment.video, s.segment.label, s.frames, s.segment.split) for s in stored] == [
        ("a_000011", NORMAL, 12, "adapt"), ("b_000001", NORMAL, 12, "evaluate")]
    first = prepared.open_records(out, "adapt")[0]["frames"]
    assert np.abs(first.mean(axis=(1, 2, 3)) - 3 * np.arange(10, 22)).max() < 3  # frame 10 at 10 a second is frame 30 of the file
    assert (coverage.videos_listed, coverage.videos_used) == (3, 2) and "1 of 3 listed videos are missing" in " ".join(coverage.notes)
    reasons = {item: reason for item, reason in coverage.skipped}
    assert reasons["abnormal segment 12..19 of b_000001"] == "it ends beyond the video's last frame, 14"
    assert "it is not there" in reasons["c_000001"]
