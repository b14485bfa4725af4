from __future__ import annotations

import os
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import grey_frames, touch, write_frames, write_table

from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.listing import fingerprint
from acx_jax.data.builders.named import list_data
from acx_jax.errors import UsageError


def reasons(root: Path) -> list[str]:
    return [f"{item}: {reason}" for item, reason in list_folder(root).skipped]


@pytest.mark.parametrize("name, videos, normal, abnormal", [
    ("ucsd_ped1", 11, 22, 32), ("cctv_accident", 20, 19, 18), ("dad_dashcam", 11, 33, 5)])
def test_real_tables(real_data: Path, name: str, videos: int, normal: int, abnormal: int) -> None:
    listing = list_folder(real_data / name)
    labels = [s.label for s in listing.segments]
    assert (listing.videos_listed, len(listing.paths), listing.segments_listed) == (videos, videos, normal + abnormal)
    assert (labels.count(NORMAL), labels.count(ABNORMAL), listing.skipped) == (normal, abnormal, ())


def test_all_columns_in_any_order_with_spaces(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    write_table(tmp_path, " evaluate, Abnormal ,crash, 9 , a.mp4,2, Yes, cam1", header="split, Label ,category,end,video,start,ego_involved,source")
    assert list_folder(tmp_path).segments == (Segment("a.mp4", 2, 9, ABNORMAL, "crash", "yes", "cam1", "evaluate"),)


@pytest.mark.parametrize("encode", [
    lambda text: b"\xef\xbb\xbf" + text.encode(), lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\r").encode(), lambda text: (text + "\n\n ,,, \n").encode(), lambda text: text.rstrip().encode(),
    lambda text: text.replace("\n", ",\n").encode(), lambda text: text.replace(",", ";").encode(), lambda text: text.replace(",", "\t").encode()])
def test_spreadsheet_dialects(tmp_path: Path, encode) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "segments.csv").write_bytes(encode("video,start,end,label\na.mp4,0,9,normal\na.mp4,10,19.0,ABNORMAL\n"))
    listing = list_folder(tmp_path)
    assert [s[:4] for s in listing.segments] == [("a.mp4", 0, 9, NORMAL), ("a.mp4", 10, 19, ABNORMAL)] and not listing.skipped


def test_remarks_of_several_lines(tmp_path: Path) -> None:
    write_table(touch(tmp_path, "a.mp4"), 'a.mp4,0,9,normal,"rain,\nat night"', "a.mp4,10,19,abnormal,", header="video,start,end,label,remark")
    assert len(list_folder(tmp_path).segments) == 2 and not reasons(tmp_path)


def test_source_is_the_video_where_none_is_given(tmp_path: Path) -> None:
    write_table(touch(tmp_path, "a.mp4"), "a.mp4,0,9,normal")
    assert list_folder(tmp_path).segments[0].source == "a.mp4"


