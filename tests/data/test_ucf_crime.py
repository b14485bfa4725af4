"""UCF-Crime: the published lists from the real annotations, and small trees of good and bad files."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import grey_frames, write_frames, write_video

from acx_jax.contracts import ABNORMAL, NORMAL, TO_THE_END, Segment
from acx_jax.data.builders.named import list_data
from acx_jax.data.builders.ucf_crime import list_ucf_crime
from acx_jax.data.builders.ucf_crime_annotations import Event, frames_of, key, read_annotations
from acx_jax.errors import UsageError

TEN, THIRTY = Fraction(10), Fraction(30)
OFFICIAL = "Temporal_Anomaly_Annotation_for_Testing_Videos.txt"


def published(folder: Path, name: str) -> Counter:
    """Abnormal rows of a published list, with the names as in the annotations."""
    rows = [line.split(",") for line in (folder / name).read_text().split()]
    return Counter((key(video), int(start), int(end)) for video, start, end, kind in rows if kind != "Normal")


def rows(annotated) -> Counter:
    """Our rows, counted from 1 as the published ones are."""
    found = [(k, frames_of(event, rate=TEN, original=THIRTY)) for k, one in annotated.items() for event in one.events]
    return Counter((k, start + 1, end + 1) for k, (start, end) in found)


def test_official_events_are_the_published_rows(real_data: Path) -> None:
    folder = real_data / "annotations" / "ucf_crime"
    annotated, bad = read_annotations(folder, via=False)
    ours, theirs = rows(annotated), published(folder, "all_rgb_split1.txt")
    assert len(annotated) == 290 and bad == [] and sum(ours.values()) == sum(theirs.values()) == 156
    assert sum((ours & theirs).values()) == 155
    assert list(ours - theirs) == [("explosion033", 516, 1052)]  # the published one ends with its video, at 1051
    normal = [one for one in annotated.values() if not one.events]
    assert len(normal) == 150 and {one.category for one in normal} == {"Normal"}


def test_via_events_are_the_published_rows(real_data: Path) -> None:
    folder = real_data / "annotations" / "ucf_crime"
    annotated, _ = read_annotations(folder, via=True)
    of_via = {k: one for k, one in annotated.items() if any(event.seconds for event in one.events)}
    ours, theirs = rows(of_via), published(folder, "all_rgb_split2.txt")
    assert sum(ours.values()) == 467 and sum((ours & theirs).values()) == 445
    assert {one.category for one in of_via.values()} == {"Arson", "Burglary", "Explosion", "RoadAccidents", "Shooting", "Shoplifting"}
    assert all(event.seconds for one in of_via.values() for event in one.events)  # the official events of these give way


@pytest.mark.parametrize("rate, original, expected", [
    (TEN, THIRTY, (54, 79)), (THIRTY, THIRTY, (164, 239)), (TEN, Fraction(25), (65, 95)), (TEN, Fraction(30000, 1001), (54, 79))])
def test_frames_follow_the_rates(rate, original, expected) -> None:
    assert frames_of(Event(165, 240, False, ""), rate=rate, original=original) == expected
    assert frames_of(Event(0, 2, False, ""), rate=rate, original=original)[0] == 0


def annotate(root: Path, *lines: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / OFFICIAL).write_text("\n".join(lines) + "\n")
    return root


def test_videos_at_their_rate_and_frames_at_ten(tmp_path: Path) -> None:
    root = annotate(tmp_path, "Abuse028_x264.mp4  Abuse  25  50  75  100  ", "Arson_001_x264.mp4  Arson  30  60  -1  -1",
                    "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1")
    write_video(root / "Anomaly-Videos-Part-1" / "Abuse" / "Abuse028_x264.mp4", grey_frames(100, step=1), rate=25)
    write_frames(root / "frames" / "Arson001_x264", grey_frames(15))
    write_frames(root / "Normal__Videos_003_x264" / "images", grey_frames(3))
    write_frames(root / "Training" / "Normal_Videos001_x264", grey_frames(3))
    listing = list_ucf_crime(root, fps=10.0, via=True)
    assert listing.segments == (
        Segment("Abuse028_x264", 9, 19, ABNORMAL, "Abuse", source="Abuse028_x264", split="evaluate"),
        Segment("Abuse028_x264", 29, TO_THE_END, ABNORMAL, "Abuse", source="Abuse028_x264", split="evaluate"),
        Segment("Arson_001_x264", 9, TO_THE_END, ABNORMAL, "Arson", source="Arson_001_x264", split="evaluate"),
        Segment("Normal_Videos_003_x264", 0, TO_THE_END, NORMAL, "Normal", source="Normal_Videos_003_x264", split="evaluate"),
        Segment("Normal_Videos001_x264", 0, TO_THE_END, NORMAL, "Normal", source="Normal_Videos001_x264", split="adapt"))
    assert (listing.videos_listed, listing.segments_listed, listing.skipped, listing.missing) == (4, 5, (), ())
    at_its_own = list_ucf_crime(root, fps=0.0, via=True)
    assert [(s.start, s.end) for s in at_its_own.segments[:2]] == [(24, 49), (74, TO_THE_END)]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    root = annotate(tmp_path, "Abuse001_x264.mp4 Abuse 1 9 -1 -1", "Abuse002_x264.mp4 Abuse 1 9 -1 -1", "Abuse001_x264.mp4 Abuse 1 9 -1 -1",
                    "Abuse003_x264.mp4 Abuse 9 x", "Abuse004_x264.mp4 Abuse 9 5 -1 -1", "Abuse005_x264.mp4 Abuse -1 -1 -1 -1",
                    "Normal_Videos_1.mp4 Normal 3 4 -1 -1", "Abuse006_x264.mp4")
    (root / "Abuse001_x264.mp4").write_bytes(b"no video at all")
    (root / "Fighting001_x264.mp4").write_bytes(b"x")
    (root / "Normal_Videos009_x264.mp4").write_bytes(b"")
    (root / "more").mkdir()
    (root / "more" / "Abuse_001.mp4").write_bytes(b"")
    (root / "Anomaly_Train.txt").write_text("Training/Normal_Videos011_x264.mp4\nAbuse/Abuse099_x264.mp4\n")
    listing = list_ucf_crime(root, fps=10.0, via=False)
    said = {item.split("(")[-1].rstrip(")"): reason for item, reason in listing.skipped}
    assert listing.segments == () and set(listing.missing) == {
        "Abuse001_x264", "Abuse002_x264", "Normal_Videos009_x264", "Normal_Videos011_x264",
        "Abuse003_x264", "Abuse004_x264", "Abuse005_x264", "Normal_Videos_1", "Abuse006_x264"}
    assert (listing.videos_listed, listing.segments_listed) == (9, 9)
    assert "not a readable video" in said["Abuse001_x264"] and "no video file" in said["Abuse002_x264"]
    assert "is no stretch" in said["Abuse004_x264.mp4"] and "no event" in said["Abuse005_x264.mp4"]
    assert "pairs of frame numbers" in said["Abuse003_x264.mp4"] and "pairs" in said["Abuse006_x264.mp4"]
    assert "normal and has an event" in said["Normal_Videos_1.mp4"] and said["Normal_Videos009_x264"] == "the file is empty"
    assert said["Fighting001_x264.mp4"] == "it has no annotation of its events"
    assert said["more/Abuse_001.mp4"] == "the file is empty"


def test_of_copies_the_first_one_that_can_be_opened_is_used(tmp_path: Path) -> None:
    root = annotate(tmp_path, "Abuse001_x264.mp4 Abuse 3 9 -1 -1", "Abuse002_x264.mp4 Abuse 3 9 -1 -1", "Normal_Videos_003_x264.mp4 Normal -1 -1 -1 -1")
    for name in ("a/Abuse001_x264.mp4", "b/Abuse_001_x264.mp4", "a/Abuse002_x264.mp4", "a/Normal_Videos003_x264.mp4", "a/Normal_Videos004_x264.mp4"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"no video at all")
    good = ("c/Abuse001_x264.mp4", "b/Abuse002_x264.mp4", "c/Abuse002_x264.mp4", "b/Normal_Videos003_x264.mp4", "b/Normal_Videos004_x264.mp4")
    for name in good:
        write_video(root / name, grey_frames(12), rate=30)
    listing = list_ucf_crime(root, fps=0.0, via=False)
    assert {name: path.relative_to(root).as_posix() for name, path in listing.paths.items()} == {
        "Abuse001_x264": good[0], "Abuse002_x264": good[1], "Normal_Videos_003_x264": good[3], "Normal_Videos004_x264": good[4]}
    assert len(listing.segments) == 4 and listing.missing == ()
    said = dict(listing.skipped)
    assert said.pop("c/Abuse002_x264.mp4") == "another copy of this video is used" and "not a readable video" in said.pop("b/Abuse_001_x264.mp4")
    assert said.keys() == {"a/Abuse001_x264.mp4", "a/Abuse002_x264.mp4", "a/Normal_Videos003_x264.mp4", "a/Normal_Videos004_x264.mp4"}
    assert all(reason.startswith("not a readable video") and reason.endswith("; another copy of this video is used") for reason in said.values())


def test_normal_videos_whose_line_is_bad_are_not_adapted_on(tmp_path: Path) -> None:
    root = annotate(tmp_path, "Normal_Videos_003_x264.mp4 Normal 30 40", "Normal_Videos_006_x264.mp4 Normal -1", "Normal_Videos_008_x264.mp4 Normal -1 -1")
    for number in (3, 6, 7, 8):
        write_frames(root / "frames" / f"Normal_Videos{number:03d}_x264", grey_frames(3))
    listing = list_ucf_crime(root, fps=10.0, via=True)
    assert [(s.video, s.split) for s in listing.segments] == [("Normal_Videos_008_x264", "evaluate"), ("Normal_Videos007_x264", "adapt")]
    assert listing.missing == ("Normal_Videos_003_x264", "Normal_Videos_006_x264") and (listing.videos_listed, listing.segments_listed) == (4, 4)
    said = dict(listing.skipped)
    assert "it is normal and has an event" in said[f"{OFFICIAL} line 1 (Normal_Videos_003_x264.mp4)"] and not listing.notes
    assert {said[f"frames/Normal_Videos{number}_x264"] for number in ("003", "006")} == {"it has no annotation that can be used"}
    left = list_data("ucf_crime", root, split="official", fps=10.0, annotations="all", exclude=("Normal_Videos_003_x264",))
    assert (left.videos_listed, left.segments_listed, left.missing) == (3, 3, ("Normal_Videos_006_x264",))
    assert f"{OFFICIAL} line 1 (Normal_Videos_003_x264.mp4)" not in dict(left.skipped)


def test_videos_in_linked_folders(tmp_path: Path) -> None:
    root = annotate(tmp_path / "root", "Abuse028_x264.mp4  Abuse  2  5  -1  -1")
    write_video(tmp_path / "store" / "Abuse028_x264.mp4", grey_frames(9))
    (root / "videos").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(root)
    listing = list_ucf_crime(root, fps=0.0, via=False)
    assert [s.video for s in listing.segments] == ["Abuse028_x264"] and not listing.skipped


def test_via_projects_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no annotation of UCF-Crime"):
        list_ucf_crime(tmp_path, fps=10.0, via=True)
    (tmp_path / "via").mkdir()
    known = {"view": {"7": {"fid_list": ["1"]}}, "file": {"1": {"fname": "Arson001_x264.mp4"}}}
    of_times = [{"metadata": {"1": {"vid": "7", "z": z}}} | known for z in ([0, math.inf], [math.nan, 1], [2, 1])]
    for value in ({"metadata": {"1": {"vid": "7", "z": [0, 1]}}, "view": {}, "file": {}}, {}, {"metadata": []}, *of_times):
        (tmp_path / "via" / "Arson_annotation.json").write_text(json.dumps(value))
        with pytest.raises(UsageError, match="Arson_annotation.json is no VIA project"):
            list_ucf_crime(tmp_path, fps=10.0, via=True)


@given(kinds=st.lists(st.sampled_from(["event", "normal", "train", "absent", "empty", "unknown", "twice"]), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_video_is_used_or_named_with_a_reason(tmp_path_factory, kinds: list[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = {f"{'Normal_Videos' if kind in ('normal', 'train') else 'Arson'}{i:03d}_x264": kind for i, kind in enumerate(kinds)}
    lines = [f"{n}.mp4 {'Normal -1 -1' if kind == 'normal' else 'Arson 1 9'} -1 -1" for n, kind in names.items() if kind not in ("train", "unknown")]
    annotate(root, *lines, "Arson999_x264.mp4 Arson 1 9 -1 -1")
    for name, kind in names.items():
        for folder in {"absent": [], "twice": ["a", "b"]}.get(kind, ["a"]):
            (root / folder / name).mkdir(parents=True)
            if kind != "empty":
                (root / folder / name / "1.jpg").write_bytes(b"jpeg")
    listing = list_ucf_crime(root, fps=10.0, via=True)
    used = {s.video for s in listing.segments}
    assert used == {n for n, kind in names.items() if kind in ("event", "normal", "train", "twice")} == listing.paths.keys()
    said = " ".join(item for item, reason in listing.skipped if reason)
    assert all(name in said for name in names if name not in used) and "Arson999" in said
    assert said.count("b/") == kinds.count("twice")
    assert listing.videos_listed == 1 + sum(kind != "unknown" for kind in kinds)
