from __future__ import annotations

import json
import os
import resource
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from media import grey_frames, write_frames, write_table, write_video
from recording import build, listed, read_as
from tensorflow_datasets.proto import tf_example_pb2

from acx_jax.contracts import NORMAL, Coverage, Segment, Skipped
from acx_jax.data import prepared
from acx_jax.data.builders import clips, reading, records
from acx_jax.data.jpegs import encode
from acx_jax.errors import WorkError
from acx_jax.runtime.workers import Died

SPLIT = "video,start,end,label,split"


def levels(record: dict, step: int = 2) -> list[int]:
    return (record["frames"].mean((1, 2, 3)) / step).round().astype(int).tolist()


def test_records_hold_the_segments_frames_in_blocks(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_frames(root / "a", grey_frames(100, step=2))
    write_video(root / "b.mp4", grey_frames(30, (64, 48), step=5))
    write_table(root, "b.mp4,3,20,normal,adapt", "a,10,95,abnormal,evaluate", "a,0,8,normal,evaluate", header=SPLIT)
    built = build(root, tmp_path)
    assert [(s.segment.video, s.segment.start, s.frames, s.first_record, s.records) for s in built.stored] == [
        ("b.mp4", 3, 18, 0, 1), ("a", 0, 9, 0, 1), ("a", 10, 86, 1, 2)]
    adapt, evaluate = (prepared.open_records(tmp_path, split) for split in ("adapt", "evaluate"))
    assert len(adapt) == 1 and levels(adapt[0], 5) == list(range(3, 21)) and adapt[0]["frames"].shape == (18, 16, 21, 3)
    assert [levels(r) for r in evaluate] == [list(range(9)), list(range(10, 78)), list(range(74, 96))]
    facts = [(r["start"], r["block"], r["first_frame"], r["label"], r["video"]) for r in (evaluate[i] for i in range(3))]
    assert facts == [(0, 0, 0, 0, b"a"), (10, 0, 0, 1, b"a"), (10, 1, 64, 1, b"a")] and evaluate[0]["frames"].dtype == np.uint8


def test_a_split_may_be_empty(tmp_path: Path) -> None:
    write_frames(tmp_path / "in" / "a", grey_frames(10))
    build(write_table(tmp_path / "in", "a,0,9,normal"), tmp_path)
    assert len(prepared.open_records(tmp_path, "adapt")) == 0 and len(prepared.open_records(tmp_path, "evaluate")) == 1


def test_long_segments_keep_their_first_frames_and_a_note_says_so(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_frames(root / "a", grey_frames(30))
    write_frames(root / "b", grey_frames(30))
    write_table(root, "a,0,29,normal,adapt", "b,0,19,normal,evaluate", "b,20,29,abnormal,evaluate", header=SPLIT)
    built = build(root, tmp_path, max_frames=12, max_adapt_frames=0)
    assert [(s.frames, s.segment.end) for s in built.stored] == [(30, 29), (12, 19), (10, 29)]
    assert built.notes == ("1 segments are longer than what is kept of them: the first 12 frames in evaluation, all in adaptation",)


def test_whole_videos_get_their_end(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "normal" / "a.mp4", grey_frames(21))
    write_frames(tmp_path / "in" / "abnormal" / "b", grey_frames(9))
    assert [s.segment.end for s in build(tmp_path / "in", tmp_path).stored] == [20, 8]


def test_one_bad_video_in_a_hundred_is_skipped_counted_and_listed(tmp_path: Path) -> None:
    frames = grey_frames(8)
    for i in range(99):
        write_frames(tmp_path / "in" / "normal" / f"{i}", frames, suffix=".bmp")
    (tmp_path / "in" / "normal" / "bad.mp4").write_bytes(b"")
    built = build(tmp_path / "in", tmp_path, max_bad_share=0.01)
    assert len(built.stored) == 99 and built.notes == ("1 of 100 listed videos are missing or cannot be read",)
    assert [item for item, _ in built.skipped] == ["normal segment 0..end of normal/bad.mp4"]
    assert "not a readable video" in built.skipped[0].reason


def test_too_many_bad_videos_stop_the_run(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_frames(root / "a", grey_frames(10))
    (root / "b.mp4").write_text("text")
    write_table(root, "a,0,9,normal", "b.mp4,0,9,normal", "gone.mp4,0,9,normal")
    with pytest.raises(WorkError, match=r"1 of 3 .*\(33%\) are missing.*more than 10%: gone.mp4.*--config.data.max_bad_share"):
        build(root, tmp_path)
    with pytest.raises(WorkError, match=r"2 of 3 .*\(67%\).*more than 40%: gone.mp4, b.mp4 .*not a readable video"):
        build(root, tmp_path, max_bad_share=0.4)
    assert len(build(root, tmp_path, max_bad_share=0.7).stored) == 1


def test_segments_complete_before_a_break_stay_and_the_video_is_not_bad(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_frames(root / "a", grey_frames(30))
    (root / "a" / "21.png").write_bytes(b"broken")
    write_table(root, "a,0,9,normal", "a,10,25,abnormal")
    built = build(root, tmp_path, max_bad_share=0.0)
    assert [s.segment.start for s in built.stored] == [0]
    assert built.skipped == (("abnormal segment 10..25 of a", built.skipped[0].reason),)
    assert "frame 20 (21.png) cannot be read" in built.skipped[0].reason


def test_frames_before_a_late_part_are_signs_of_life(tmp_path: Path) -> None:
    heard, part = [], (Segment("a", 0, 9, NORMAL, split="evaluate"),)
    late = reading.Video("a", write_video(tmp_path / "a.ts", grey_frames(50)), 40, part)  # a stream without an index: decoded from its start
    first = next(reading.read(late, read_as(fps=25.0), lambda: heard.append(None), tmp_path))
    assert levels(first, 5) == list(range(40, 50)) and len(heard) > 40


def test_a_rate_applies_to_videos_and_not_to_folders(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_video(root / "a.mp4", grey_frames(40, step=5), rate=20)
    write_frames(root / "b", grey_frames(10, step=2))
    built = build(write_table(root, "a.mp4,2,11,normal", "b,0,9,normal"), tmp_path, fps=10.0)
    assert levels(prepared.open_records(tmp_path, "evaluate")[0], 5) == list(range(4, 24, 2))
    assert built.notes == ("1 videos are folders of images: they have no times, so 10 frames a second does not apply",)


@pytest.mark.parametrize("known, notes", [(10.0, 0), (30.0, 1), (0.0, 1)])
def test_folders_known_to_be_at_the_rate_are_not_noted(tmp_path: Path, known: float, notes: int) -> None:
    write_frames(tmp_path / "in" / "b", grey_frames(10, step=2))
    listing = listed(write_table(tmp_path / "in", "b,0,9,normal"))._replace(folder_fps=known)
    assert len(records.build(listing, tmp_path / "out", read_as(fps=10.0), folder=tmp_path / "parts", max_bad_share=0.1).notes) == notes


def test_each_video_is_decoded_once(tmp_path: Path, monkeypatch) -> None:
    root, opened = tmp_path / "in", []
    for name in ("a", "b"):
        write_frames(root / name, grey_frames(40))
    write_table(root, "a,0,9,normal", "b,0,9,normal", "a,20,39,abnormal", "b,12,29,abnormal")
    decode = reading.frames
    monkeypatch.setattr(reading, "frames", lambda path, **options: (opened.append(path.name), decode(path, **options))[1])
    assert len(build(root, tmp_path).stored) == 4 and opened == ["a", "b"]


def test_tfds_is_quiet_offline_and_stays_in_its_folder(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("a connection was tried"))
    write_frames(tmp_path / "in" / "a", grey_frames(10))
    build(write_table(tmp_path / "in", "a,0,9,normal"), tmp_path)
    assert capfd.readouterr() == ("", "") and sorted(os.listdir(tmp_path)) == ["in", "parts", "records"]


def test_prepared_folder_can_be_moved_and_read_back(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_frames(root / "ä b", grey_frames(10))
    built = build(write_table(root, "ä b,0,9,normal"), tmp_path / "one")
    coverage = Coverage(2, 1, 3, 1, (Skipped("x", "why"),), ("note",))
    (tmp_path / "one" / prepared.SEGMENTS).write_text(json.dumps(prepared.to_json(built.stored, coverage, prepared.Windows(8, 4), {})))
    (tmp_path / "one").rename(tmp_path / "two")
    assert prepared.load(tmp_path / "two") == (built.stored, coverage)
    assert prepared.load_windows(tmp_path / "two") == (8, 4)
    assert prepared.open_records(tmp_path / "two", "evaluate")[0]["video"] == "ä b".encode()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), np.uint8))
    write_frames(tmp_path / "in" / "a", noise, suffix=".bmp")
    root = write_table(tmp_path / "in", "a,0,19,normal")
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(WorkError, match="records cannot be written: .*File too large"):
            build(root, tmp_path, short_side=64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_frames_stored_as_jpegs_come_back_one_by_one_nearly_the_same(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_video(root / "a.mp4", grey_frames(100, (64, 48), step=2))
    write_table(root, "a.mp4,0,99,normal")
    for name, storage in (("raw", clips.RAW), ("jpeg", clips.Storage("jpeg", 95))):
        build(root, tmp_path / name, storage=storage, short_side=32)
    raw, jpeg = (prepared.open_records(tmp_path / name, "evaluate") for name in ("raw", "jpeg"))
    assert len(raw) == len(jpeg) == 2
    for one, other in ((raw[i], jpeg[i]) for i in range(2)):
        frames, stored = one.pop("frames"), other.pop("frames")
        assert one == other and stored.shape == frames.shape and len(stored) == len(frames)
        decoded = np.asarray(stored)
        assert decoded.dtype == np.uint8 and np.abs(decoded.astype(int) - frames).max() <= 2
        np.testing.assert_array_equal(stored[3:9], decoded[3:9])
        np.testing.assert_array_equal(stored[-1], decoded[-1])
        assert stored[5:5].shape == (0, 32, 43, 3)
    sizes = [sum(path.stat().st_size for path in (tmp_path / name / "records").rglob("*array_record*")) for name in ("raw", "jpeg")]
    assert sizes[1] < sizes[0] / 2


def test_a_record_too_large_to_be_read_again_is_refused(monkeypatch) -> None:
    record = {"frames": np.zeros((2, 24, 32, 3), np.uint8), "block": 0, "first_frame": 0, "start": 0, "label": 0, "video": "a"}
    assert clips.serialised(record, clips.fields(clips.RAW), clips.RAW)
    monkeypatch.setattr(clips, "_MOST", 2 * 24 * 32 * 3 - 1)
    with pytest.raises(WorkError, match="2 frames of 32x24.*data.short_side"):
        clips.serialised(record, clips.fields(clips.RAW), clips.RAW)


def as_jpegs(record: dict) -> dict:
    data, ends, size = encode(record["frames"], 95)
    return {key: value for key, value in record.items() if key != "frames"} | {"jpeg": data, "ends": ends, "size": size}


@pytest.mark.parametrize("storage, stored", [(clips.RAW, lambda record: record), (clips.Storage("jpeg", 95), as_jpegs)])
def test_records_are_what_tfds_itself_would_write(storage: clips.Storage, stored) -> None:
    fields = clips.fields(storage)
    for shape in [(1, height, 1) for height in range(1, 50)] + [(2, 17, 31), (40, 128, 228)]:  # lengths of one to four bytes
        record = {"frames": np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8), "block": 2, "first_frame": 64, "start": 7, "label": 1, "video": "a/ü"}
        data, theirs = clips.serialised(record, fields, storage), fields.serialize_example(stored(record))
        assert tf_example_pb2.Example.FromString(data) == tf_example_pb2.Example.FromString(theirs) and clips.video_of(data) == "a/ü"
    for bad in (b"", b"no record", data[:50]):
        with pytest.raises(ValueError, match="no record"):
            clips.video_of(bad)


def test_a_video_whose_reader_died_is_listed_with_the_reason(tmp_path: Path) -> None:
    for name in "abc":
        write_frames(tmp_path / "in" / "normal" / name, grey_frames(10), suffix=".bmp")
    reading, folder = read_as(), tmp_path / "parts"
    folder.mkdir()
    tasks = records.tasks_of(listed(tmp_path / "in"), reading, clips.RAW, folder)

    def run(function, given):
        for index, result in records.serially(function, given):
            yield index, Died("its process was ended by SIGKILL") if given[index].video.name.endswith("b") else result

    found = records.read_all(tasks, run=run, refuse=lambda bad: records.check_share(listed(tmp_path / "in"), bad, 0.5), progress=lambda task: None)
    built = records.summary(listed(tmp_path / "in"), tasks, found)
    assert [s.segment.video for s in built.stored] == ["normal/a", "normal/c"]
    assert built.skipped == (Skipped("normal segment 0..end of normal/b", "its process was ended by SIGKILL"),)
    with pytest.raises(WorkError, match=r"1 of 3 .*normal/b .*ended by SIGKILL"):
        records.read_all(tasks, run=run, refuse=lambda bad: records.check_share(listed(tmp_path / "in"), bad, 0.1), progress=lambda task: None)
