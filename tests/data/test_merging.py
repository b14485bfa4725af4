"""From the parts of videos to the files of one data set, also where it was interrupted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from media import grey_frames, write_frames
from PIL import ImageOps
from recording import build, listed, read_as

from acx_jax.data import decode, prepared
from acx_jax.data.builders import clips, parts, records


def test_large_data_lie_in_several_files_in_order(tmp_path: Path, monkeypatch) -> None:
    for i in range(7):
        write_frames(tmp_path / "in" / "normal" / f"{i}", grey_frames(10 + i, (16, 16)), suffix=".bmp")
    built = {}
    for name, few, size, files in (("few", 7, 1, 7), ("one", 6, 512_000_000, 1), ("many", 6, 20_000, 3)):
        monkeypatch.setattr(records, "FEW", few)
        monkeypatch.setattr(records, "SHARD_BYTES", size)
        built[name] = build(tmp_path / "in", tmp_path / name)
        assert len(list((tmp_path / name / "records").rglob("*array_record-*"))) == files and not list((tmp_path / name / "parts").glob("*.array_record"))
    assert built["few"] == built["one"] == built["many"]
    for one, *others in zip(*(map(prepared.open_records(tmp_path / name, "evaluate").__getitem__, range(7)) for name in built), strict=True):
        assert all(one["video"] == other["video"] and np.array_equal(one["frames"], other["frames"]) for other in others)


def test_a_merge_goes_on_where_it_was_and_a_lost_part_is_read_again(tmp_path: Path, monkeypatch) -> None:
    for i in range(6):
        write_frames(tmp_path / "in" / "normal" / f"{i}", grey_frames(10, (16, 16)), suffix=".bmp")
    monkeypatch.setattr(records, "FEW", 0)
    monkeypatch.setattr(records, "SHARD_BYTES", 8_000)
    whole = build(tmp_path / "in", tmp_path / "whole")
    merged, merge = [], records.parts.merge

    def breaks(tasks, parts, file):
        if len(merged) == 2:
            raise KeyboardInterrupt
        merged.append(file.name)
        merge(tasks, parts, file)

    monkeypatch.setattr(records.parts, "merge", breaks)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "in", tmp_path / "again")
    first = merged.copy()
    merged[:] = ["x"]
    monkeypatch.setattr(records.parts, "merge", lambda tasks, parts, file: (merged.append(file.name), merge(tasks, parts, file)))
    next((tmp_path / "again" / "parts").glob("*.array_record")).unlink()
    read, write = [], records.parts.write
    monkeypatch.setattr(records.parts, "write", lambda task, beat: (read.append(task.video.name), write(task, beat))[1])
    assert build(tmp_path / "in", tmp_path / "again") == whole
    assert len(first) == 2 and not set(first) & set(merged) and len(prepared.open_records(tmp_path / "again", "evaluate")) == 6
    assert len(read) == 1


def test_a_file_of_other_videos_is_not_taken_for_a_merged_one_though_it_has_as_many_records(tmp_path: Path, monkeypatch) -> None:
    for i in range(3):
        write_frames(tmp_path / "in" / "normal" / f"{i}", grey_frames(10, (16, 16), step=5 + i), suffix=".bmp")
    whole, merge = build(tmp_path / "in", tmp_path / "whole"), records.parts.merge

    def breaks(tasks, parts, file):
        if tasks[0].video.name == "normal/2":
            raise KeyboardInterrupt
        merge(tasks, parts, file)

    monkeypatch.setattr(records.parts, "merge", breaks)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "in", tmp_path / "again")
    monkeypatch.setattr(records.parts, "merge", merge)
    first, second = sorted((tmp_path / "again").rglob("clips-evaluate*"))
    first.write_bytes(second.read_bytes())
    assert build(tmp_path / "in", tmp_path / "again") == whole
    assert [record["video"] for record in prepared.open_records(tmp_path / "again", "evaluate")] == [b"normal/0", b"normal/1", b"normal/2"]
    (tmp_path / "other").write_bytes(b"no records")
    assert parts.ends(tmp_path / "other") == parts.ends(tmp_path / "absent") == (0, "", "")


def test_a_merged_file_of_parts_read_in_another_way_is_made_anew(tmp_path: Path, monkeypatch) -> None:
    for i in range(2):
        write_frames(tmp_path / "in" / "normal" / f"{i}", grey_frames(10, (16, 16)), suffix=".bmp")
    merge = records.parts.merge
    monkeypatch.setattr(records.parts, "merge", lambda tasks, found, file: merge(tasks, found, file) if file.name.endswith("0-of-00002") else exit(1))
    with pytest.raises(SystemExit):
        build(tmp_path / "in", tmp_path, reduced=True)
    monkeypatch.setattr(records.parts, "merge", merge)
    monkeypatch.setattr(parts, "_SCALED", 99)
    monkeypatch.setattr(decode, "scaled", lambda image, small: ImageOps.invert(image))
    build(tmp_path / "in", tmp_path, reduced=True)
    assert [int(record["frames"][1].mean()) for record in prepared.open_records(tmp_path, "evaluate")] == [250, 250]


def test_files_of_a_merge_that_was_planned_otherwise_do_not_stay(tmp_path: Path) -> None:
    for i in range(3):
        write_frames(tmp_path / "in" / "normal" / f"{i}", grey_frames(10, (16, 16)), suffix=".bmp")
    folder = clips.ClipRecords(data_dir=tmp_path / "records", storage=clips.RAW).folder
    folder.mkdir(parents=True)
    for name in ("clips-evaluate.array_record-00000-of-00002", ".clips-evaluate.array_record-00001-of-00002.7.tmp"):
        (folder / name).write_bytes(b"of before")
    build(tmp_path / "in", tmp_path)
    assert sorted(path.name for path in folder.glob("*array_record*")) == [f"clips-evaluate.array_record-0000{i}-of-00003" for i in range(3)]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_parts_on_another_disk_are_copied(tmp_path: Path) -> None:
    write_frames(tmp_path / "in" / "normal" / "a", grey_frames(10, (16, 16)), suffix=".bmp")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (tmp_path / "parts").symlink_to(elsewhere)
        build(tmp_path / "in", tmp_path)
        assert len(prepared.open_records(tmp_path, "evaluate")) == 1 and not list(Path(elsewhere).glob("*.array_record"))


def test_parts_scaled_in_another_way_are_not_gone_on_with(tmp_path: Path, monkeypatch) -> None:
    write_frames(tmp_path / "in" / "normal" / "a", grey_frames(10))

    def name(reduced: bool) -> str:
        return records.tasks_of(listed(tmp_path / "in"), read_as()._replace(reduced=reduced), clips.RAW, tmp_path)[0].name

    scaled, whole = name(True), name(False)
    monkeypatch.setattr(parts, "_SCALED", 1)
    assert name(True) != scaled and name(False) == whole
