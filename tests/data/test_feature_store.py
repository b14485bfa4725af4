import errno
import json

import numpy as np
import pytest

from acx_jax.data.feature_store import FLUSH_EVERY, OFFSETS, PROGRESS, VECTORS, FeatureWriter, is_finished, load_features
from acx_jax.errors import WorkError

OFFSETS_OF = np.array([0, 3, 4, 2 * FLUSH_EVERY + 5])
VALUES = np.random.default_rng(0).standard_normal((OFFSETS_OF[-1], 2)).astype(np.float32)


def writer(folder, provenance="a", offsets=OFFSETS_OF, dimension=2):
    return FeatureWriter(folder, offsets=offsets, dimension=dimension, provenance={"weights": provenance, "size": (1, 2)})


def write(to, until=len(VALUES), values=VALUES):
    """One vector an append."""
    while to.done < until:
        to.append(values[to.done:to.done + 1])


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_a_disk_that_cannot_give_its_place_beforehand_will_do(tmp_path, monkeypatch, number):
    if number is None:
        monkeypatch.delattr("os.posix_fallocate")
    else:
        monkeypatch.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(number, "cannot")))
    write(writer(tmp_path / "features"))
    np.testing.assert_array_equal(load_features(tmp_path / "features", stage=tmp_path).vectors, VALUES)


def test_what_was_written_is_read_back_from_the_disk(tmp_path):
    write(writer(tmp_path / "features"))
    features = load_features(tmp_path / "features", stage=tmp_path)
    assert isinstance(features.vectors, np.memmap) and not features.vectors.flags.writeable
    np.testing.assert_array_equal(features.vectors, VALUES)
    np.testing.assert_array_equal(features.offsets, OFFSETS_OF)


def test_an_interrupted_writer_goes_on_where_it_noted_progress(tmp_path):
    write(writer(tmp_path), until=FLUSH_EVERY + 3)
    again = writer(tmp_path)
    assert again.done == FLUSH_EVERY
    write(again)
    np.testing.assert_array_equal(load_features(tmp_path, stage=tmp_path.parent).vectors, VALUES)


def test_the_place_of_all_vectors_is_taken_before_the_first(tmp_path, monkeypatch):
    """Where the disk is full only when they are written, the system ends the process."""
    writer(tmp_path, offsets=np.array([0, 1000]), dimension=100)
    taken = (tmp_path / VECTORS).stat()
    assert taken.st_blocks * 512 >= taken.st_size > 400_000
    monkeypatch.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError) as caught:
        writer(tmp_path)
    assert caught.value.filename == str(tmp_path / VECTORS)


def test_a_finished_writer_has_nothing_left_to_do(tmp_path):
    write(writer(tmp_path))
    assert writer(tmp_path).done == len(VALUES)
    np.testing.assert_array_equal(load_features(tmp_path, stage=tmp_path.parent).vectors, VALUES)


def test_only_whole_vectors_of_the_same_making_are_finished(tmp_path):
    made = {"weights": "a", "size": (1, 2)}
    assert not is_finished(tmp_path / "none", made)
    write(writer(tmp_path), until=FLUSH_EVERY + 3)
    assert not is_finished(tmp_path, made)
    write(writer(tmp_path))
    assert is_finished(tmp_path, made) and not is_finished(tmp_path, made | {"weights": "b"})
    (tmp_path / VECTORS).write_bytes(b"")
    assert not is_finished(tmp_path, made)


@pytest.mark.parametrize("change", [{"provenance": "b"}, {"offsets": OFFSETS_OF + [0, 1, 1, 0]}, {"dimension": 3}])
def test_vectors_made_from_something_else_are_started_over(tmp_path, change):
    write(writer(tmp_path))
    assert writer(tmp_path, **change).done == 0


def test_the_progress_of_other_vectors_is_never_taken_over(tmp_path):
    write(writer(tmp_path, "a"))
    writer(tmp_path, "b")  # killed before its first note of progress
    assert writer(tmp_path, "b").done == 0
    assert writer(tmp_path, "a").done == 0


@pytest.mark.parametrize("name", [VECTORS, OFFSETS, PROGRESS])
def test_a_lost_or_broken_file_starts_over(tmp_path, name):
    write(writer(tmp_path))
    (tmp_path / name).write_bytes(b"")
    assert writer(tmp_path).done == 0
    (tmp_path / name).unlink()
    assert writer(tmp_path).done == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused_by_number(tmp_path, bad):
    to = writer(tmp_path)
    write(to, until=4)
    with pytest.raises(WorkError, match=r"windows 4\.\.5.*learning_rate"):
        to.append(np.array([[0, 1], [bad, 0]], np.float32))
    assert to.done == 4


def test_incomplete_features_are_not_read(tmp_path):
    write(writer(tmp_path), until=FLUSH_EVERY + 3)
    with pytest.raises(WorkError, match=f"only {FLUSH_EVERY} of {len(VALUES)}.*delete {tmp_path.parent} and run"):
        load_features(tmp_path, stage=tmp_path.parent)


def broken_nan(folder):
    values = np.load(folder / VECTORS)
    values[3] = np.nan
    np.save(folder / VECTORS, values)


def constant(folder):
    np.save(folder / VECTORS, np.full_like(VALUES, 0.25))


def broken_offsets(folder):
    np.save(folder / OFFSETS, np.array([0, 4, 4, len(VALUES)]))


def cut_short(folder):
    path = folder / VECTORS
    path.write_bytes(path.read_bytes()[:-8])


def doubles(folder):
    np.save(folder / VECTORS, VALUES.astype(np.float64))


@pytest.mark.parametrize(("breaking", "says"), [
    (broken_nan, "segment 1 are not finite"), (constant, "of 3 segments are the same"), (broken_offsets, "segment offsets"), (cut_short, ""), (doubles, "float64"),
    (lambda folder: (folder / VECTORS).unlink(), "vectors.npy"), (lambda folder: (folder / VECTORS).write_bytes(b""), ""),
    (lambda folder: (folder / PROGRESS).write_text(json.dumps({})), "done"),
])
def test_broken_features_are_refused_with_what_to_do(tmp_path, breaking, says):
    write(writer(tmp_path))
    breaking(tmp_path)
    with pytest.raises(WorkError, match=f"{says}.*delete {tmp_path.parent} and run the same command again"):
        load_features(tmp_path, stage=tmp_path.parent)
