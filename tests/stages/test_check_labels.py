"""The check of copies that are no videos, or whose classes are what is learnt."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from test_check import check, pictures


@pytest.fixture
def features(tmp_path):
    """Two arrays of each label."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for name in ("normal/a", "normal/b", "abnormal/c", "abnormal/d"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{name}.npy", rng.normal(size=(4, 8)))
    return root


def check_features(root):
    return check(root, data__builder="features")


def test_the_same_vectors_under_both_labels(features):
    said, report = check_features(features)
    assert report["problems"] == report["copies"] == []
    np.save(features / "abnormal" / "d.npy", np.load(features / "normal" / "a.npy").astype(np.float32))
    said, report = check_features(features)
    assert report["problems"] == ["normal/a.npy and abnormal/d.npy are the same vectors, labelled differently: "
                                  "normal segment 0..3 of a and abnormal segment 0..3 of d"]
    assert "check found what would stop the run" in said
    _, report = check(features, data__builder="features", data__exclude=("d",))
    assert report["problems"] == report["copies"] == []


def test_the_same_vectors_under_one_label_are_a_warning(features):
    shutil.copy(features / "normal" / "a.npy", features / "normal" / "b.npy")
    said, report = check_features(features)
    assert report["problems"] == [] and "warning: normal/a.npy and normal/b.npy are the same vectors" in said
    assert report["copies"] == [{"videos": ["normal/a.npy", "normal/b.npy"], "same_bytes": True, "contradictions": []}]


def test_arrays_of_a_table_contradict_each_other_vector_by_vector(tmp_path):
    root, array = tmp_path / "data", np.random.default_rng(0).normal(size=(4, 8))
    root.mkdir()
    np.savez(root / "f.npz", a=array, b=array, c=array + 1)
    rows = [f"{video},{label},{i}" for video, labels in (("a", "0011"), ("b", "0111"), ("c", "0000")) for i, label in enumerate(labels)]
    (root / "labels.csv").write_text("\n".join(["video,label,index", *rows]) + "\n")
    _, report = check_features(root)
    assert report["problems"] == ["f.npz [a] and f.npz [b] are the same vectors, labelled differently: "
                                  "normal segment 0..1 of a and abnormal segment 1..3 of b"]


def test_one_video_in_two_classes(tmp_path):
    root = tmp_path / "data"
    for number, name in enumerate(("run/a", "run/b", "jump/c")):
        pictures(root / "train" / name, number)
    assert check(root, data__builder="kinetics")[1]["copies"] == []
    shutil.rmtree(root / "train" / "jump" / "c")
    shutil.copytree(root / "train" / "run" / "a", root / "train" / "jump" / "c")
    _, report = check(root, data__builder="kinetics")
    assert report["problems"] == [] and "train/jump/c and train/run/a are the same bytes, labelled differently: normal segment 0..end of train/jump/c " \
        "(jump) and normal segment 0..end of train/run/a (run)" in report["warnings"]
