"""Features of one's own: every layout, every kind of bad array, and the way to a report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acx_jax.config import from_flat
from acx_jax.contracts import ABNORMAL, NORMAL, Segment
from acx_jax.data.builders.feature_arrays import read_place
from acx_jax.data.builders.feature_labels import runs
from acx_jax.data.builders.features import fingerprint, list_features
from acx_jax.data.feature_store import load_features
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import pipeline


def array(count: int = 3, dimension: int = 4, start: int = 0) -> np.ndarray:
    return (np.arange(count * dimension, dtype=np.float64).reshape(count, dimension) + start) / 7


def save(path: Path, value: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, value, allow_pickle=True)
    return path


def said(root: Path) -> dict[str, str]:
    return dict(list_features(root).listing.skipped)


def test_the_real_case(real_data: Path) -> None:
    listed, places, _ = list_features(real_data / "ucf_crime_c3d")
    labels = [s.label for s in listed.segments]
    assert (labels.count(NORMAL), labels.count(ABNORMAL), listed.videos_listed, listed.skipped) == (18, 8, 10, ())
    assert sum(s.end - s.start + 1 for s in listed.segments) == 320 and {s.category for s in listed.segments} >= {"Normal", "Explosion"}
    with np.load(real_data / "ucf_crime_c3d" / "c3d_fc6_32seg_10videos.npz") as archive:
        for segment in listed.segments[:4]:
            np.testing.assert_array_equal(read_place(places[segment]), archive[segment.video][segment.start:segment.end + 1])


def test_class_folders(tmp_path: Path) -> None:
    save(tmp_path / "normal" / "a.npy", array(3))
    save(tmp_path / "normal" / "cam" / "b.npy", array(1)[0])
    save(tmp_path / "Abnormal" / "a.npy", array(2, start=50))
    listed, places, _ = list_features(tmp_path)
    a, b, c = listed.segments
    assert a == Segment("a", 0, 2, NORMAL, source="a", split="evaluate") and (b.start, b.end, b.label) == (3, 4, ABNORMAL)
    assert (c.video, c.start, c.end) == ("cam/b", 0, 0) and read_place(places[c]).shape == (1, 4)
    np.testing.assert_array_equal(read_place(places[b]), array(2, start=50).astype(np.float32))


def test_the_published_tree(tmp_path: Path) -> None:
    video = tmp_path / "0RJPQ_97dcs_000199"
    copies = [f"augmented{folder}/ctx_normal_{i}.npy" for folder in (1, 2) for i in (0, 2, 10)]
    for name in ("ctx_normal.npy", "ctx_abnormal.npy", *copies, "augmented1/ctx_normal.npy", "augmented1/more.npy"):
        save(video / name, array())
    save(tmp_path / "other" / "ctx_abnormal.npy", array())
    save(tmp_path / "other" / "augmented1" / "ctx_normal_0.npy", array())
    found = list_features(tmp_path)
    listed = found.listing
    assert [(s.video, s.label, s.source) for s in listed.segments] == [
        (video.name, NORMAL, "0RJPQ_97dcs"), (video.name, ABNORMAL, "0RJPQ_97dcs"), ("other", ABNORMAL, "other")]
    assert found.copies == {listed.segments[0]: tuple(video / name for name in copies)}  # by number, 10 behind 2
    named = "augmented sequences are named ctx_normal_<i>.npy or ctx_abnormal_<i>.npy"
    assert dict(listed.skipped) == {f"{video.name}/augmented1/ctx_normal.npy": named, f"{video.name}/augmented1/more.npy": named,
                                    "other/augmented1/ctx_normal_0.npy": "there is no ctx_normal.npy in use that it could be an augmented sequence of"}
    assert listed.notes == ("6 augmented sequences of 1 segments: config.episodes.augmented puts them into the support",)


def test_a_table_of_videos_and_of_vectors(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", array(4))
    np.savez(tmp_path / "more.npz", b=array(5), c=array(2))
    (tmp_path / "labels.csv").write_text("video,index,label,category,source\na,,abnormal,fall,cam1\n"
                                         "b,3,0,x,cam2\nb,1,normal,x,cam2\nb,2,1,x,cam2\nb,4,0,x,cam2\nb,5,0,x,cam2\ngone,,normal,,\n")
    listed = list_features(tmp_path).listing
    assert [tuple(s)[:5] + (s.source,) for s in listed.segments] == [
        ("a", 0, 3, ABNORMAL, "fall", "cam1"), ("b", 0, 0, NORMAL, "x", "cam2"), ("b", 1, 1, ABNORMAL, "x", "cam2"),
        ("b", 2, 4, NORMAL, "x", "cam2")]
    assert dict(listed.skipped) == {"more.npz [c]": "the table of labels does not name it",
                                    "gone (labels.csv line 8)": "there is no array of this name"}
    assert listed.videos_listed == 4 and listed.missing == ("c", "gone")


@pytest.mark.parametrize("value, reason", [
    (np.array([[1.0, np.nan]]), "1 of its 1 vectors hold NaN or infinity, the first is vector 0"),
    (np.array([[1.0, 2], [1e300, 0]]), "1 of its 2 vectors hold NaN or infinity, the first is vector 1"),
    (np.array([{"a": 1}, None], dtype=object), "pickled objects, which are never read"), (np.zeros((2, 3, 4)), "its shape is (2, 3, 4)"),
    (np.zeros((0, 4)), "its shape is (0, 4)"), (np.float32(1), "its shape is ()"), (np.array([["x", "y"]]), "expected numbers"),
    (np.array([[1j, 2]]), "it holds complex128"), (np.array([[True]]), "it holds bool"),
])
def test_a_bad_array_is_skipped_by_name(tmp_path: Path, value: np.ndarray, reason: str) -> None:
    save(tmp_path / "normal" / "bad.npy", value)
    save(tmp_path / "normal" / "good.npy", array(dimension=2))
    assert reason in said(tmp_path)["normal/bad.npy"] and [s.video for s in list_features(tmp_path).listing.segments] == ["good"]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'}"])
def test_a_damaged_file_is_skipped_by_name(tmp_path: Path, content: bytes) -> None:
    save(tmp_path / "normal" / "good.npy", array())
    (tmp_path / "normal" / "bad.npy").write_bytes(content)
    (tmp_path / "bad.npz").write_bytes(content)
    skipped = said(tmp_path)
    assert skipped.keys() == {"normal/bad.npy", "bad.npz"} and all(reason for reason in skipped.values())


def headed(shape: str) -> bytes:
    """An .npy file of 64 bytes whose header says this of its shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


