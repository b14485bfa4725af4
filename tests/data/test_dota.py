"""DoTA: the published list from the real annotations, and small trees of good and bad files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import grey_frames, write_frames, write_video

from acx_jax.config import from_flat
from acx_jax.contracts import ABNORMAL, LABELS, NORMAL, Segment
from acx_jax.data import prepared
from acx_jax.data.builders.dota import list_dota
from acx_jax.data.builders.dota_annotations import read_annotations, read_splits
from acx_jax.data.builders.listing import fingerprint
from acx_jax.data.builders.named import list_data
from acx_jax.data.decode import DecodeError, frames
from acx_jax.data.splits import assign_splits
from acx_jax.data.windows import window_count
from acx_jax.errors import UsageError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import prepare
from acx_jax.stages.job import Job

NOT_PUBLISHED = ("W6YrlYyWguc", "ezY7QrSWeWw")  # source ids that the published list lacks
RECORD = {"video_start": 11, "video_end": 50, "anomaly_start": 12, "anomaly_end": 20, "anomaly_class": "ego: turning",
          "num_frames": 40, "subset": "train"}


def write_metadata(root: Path, records: dict, subset: str = "train") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"metadata_{subset}.json").write_text(json.dumps(records))
    return root


def add_frames(root: Path, *names: str, count: int = 40, inner: str = "") -> Path:
    for name in names:
        folder = root / "frames" / name / inner
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i:06d}.jpg").write_bytes(b"jpeg")
    return root


def listed(root: Path, **changes):
    return list_dota(root, **{"official": True, "fps": 10.0} | changes)


@pytest.fixture(scope="module")
def annotations(real_data: Path):
    return read_annotations(real_data / "annotations")


@pytest.fixture(scope="module")
def published(real_data: Path) -> list[str]:
    return (real_data / "annotations" / "DoTA_segments_published.txt").read_text().split()


def test_the_segments_are_the_published_ones(annotations, published) -> None:
    rows = [f"{s.video},{s.start},{s.end},{LABELS[s.label]},{s.category},{s.ego_involved == 'yes'}"
            for clip in annotations.clips.values() if clip.source not in NOT_PUBLISHED for s in clip.segments("")]
    assert len(annotations.clips) == 4677 and annotations.skipped == () and len(published) == 9255
    assert sorted(rows) == sorted(published)


def test_counts_of_long_segments_and_their_nodes(annotations) -> None:
    lengths = {label: [s.end - s.start + 1 for clip in annotations.clips.values() if clip.source not in NOT_PUBLISHED
                       for s in clip.segments("") if s.label == label and s.end - s.start + 1 >= 20] for label in (NORMAL, ABNORMAL)}
    nodes = np.array([window_count(n, length=8, stride=4) for of in lengths.values() for n in of])
    assert len(nodes) == 7715 and len(lengths[NORMAL]) == 4136
    assert (nodes.min(), nodes.max(), np.median(nodes), np.percentile(nodes, 90)) == (4, 56, 8, 14)


def test_official_splits(real_data: Path, annotations) -> None:
    splits, unsplit = read_splits(real_data / "annotations", annotations.clips)
    sources = {split: {annotations.clips[n].source for n, s in splits.items() if s == split} for split in ("adapt", "evaluate")}
    assert list(splits.values()).count("adapt") == 3275 and list(splits.values()).count("evaluate") == 1402 and unsplit == []
    assert len(sources["evaluate"]) == 179 and len(sources["evaluate"] & sources["adapt"]) == 177


def test_split_by_source_shares_none(annotations) -> None:
    segments = [s for clip in annotations.clips.values() for s in clip.segments("")]
    split = assign_splits(segments, adapt_share=0.7, seed=0, how="source")
    adapt, evaluate = ([s for s in split if s.split == name] for name in ("adapt", "evaluate"))
    assert not {s.source for s in adapt} & {s.source for s in evaluate} and all(s.label == NORMAL for s in adapt)
    share = len({s.video for s in evaluate}) / 4677
    assert 0.28 < share < 0.32


def test_without_848_folders_the_rest_is_used_and_the_others_are_named(tmp_path: Path, real_data: Path, annotations) -> None:
    one = write_frames(tmp_path / "one", grey_frames(1), suffix=".jpg")
    root = tmp_path / "DoTA"
    (root / "frames").mkdir(parents=True)
    for file in (real_data / "annotations").glob("DoTA_*"):
        (root / file.name).symlink_to(file)
    names = sorted(annotations.clips)
    for name in names[848:]:
        (root / "frames" / name).symlink_to(one)
    listing = listed(root)
    assert (listing.videos_listed, len(listing.paths), len(listing.missing)) == (4677, 3829, 848)
    assert set(listing.missing) == set(names[:848]) == {item for item, _ in listing.skipped}
    assert {s.video for s in listing.segments} == set(names[848:])
    assert any("gXezhrOijmQ_004598: its anomaly is annotated to frame 118, but it is said to have 114" in n for n in listing.notes)


def test_segments_of_a_video(tmp_path: Path) -> None:
    other = RECORD | {"anomaly_class": "other: lateral", "anomaly_start": 0, "subset": "val"}
    root = add_frames(write_metadata(tmp_path, {"A_b_000011": RECORD, "A_b_000099": other}), "A_b_000099")
    add_frames(root, "A_b_000011", inner="images")
    listing = listed(root)
    assert listing.segments == (
        Segment("A_b_000011", 12, 19, ABNORMAL, "turning", "yes", "A_b", "adapt"),
        Segment("A_b_000011", 0, 11, NORMAL, "turning", "yes", "A_b", "adapt"),
        Segment("A_b_000099", 0, 19, ABNORMAL, "lateral", "no", "A_b", "evaluate"))
    assert listing.paths["A_b_000011"] == root / "frames" / "A_b_000011" / "images"
    assert not listing.skipped and listing.offsets == {} and len(fingerprint(listing)) == 16
    assert {s.split for s in listed(root, official=False).segments} == {""}


def test_annotations_of_single_videos(tmp_path: Path) -> None:
    record = {"video_name": "a_000001", "num_frames": 40, "ego_involve": False, "anomaly_start": 12, "anomaly_end": 20,
              "accident_name": "obstacle", "accident_id": 7, "labels": []}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a_000001.json").write_text(json.dumps(record))
    (tmp_path / "annotations" / "b_000001.json").write_text(json.dumps(record)[:50])
    add_frames(tmp_path, "a_000001", "b_000001")
    with pytest.raises(UsageError, match="neither train_split.txt and val_split.txt nor the annotations say"):
        listed(tmp_path)
    (tmp_path / "val_split.txt").write_text("a_000001\nb_000001\ngone_000002\n")
    listing = listed(tmp_path)
    assert [(s.video, s.category, s.ego_involved, s.split) for s in listing.segments] == [("a_000001", "obstacle", "no", "evaluate")] * 2
    reasons = dict(listing.skipped)
    assert "is not JSON" in reasons["b_000001 (b_000001.json)"] and "no annotation that can be used" in reasons["gone_000002"]
    assert listing.videos_listed == 3


@pytest.mark.parametrize("changes, reason", [
    ({"anomaly_end": None}, "anomaly_end of its annotation is None, expected a whole number"),
    ({"anomaly_start": "12"}, "anomaly_start of its annotation is '12'"),
    ({"anomaly_start": True}, "anomaly_start of its annotation is True"),
    ({"anomaly_end": 12}, "its anomaly runs from 12 to before 12"),
    ({"anomaly_start": -1}, "its anomaly runs from -1"),
    ({"anomaly_class": "turning"}, "its annotation lacks anomaly_class"),
    ({"anomaly_class": 3}, "its annotation lacks anomaly_class"),
])
def test_a_bad_record_is_skipped_by_name(tmp_path: Path, changes: dict, reason: str) -> None:
    root = write_metadata(tmp_path, {"bad_000001": RECORD | changes, "good_000001": RECORD, "none_000001": [1], "short_000001": {}})
    listing = listed(add_frames(root, "bad_000001", "good_000001"))
    said = {item.split()[0]: why for item, why in listing.skipped}
    assert {s.video for s in listing.segments} == {"good_000001"} and reason in said["bad_000001"]
    assert "is a list, not an object" in said["none_000001"] and "lacks anomaly_start, anomaly_end, num_frames" in said["short_000001"]
    assert "bad_000001" in said["frames/bad_000001"] or "no annotation" in said["frames/bad_000001"]


@pytest.mark.parametrize("name, shown", [("a\0b_1", "a\\x00b_1"), ("\ud800_1", "\\ud800_1"), ("n" * 300 + "_1", "n" * 300 + "_1"), ("a/b_1", "a/b_1")])
def test_a_name_that_no_file_can_have_is_skipped(tmp_path: Path, name: str, shown: str) -> None:
    listing = listed(add_frames(write_metadata(tmp_path, {name: RECORD, "b_1": RECORD}), "b_1"))
    assert {s.video for s in listing.segments} == {"b_1"} and listing.missing == (shown,)
    assert listing.skipped == ((f"{shown} (metadata_train.json)", "its name is none of DoTA's: expected SOURCE_NUMBER"),)


def test_the_note_counts_only_videos_without_an_annotation(tmp_path: Path) -> None:
    root = write_metadata(tmp_path, {"a_1": RECORD, "b_1": RECORD | {"anomaly_end": None}})
    add_frames(root, "a_1", "b_1", "c_1")
    add_frames(root, "a_1", inner="images")
    listing = listed(root)
    assert "1 videos on disk have no annotation, e.g. frames/c_1" in listing.notes and listing.folder_fps == 10
    assert dict(listing.skipped)["frames/b_1"] == "it has no annotation that can be used"


def test_split_files_at_odds(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {f"{n}_1": RECORD for n in "abc"}), "a_1", "b_1", "c_1")
    (root / "train_split.txt").write_text("a_1\nb_1\nabsent_1\n")
    (root / "val_split.txt").write_text("b_1\n")
    listing = listed(root)
    assert {s.video for s in listing.segments} == {"a_1"} and listing.videos_listed == 4
    said = dict(listing.skipped)
    assert "both split files" in said["b_1"] and "neither split file" in said["c_1"] and "no annotation" in said["absent_1"]


def test_frames_with_a_hole_or_a_late_start_are_skipped(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {f"{n}_1": RECORD for n in "abcd"}), "a_1", "b_1", "c_1")
    (root / "frames" / "a_1" / "000007.jpg").unlink()
    for i in range(3):
        (root / "frames" / "b_1" / f"{i:06d}.jpg").unlink()
    (root / "frames" / "d_1").mkdir()
    said = dict(listed(root).skipped)
    assert said == {"a_1": "1 frames are missing, the first is number 7", "d_1": "the folder holds no images",
                    "b_1": "its first frame is number 3: the ones before it are missing"}


def test_bad_annotations_and_names_without_one_are_missing(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    names = [f"v{i}_000001" for i in range(10)]
    for name in names:
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(RECORD) if name == names[0] else "{")
    add_frames(tmp_path, *names)
    listing = listed(tmp_path, official=False)
    assert listing.missing == tuple(names[1:]) and (listing.videos_listed, listing.segments_listed) == (10, 11)
    (tmp_path / "train_split.txt").write_text("\n".join([*names[:2], "gone_000001"]))
    listing = listed(tmp_path)
    assert listing.missing == (*names[1:], "gone_000001") and (listing.videos_listed, listing.segments_listed) == (11, 12)
    left = list_data("dota", tmp_path, split="official", fps=10.0, annotations="all", exclude=("v1", "gone_000001"))
    assert left.missing == tuple(names[2:]) and (left.videos_listed, left.segments_listed) == (9, 10)
    assert [reason for item, reason in left.skipped if item.startswith("v1_000001")] == ["it is named in config.data.exclude"]


def test_videos_that_the_split_files_do_not_ask_for_are_not_missing(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {f"{n}_1": RECORD for n in "abcd"} | {"e_1": {}}), "a_1", "b_1")
    write_metadata(root, {"a_1": RECORD}, subset="val")  # annotated twice
    (root / "train_split.txt").write_text("a_1\nb_1\n")
    (root / "val_split.txt").write_text("b_1\n")
    assert listed(root).missing == ("e_1", "b_1")


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


def test_excluded_sources_are_left_out_by_name(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {"a_1": RECORD, "b_1": RECORD}), "a_1", "b_1")
    listing = list_data("dota", root, split="published", fps=10.0, annotations="all", exclude=("a",))
    assert {s.video for s in listing.segments} == {"b_1"}
    assert [reason for _, reason in listing.skipped] == ["it is named in config.data.exclude"] * 2
    assert (listing.videos_listed, listing.segments_listed) == (1, 2)


def test_excluded_videos_that_are_missing_count_no_more(tmp_path: Path) -> None:
    root = add_frames(write_metadata(tmp_path, {"a_1": RECORD, "b_1": RECORD, "c_1": RECORD, "d_1": RECORD}), "b_1")
    listing = list_data("dota", root, split="published", fps=10.0, annotations="all", exclude=("a", "c_1", "e"))
    assert (listing.videos_listed, listing.segments_listed, listing.missing) == (2, 4, ("d_1",))
    assert {item for item, reason in listing.skipped if "config.data.exclude" in reason} == {"a_1", "c_1"} and len(listing.skipped) == 3
    assert any("names 'e', which is no video and no source" in note for note in listing.notes)


def test_a_root_without_dota(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no annotations of DoTA: expected metadata_train.json"):
        listed(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        listed(tmp_path / "gone")
    (tmp_path / "metadata_val.json").write_text("[]")
    with pytest.raises(UsageError, match="holds a list, expected an object"):
        listed(tmp_path)


@given(kinds=st.lists(st.sampled_from(["good", "no frames", "empty", "hole", "bad record", "unlisted", "both", "raw"]), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_video_is_used_or_named_with_a_reason(tmp_path_factory, kinds: list[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = {f"v{i}_1": kind for i, kind in enumerate(kinds)}
    bad = RECORD | {"anomaly_end": 3}
    write_metadata(root, {name: bad if kind == "bad record" else RECORD for name, kind in names.items() if kind != "unlisted"})
    for name, kind in names.items():
        if kind in ("good", "hole", "bad record", "unlisted", "both"):
            add_frames(root, name, count=3)
        if kind == "empty":
            (root / "frames" / name).mkdir(parents=True)
        if kind == "hole":
            (root / "frames" / name / "000001.jpg").unlink()
        if kind in ("both", "raw"):
            (root / "videos").mkdir(exist_ok=True)
            (root / "videos" / f"{name.split('_')[0]}.mp4").write_bytes(b"x")
    listing = listed(root)
    used = {segment.video for segment in listing.segments}
    assert used == {name for name, kind in names.items() if kind in ("good", "both", "raw")} == listing.paths.keys()
    said = " ".join(item for item, reason in listing.skipped if reason)
    assert all(name in said for name in names if name not in used)
    assert said.count("videos/") == kinds.count("both")
    assert listing.videos_listed == sum(kind != "unlisted" for kind in kinds)


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