def test_videos_lie_under_the_root_or_its_frames(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a b.mp4", "frames/c.mp4")
    write_frames(tmp_path / "frames" / "Straße 7", grey_frames(2))
    write_table(tmp_path, "sub/a b.mp4,0,9,normal", "c.mp4,0,9,normal", "Straße 7,0,1,abnormal")
    paths = {name: path.relative_to(tmp_path).as_posix() for name, path in list_folder(tmp_path).paths.items()}
    assert paths == {"sub/a b.mp4": "sub/a b.mp4", "c.mp4": "frames/c.mp4", "Straße 7": "frames/Straße 7"}


@pytest.mark.parametrize("disk, written", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_either_unicode_form(tmp_path: Path, disk: str, written: str) -> None:
    touch(tmp_path, unicodedata.normalize(disk, "gärten.mp4"))
    write_table(tmp_path, unicodedata.normalize(written, "gärten.mp4") + ",0,9,normal")
    assert len(list_folder(tmp_path).segments) == 1


def test_names_as_windows_writes_them(tmp_path: Path) -> None:
    touch(tmp_path, "sub/x y.mp4", "normal/a.mp4")
    write_table(tmp_path, "sub\\x y.mp4,0,9,normal", "sub/x y.mp4,10,19,abnormal", "C:\\data\\b.mp4,0,9,normal", "..\\..\\b.mp4,0,9,normal")
    assert [s.video for s in list_folder(tmp_path).segments] == ["sub/x y.mp4"] * 2
    assert all("outside the data folder" in reason for reason in reasons(tmp_path)) and len(reasons(tmp_path)) == 2
    (tmp_path / "segments.csv").unlink()
    (tmp_path / "sources.csv").write_text("video;source\r\nnormal\\a.mp4;house\r\n")
    assert [s.source for s in list_folder(tmp_path).segments] == ["house"]


def test_two_names_of_one_video_are_one_video(tmp_path: Path) -> None:
    touch(tmp_path, "frames/a.mp4")
    write_table(tmp_path, "a.mp4,0,9,normal", "./frames/a.mp4,10,19,abnormal", "frames//a.mp4,20,29,normal")
    assert {(s.video, s.source) for s in list_folder(tmp_path).segments} == {("a.mp4", "a.mp4")}


@pytest.mark.parametrize("row, reason", [
    ("a.mp4,0,9,abnromal", "line 3 .*unknown label 'abnromal', expected normal or abnormal; did you mean abnormal"),
    ("a.mp4,0,9,", "unknown label ''"),
    ("a.mp4,9,3,normal", "line 3 .a.mp4 9..3.: it is reversed"),
    ("a.mp4,-1,3,normal", "start is -1, expected 0 or more"),
    ("a.mp4,0,-1,normal", "end is -1, expected 0 or more"),
    ("a.mp4,0,2.5,normal", "end is '2.5', expected a frame number"),
    ("a.mp4,x,9,normal", "start is 'x', expected a frame number"),
    ("a.mp4,,9,normal", "start is '', expected a frame number"),
    ("a.mp4,0", "end is '', expected a frame number"),
    (",0,9,normal", "no video 0..9.*it names no video"),
    ("b.mp4,0,9,normal", "no video file and no folder of images b.mp4"),
    ("empty,0,9,normal", "empty 0..9.: the folder holds no images"),
    ("../outside.mp4,0,9,normal", "outside the data folder"),
    ("x/../../outside.mp4,0,9,normal", "outside the data folder"),
    ("/etc/passwd,0,9,normal", "outside the data folder"),
    (".,0,9,normal", "it names no video"),
    ("a,b.mp4,0,9,normal", "it has 5 cells, the header 4"),
    ("a.mp4,50,59,normal", "the same as segments.csv line 2"),
    ("n" * 300 + ",0,9,normal", "no video file"),
])
def test_a_bad_row_is_left_out_by_name_and_the_rest_stays(tmp_path: Path, row: str, reason: str) -> None:
    root = touch(tmp_path / "root", "a.mp4", "../outside.mp4")
    (root / "empty").mkdir()
    write_table(root, "a.mp4,50,59,normal", row)
    listing = list_folder(root)
    assert [s[:4] for s in listing.segments] == [("a.mp4", 50, 59, NORMAL)]
    assert listing.segments_listed == 2 and len(listing.skipped) == 1
    assert re.search(reason, reasons(root)[0]), reasons(root)


def test_segments_of_both_labels_on_one_frame_are_both_left_out(tmp_path: Path) -> None:
    write_table(touch(tmp_path, "a.mp4"), "a.mp4,0,20,normal", "a.mp4,5,8,normal", "a.mp4,20,30,abnormal", "a.mp4,31,40,normal")
    assert [s.start for s in list_folder(tmp_path).segments] == [5, 31]
    first, second = reasons(tmp_path)
    assert "line 2" in first and "overlaps with the abnormal segment 20..30 of a.mp4 (segments.csv line 4)" in first
    assert "line 4" in second and "normal segment 0..20" in second


def test_unknown_split_is_left_out(tmp_path: Path) -> None:
    write_table(touch(tmp_path, "a.mp4"), "a.mp4,0,9,normal,evaluation", "a.mp4,10,19,normal,adapt", header="video,start,end,label,split")
    assert "unknown split 'evaluation', expected adapt or evaluate; did you mean evaluate" in reasons(tmp_path)[0]


def test_a_video_has_one_split(tmp_path: Path) -> None:
    header = "video,start,end,label,split"
    write_table(touch(tmp_path, "a.mp4"), "a.mp4,0,9,normal,", "a.mp4,10,19,normal,adapt", header=header)
    assert [s.split for s in list_folder(tmp_path).segments] == ["adapt", "adapt"]
    write_table(tmp_path, "a.mp4,0,9,normal,evaluate", "a.mp4,10,19,normal,adapt", header=header)
    with pytest.raises(UsageError, match="a.mp4 has two splits, 'evaluate' .segments.csv line 2. and 'adapt' .segments.csv line 3"):
        list_folder(tmp_path)


def test_extra_columns_and_unlisted_videos_are_noted(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", ".hidden.mp4", "readme.txt")
    write_frames(tmp_path / "frames" / "c", grey_frames(1))
    write_table(tmp_path, "a.mp4,0,9,normal,sunny", header="video,start,end,label,weather")
    listing = list_folder(tmp_path)
    assert listing.notes == ("segments.csv: columns without a meaning here are ignored: weather", "2 videos on disk are not in segments.csv, e.g. b.mp4")
    assert listing.extra == ("b.mp4", "frames/c")


@pytest.mark.parametrize("content, message", [
    (b"video,begin,end,label\na,0,1,normal\n", "lacks the column start; its first line has: video, begin, end, label"),
    (b"", "its first line has: none"), (b"video,start,end,label\n", "has a header and no rows"),
    (b"video,start,end,label,label\n", "has the column label twice"),
    (b'video,start,end,label\na,0,1,normal\na,5,9,"normal\na,9,12,normal\na,13,15,normal\n', "segments.csv, line 3: a cell that begins with 'normal' goes on"),
    ("vidéo".encode("latin-1"), "not UTF-8"), ("video,start".encode("utf-16"), "not UTF-8")])
def test_a_table_that_cannot_be_understood(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "segments.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        list_folder(tmp_path)
    assert str(tmp_path / "segments.csv") in str(caught.value)


def test_roots_that_hold_no_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist: name your folder with --config.data.root"):
        list_folder(tmp_path / "gone")
    with pytest.raises(UsageError, match="is empty: expected segments.csv"):
        list_folder(tmp_path)
    touch(tmp_path, "one.mp4", "two.mp4")
    with pytest.raises(UsageError, match=r"holds one.mp4, two.mp4: expected segments.csv"):
        list_folder(tmp_path)
    with pytest.raises(UsageError, match="is a file, not a folder"):
        list_folder(tmp_path / "one.mp4")
    touch(tmp_path, "normal/1.jpg")
    with pytest.raises(UsageError, match=r"has normal/ without a video in it \(but 1 other files\)"):
        list_folder(tmp_path)


def test_what_is_excluded_is_listed_no_more_and_a_name_of_nothing_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    rows = ["a.mp4,0,9,normal", "a.mp4,20,29,abnormal", "b.mp4,0,9,normal"]
    listing = excluding(write_table(tmp_path, *rows, "gone.mp4,0,9,normal", "gone.mp4,10,19,abnormal"), "gone.mp4", "a.mp4")
    assert (listing.videos_listed, listing.segments_listed, listing.missing) == (1, 1, ())
    assert {reason for _, reason in listing.skipped} == {"it is named in config.data.exclude"} and not listing.notes
    with pytest.raises(UsageError, match="config.data.exclude names 'a', which is no video and no source; the nearest is 'a.mp4'"):
        excluding(write_table(tmp_path, *rows), "b.mp4", "a")


def excluding(root: Path, *names: str):
    return list_data("folder", root, split="official", fps=0.0, annotations="all", exclude=names)


def test_numbers_that_have_gaps_are_noted(tmp_path: Path) -> None:
    for folder in ("normal/whole", "normal/gap", "abnormal/cover"):
        write_frames(tmp_path / folder, grey_frames(9))
    (tmp_path / "normal" / "gap" / "7.png").unlink()
    (tmp_path / "abnormal" / "cover" / "cover.png").write_bytes((tmp_path / "normal" / "whole" / "1.png").read_bytes())
    said = "2 folders are read image by image, whatever their numbers say, e.g. normal/gap: 1 frames are missing, the first is number 7"
    listing = list_folder(tmp_path)
    assert listing.notes == (said,) and len(listing.segments) == 3 and not listing.skipped
    write_table(tmp_path, *(f"{folder},0,7,normal" for folder in ("normal/whole", "normal/gap", "abnormal/cover")))
    assert said.removesuffix("normal/gap: 1 frames are missing, the first is number 7") in list_folder(tmp_path).notes[0]


def test_fingerprint_follows_the_data_not_their_place(tmp_path: Path) -> None:
    root = touch(tmp_path / "here", "a.mp4")
    write_frames(root / "frames" / "b", grey_frames(2))
    write_table(root, "a.mp4,0,9,normal", "b,0,1,abnormal")
    before = fingerprint(list_folder(root))
    shutil.move(root, tmp_path / "there")
    root = tmp_path / "there"
    assert fingerprint(list_folder(root)) == before
    os.utime(root / "frames" / "b" / "2.png", ns=(1, 1))
    touched = fingerprint(list_folder(root))
    write_table(root, "a.mp4,0,9,normal", "b,0,0,abnormal")
    assert len({before, touched, fingerprint(list_folder(root))}) == 3


CELLS = st.sampled_from(["a.mp4", "b", "gone", "../x", "", " a.mp4", "0", "5", "9", "20", "-1", "1.5", "normal", "Abnormal ", "weird", "adapt"])
ROWS = st.lists(st.one_of(
    st.lists(CELLS, min_size=1, max_size=6),
    st.tuples(st.sampled_from(["a.mp4", "b"]), st.integers(-1, 40).map(str), st.integers(-1, 40).map(str),
              st.sampled_from(["normal", "abnormal", "norml"]))), min_size=1, max_size=12)


@given(rows=ROWS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_used_or_named_with_a_reason(tmp_path: Path, rows) -> None:
    rows = [row for row in rows if any(cell.strip() for cell in row)] or [("a.mp4", "0", "1", "normal")]
    write_table(touch(tmp_path, "a.mp4", "b"), *(",".join(row) for row in rows))
    listing = list_folder(tmp_path)
    assert listing.segments_listed == len(rows) == len(listing.segments) + len(listing.skipped)
    named = [int(item.split("line ")[1].split()[0]) for item, reason in listing.skipped if reason]
    assert len(set(named)) == len(listing.skipped) and all(2 <= n < len(rows) + 2 for n in named)
    for s in listing.segments:
        assert 0 <= s.start <= s.end and s.video in listing.paths
        assert not any(o.video == s.video and o.label != s.label and o.start <= s.end and s.start <= o.end for o in listing.segments)


def test_a_quote_left_open_in_a_column_of_no_meaning_takes_no_rows(tmp_path: Path) -> None:
    table = touch(tmp_path, "a.mp4", "b.mp4") / "segments.csv"
    table.write_text('video,start,end,label,note\na.mp4,0,9,normal,"rain\nb.mp4,0,9,normal,sun\n')
    with pytest.raises(UsageError, match="segments.csv, line 2: a cell that begins with 'rain' goes on"):
        list_folder(tmp_path)
    table.write_text('video,start,end,label,note\na.mp4,0,9,normal,"rain\nand fog"\nb.mp4,0,9,normal,"sun\n')
    assert len(list_folder(tmp_path).segments) == 2  # of several lines and closed; open in the last line, where it takes nothing
