"""DoTA: the published list from the real annotations, and small trees of good and bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dota_case import RECORD, add_frames, listed, write_metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import grey_frames, write_frames

from acx_jax.contracts import ABNORMAL, LABELS, NORMAL, Segment
from acx_jax.data.builders.dota_annotations import read_annotations, read_splits
from acx_jax.data.builders.listing import fingerprint
from acx_jax.data.builders.named import list_data
from acx_jax.data.splits import assign_splits
from acx_jax.data.windows import window_count
from acx_jax.errors import UsageError

NOT_PUBLISHED = ("W6YrlYyWguc", "ezY7QrSWeWw")  # source ids that the published list lacks


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