@pytest.mark.parametrize("shape, reason", [("(2, 8)", "its header is cut off or damaged"), ("(9999999999999, 8)}", "Unable to allocate"),
                                           (f"({10 ** 26}, 8)}}", "too large"), ("(True, 8)}", "an integer is required")])
def test_a_header_that_cannot_be_true_is_skipped_by_name(tmp_path: Path, shape: str, reason: str) -> None:
    save(tmp_path / "normal" / "good.npy", array())
    (tmp_path / "normal" / "bad.npy").write_bytes(headed(shape))
    assert said(tmp_path).keys() == {"normal/bad.npy"} and reason in said(tmp_path)["normal/bad.npy"]


@pytest.mark.parametrize("at, value, expected", [(6, 230, {"f.npz"}), (8, 1, {"f.npz [a]"})])  # the version of its format, and the flag of encryption
def test_an_archive_that_cannot_be_unpacked_is_skipped_by_name(tmp_path: Path, at: int, value: int, expected: set[str]) -> None:
    np.savez(tmp_path / "f.npz", a=array(), b=array())
    (tmp_path / "l.csv").write_text("video,label\na,normal\nb,abnormal\n")
    data = bytearray((tmp_path / "f.npz").read_bytes())
    data[data.index(b"PK\1\2") + at] = value  # where the archive's table of contents begins
    (tmp_path / "f.npz").write_bytes(data)
    assert expected <= said(tmp_path).keys()


