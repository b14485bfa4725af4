"""BDD100K and Kinetics: trees of good and bad files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acx_jax.contracts import NORMAL, TO_THE_END, Segment
from acx_jax.data.builders.bdd100k import list_bdd100k
from acx_jax.data.builders.kinetics import list_kinetics
from acx_jax.data.builders.named import list_data
from acx_jax.data.splits import assign_splits
from acx_jax.errors import UsageError


def touch(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_drives_are_for_adaptation(tmp_path: Path) -> None:
    touch(tmp_path, "videos/train/b.mov", "videos/val/a.mov", "c/000001.jpg", "c/000002.jpg", "labels/x.json", ".d.mov")
    listing = list_bdd100k(touch(tmp_path, "videos/val/e.mov", content=b""))
    assert [s.video for s in listing.segments] == ["c", "videos/train/b.mov", "videos/val/a.mov"]
    assert listing.segments[1] == Segment("videos/train/b.mov", 0, TO_THE_END, NORMAL, source="videos/train/b.mov", split="adapt")
    assert listing.skipped == (("videos/val/e.mov", "the file is empty"),) and listing.videos_listed == 4
    assert {s.split for s in assign_splits(listing.segments, adapt_share=0.3, seed=0)} == {"adapt"}


@pytest.mark.parametrize("builder", ["bdd100k", "kinetics"])
def test_a_root_without_videos(tmp_path: Path, builder: str) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        list_data(builder, tmp_path / "gone", split="official", fps=0.0, annotations="all")
    with pytest.raises(UsageError, match="holds no"):
        list_data(builder, tmp_path, split="official", fps=0.0, annotations="all")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        list_data(builder, touch(tmp_path, "file") / "file", split="official", fps=0.0, annotations="all")


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "run/a.mp4")
    touch(tmp_path / "store", "jump/b.mp4", "jump/frames/1.jpg")
    (root / "jump").symlink_to(tmp_path / "store" / "jump")
    (root / "again").symlink_to(root / "run")
    (tmp_path / "store" / "jump" / "up").symlink_to(root)
    assert [s.video for s in list_bdd100k(root).segments] == ["run/a.mp4", "jump/b.mp4", "jump/frames"]
    assert {(s.video, s.category) for s in list_kinetics(root).segments} == {("run/a.mp4", "run"), ("jump/b.mp4", "jump"), ("jump/frames", "jump")}


def test_classes_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/abseiling/a_000010_000020.mp4", "val/zumba/b.mkv", "train/zumba/c/images/1.jpg", "train/loose.mp4", "d.mp4")
    listing = list_kinetics(tmp_path)
    assert {(s.video, s.category, s.split) for s in listing.segments} == {
        ("train/abseiling/a_000010_000020.mp4", "abseiling", "adapt"), ("val/zumba/b.mkv", "zumba", "evaluate"),
        ("train/zumba/c/images", "zumba", "adapt")}
    assert {item for item, reason in listing.skipped if "no folder of a class" in reason} == {"train/loose.mp4", "d.mp4"}
    assert listing.notes == ("2 classes",)


def test_classes_of_the_official_table(tmp_path: Path) -> None:
    touch(tmp_path, "any/a_000010_000020.mp4", "any/b.mp4", "any/e.mp4", "any/extra.mp4")
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start,time_end,split\nriding a bike,a,10,20,train\n\"x, y\",b,0,10,validate\n"
                                        "zumba,gone,1,11,train\nzumba,a,10,20,train\n,e,1,2,train\nzumba,e,0,10,holdout\n")
    listing = list_kinetics(tmp_path)
    assert [(s.video, s.category, s.split) for s in listing.segments] == [
        ("a_000010_000020", "riding a bike", "adapt"), ("b_000000_000010", "x, y", "evaluate")]
    said = dict(listing.skipped)
    assert said["gone_000001_000011"] == "it is not there" and "named twice" in said["train.csv line 5 (a_000010_000020)"]
    assert said["train.csv line 6"] == "it names no video or no class" and "unknown split 'holdout'" in said["e_000000_000010"]
    assert said["any/extra.mp4"] == "no csv names it and its class" and listing.videos_listed == 6


def test_classes_of_a_table_of_ones_own(tmp_path: Path) -> None:
    touch(tmp_path, "a/a.mp4")
    (tmp_path / "labels.csv").write_text("Video, Label\na/a.mp4, run\n")
    assert [(s.video, s.category) for s in list_kinetics(tmp_path).segments] == [("a/a.mp4", "run")]
    (tmp_path / "labels.csv").write_text("clip,class\na,b\n")
    with pytest.raises(UsageError, match="labels.csv has the columns clip, class: expected label, and video or youtube_id"):
        list_kinetics(tmp_path)


@pytest.mark.parametrize("rows, disk, classes, left_out", [
    ("run/001.mp4,run jump/001.mp4,jump", "run/001.mp4 jump/001.mp4", {"run/001.mp4": "run", "jump/001.mp4": "jump"}, {}),
    ("run/001,run jump/001,jump", "train/jump/001.mp4 train/run/001/images/1.jpg", {"train/run/001/images": "run", "train/jump/001.mp4": "jump"}, {}),
    ("/there/train/run/001.mp4,run", "train/run/001.mp4 val/run/001.mp4", {"train/run/001.mp4": "run"}, {"val/run/001.mp4": "no csv names it"}),
    ("run/001.mp4,run jump/001.mp4,jump", "run/001.mp4", {"run/001.mp4": "run"},
     {"jump/001.mp4": "run/001.mp4 is not known to be it: the csv names run/001.mp4 too"}),
    ("001.mp4,run", "jump/001.mp4 run/001.mp4", {}, {"001.mp4": "2 files may be it, such as jump/001.mp4 and run/001.mp4: name its folder",
                                                      "jump/001.mp4": "not for certain", "run/001.mp4": "not for certain"}),
    ("001.mp4,run", "a/001.mkv a/001.mp4", {"a/001.mp4": "run"}, {"a/001.mkv": "no csv names it"}),
    ("x/1,run y/1,jump", "z/1.mp4", {}, {"x/1": "the csv names y/1 too", "y/1": "the csv names x/1 too", "z/1.mp4": "not for certain"}),
    ("x/1,run", "z/1.mp4", {"z/1.mp4": "run"}, {}),
    ("a.b,run", "a.mp4 a.b.mp4", {"a.b.mp4": "run"}, {"a.mp4": "no csv names it"}),
    ("a.b,run", "a.mp4", {}, {"a.b": "it is not there", "a.mp4": "no csv names it"}),
])
def test_a_row_means_the_file_of_its_folder_and_none_where_that_is_not_certain(tmp_path: Path, rows: str, disk: str, classes: dict, left_out: dict) -> None:
    touch(tmp_path, *disk.split())
    (tmp_path / "t.csv").write_text("\n".join(["video,label", *rows.split()]) + "\n")
    listing = list_kinetics(tmp_path)
    assert {listing.paths[s.video].relative_to(tmp_path).as_posix(): s.category for s in listing.segments} == classes
    said = dict(listing.skipped)
    assert said.keys() == left_out.keys() and all(why in said[item] for item, why in left_out.items())


def test_one_file_for_two_parts_of_a_video_is_neither(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "t.csv").write_text("label,youtube_id,time_start,time_end,split\nrun,a,10,20,train\njump,a,30,40,val\n")
    listing = list_kinetics(tmp_path)
    assert not listing.segments and "a.mp4 is not known to be it: the csv names a_000030_000040 too" in dict(listing.skipped)["a_000010_000020"]


@given(kinds=st.lists(st.sampled_from(["good", "empty", "broken folder", "rowless", "gone"]), min_size=1, max_size=8), table=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_video_is_used_or_named_with_a_reason(tmp_path_factory, kinds: list[str], table: bool) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = {f"v{i}": kind for i, kind in enumerate(kinds)}
    on_disk = {n: kind for n, kind in names.items() if kind != "gone"}
    for name, kind in on_disk.items():
        if kind == "broken folder":
            touch(root, f"train/run/{name}/000000.jpg", f"train/run/{name}/000002.jpg")
        else:
            touch(root, f"train/run/{name}.mp4", content=b"" if kind == "empty" else b"x")
    if table:
        (root / "t.csv").write_text("\n".join(["video,label", *(f"{n},run" for n, kind in names.items() if kind != "rowless")]) + "\n")
    if (not table and not on_disk) or (table and set(kinds) <= {"rowless"}):
        return  # nothing tells a class: an error of its own
    good = {n for n, kind in names.items() if kind == "good" or (kind == "rowless" and not table)}
    for listing in (list_kinetics(root), *([list_bdd100k(root)] if on_disk else [])):
        used = {Path(s.video).stem for s in listing.segments}
        said = {Path(item).stem for item, reason in listing.skipped if reason}
        assert used | said >= set(on_disk) and not used & said
        assert good <= used and listing.paths.keys() == {s.video for s in listing.segments}