def test_an_archive_of_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", a=array(), b=np.array([object()], dtype=object))
    (tmp_path / "l.csv").write_text("video,label\na,normal\nb,abnormal\n")
    assert said(tmp_path) == {"f.npz [b]": "it holds pickled objects, which are never read: save plain arrays of numbers"}


def test_a_table_beside_a_truncated_archive_counts_what_it_names_as_missing(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    np.savez(root / "f.npz", a=array(), b=array())
    (root / "f.npz").write_bytes((root / "f.npz").read_bytes()[:300])
    (root / "l.csv").write_text("video,label\na,normal\nb,abnormal\n")
    listed = list_features(root).listing
    assert (listed.videos_listed, listed.segments_listed, listed.missing) == (2, 2, ("a", "b"))
    with pytest.raises(WorkError, match="check found .*: none of the 2 listed segments can be used; f.npz: it is no .npz archive"):
        run(root, tmp_path / "run", "check")
    (root / "l.csv").unlink()
    assert list_features(root).listing.missing == ("f.npz",)


def test_two_arrays_of_one_name_in_a_table(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", array())
    np.savez(tmp_path / "f.npz", a=array(start=9))
    (tmp_path / "l.csv").write_text("video,label\na,0\na,0\na,1\n")
    listed, places, _ = list_features(tmp_path)
    assert dict(listed.skipped) == {"f.npz [a]": "another array is named a: give each a name of its own"}
    assert len(listed.segments) == 2 and {place.file.name for place in places.values()} == {"a.npy"}


def test_links_are_followed_and_those_to_nothing_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(tmp_path / "store" / "a.npy", array()).rename(tmp_path / "store" / "a.NPY")
    save(root / "abnormal" / "b.npy", array(start=2))
    (root / "normal").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(root)
    (root / "abnormal" / "gone.npy").symlink_to(tmp_path / "nowhere")
    listed = list_features(root).listing
    assert [(s.video, s.label) for s in listed.segments] == [("a", NORMAL), ("b", ABNORMAL)] and listed.missing == ("gone",)
    assert "No such file" in dict(listed.skipped)["abnormal/gone.npy"] and len(fingerprint(root)) == 16


def test_dimensions_that_differ(tmp_path: Path) -> None:
    save(tmp_path / "normal" / "a.npy", array(dimension=4))
    save(tmp_path / "normal" / "b.npy", array(dimension=5))
    with pytest.raises(UsageError, match=r"the vectors of normal/a.npy have 4 numbers, those of normal/b.npy 5"):
        list_features(tmp_path)


def test_features_that_are_all_the_same(tmp_path: Path, acx) -> None:
    for name in ("normal", "abnormal"):
        for i in range(3):
            save(tmp_path / "in" / name / f"{name}{i}.npy", np.full((2 + i, 4), 0.5))
    done = acx("--config=configs/features.py", f"--config.data.root={tmp_path}/in", f"--workdir={tmp_path}/run", "--config.episodes.shot=1")
    assert done.returncode == 2 and "are the same, in all 6 segments" in done.stderr and "Traceback" not in done.stderr
    save(tmp_path / "in" / "normal" / "normal0.npy", np.full((2, 4), [[0.5], [0.25]]))
    assert len(list_features(tmp_path / "in").listing.segments) == 6  # one other vector is enough


@pytest.mark.parametrize("table, message", [
    ("video,label\na,odd\n", "unknown label 'odd', expected normal or abnormal"),
    ("video,label\n,normal\n", "line 2 names no video"),
    ("clip,label\na,normal\n", "expected video and label"),
    ("video,label\na,0\na,1\n", "a has 2 rows, but its array in a.npy has 3 vectors"),
    ("video,label,index\na,0,0\na,1,1\na,1,3\n", "numbered 0 to 3 with gaps"),
    ("video,label,index\na,0,x\n", "has the index 'x'"),
    (None, "exactly one .csv of labels, found none"),
])
def test_a_table_that_does_not_fit(tmp_path: Path, table: str | None, message: str) -> None:
    save(tmp_path / "a.npy", array())
    if table is not None:
        (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(UsageError, match=message):
        list_features(tmp_path)


def test_two_tables_and_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no .npy and no .npz file"):
        list_features(tmp_path)
    save(tmp_path / "a.npy", array())
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("video,label\na,0\n")
    with pytest.raises(UsageError, match="found a.csv, b.csv"):
        list_features(tmp_path)


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    save(tmp_path / "normal" / "a.npy", array())
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    save(tmp_path / "normal" / "a.npy", array(4))
    assert fingerprint(tmp_path) != before


@given(st.lists(st.sampled_from([NORMAL, ABNORMAL]), min_size=1, max_size=40))
def test_runs_are_the_stretches_of_equal_labels(labels: list[int]) -> None:
    found = runs(labels)
    assert [label for run in found for label in [run.label] * (run.stop - run.start)] == labels
    assert all(a.label != b.label and a.stop == b.start for a, b in zip(found, found[1:]))


@given(kinds=st.lists(st.sampled_from(["good", "nan", "cut", "object"]), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_file_is_used_or_named_with_a_reason(tmp_path_factory, kinds: list[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    values = {"good": array(), "nan": array() * np.nan, "object": np.array([None]), "cut": array()}
    names = {f"{('normal', 'abnormal')[i % 2]}/v{i}.npy": kind for i, kind in enumerate(["good", *kinds])}
    for name, kind in names.items():
        path = save(root / name, values[kind])
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:-5])
    listed, places, _ = list_features(root)
    used = {place.file.relative_to(root).as_posix() for place in places.values()}
    assert used == {name for name, kind in names.items() if kind == "good"}
    assert {item for item, reason in listed.skipped if reason} == names.keys() - used
    assert listed.segments_listed == listed.videos_listed == len(names)


def write_classes(root: Path, videos: int = 6) -> Path:
    """Two classes far apart."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("normal", "abnormal")):
        for i in range(videos):
            save(root / name / f"{name}{i}.npy", rng.normal(8.0 * label, 1.0, (3 + i, 16)))
    return root


def run(root: Path, workdir: Path, goal: str = "all", **values) -> str:
    out = io.StringIO()
    flat = {"data.builder": "features", "data.root": str(root), "episodes.shot": 1, "episodes.count": 4, "episodes.chunk": 4,
            "learners.names": ["proto"]} | values
    workdir.mkdir(exist_ok=True)
    pipeline.refuse(goal, from_flat(flat))
    pipeline.bring_up_to_date(goal, config=from_flat(flat), workdir=workdir, log=RunLog(terminal=out))
    return out.getvalue()


def test_straight_to_a_report(tmp_path: Path, quick_compiler) -> None:
    root = write_classes(tmp_path / "in")
    text = run(root, tmp_path / "run")
    assert "adapt: left out, the features are given" in text and "12 of 12 videos" in text
    stored = load_features(tmp_path / "run" / "embed" / "given", stage=tmp_path)
    listed, places, _ = list_features(root)
    np.testing.assert_array_equal(stored.vectors, np.concatenate([read_place(places[s]) for s in listed.segments]))
    rows = json.loads((tmp_path / "run" / "evaluate" / "results.json").read_text())
    assert {(r["learner"], r["features"]) for r in rows if r["category"] == "all"} == {("proto", "given"), ("length", "none")}
    assert next(r for r in rows if r["learner"] == "proto")["accuracy"] == 1.0
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Features were given" in page and "Recognised best" in page
    again = run(root, tmp_path / "run")
    assert again.count("up to date") == len(pipeline.STAGES)
    save(root / "normal" / "normal0.npy", array(4, 16))
    assert "prepare: is redone: the videos or their table changed" in run(root, tmp_path / "run", "prepare")


def test_too_many_bad_arrays_stop_the_run(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "in", videos=3)
    save(root / "normal" / "normal0.npy", array() * np.nan)
    with pytest.raises(WorkError, match="the features of 1 of 6 videos cannot be used, more than 10%: normal/normal0.npy: 3 of its 3"):
        run(root, tmp_path / "run", "prepare")
    assert "5 of 6 videos" in run(root, tmp_path / "run", "prepare", **{"data.max_bad_share": 0.5})
