"""Weight files of every kind: the sound ones are read, the damaged and dangerous ones refused by name, nothing runs."""
import os
import pickle
from argparse import Namespace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from acx_jax.models.torch_files import STORAGES, WeightsError, WeightUnpickler
from acx_jax.models.weight_files import read_entries
from acx_jax.models.weight_match import find_weights
from acx_jax.models.weight_names import to_torch, wanted

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(path: Path, tree: object) -> Path:
    path.write_bytes(pickle.dumps(tree))
    return path


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_of_arrays_comes_back_by_path(tmp_path: Path) -> None:
    entries = read_entries(write(tmp_path / "w.ckpt", {"params": {"a": {"b": ARRAY}}, "epoch": 3}))
    assert list(entries) == ["params/a/b"]
    np.testing.assert_array_equal(entries["params/a/b"], ARRAY)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("array", [ARRAY, ARRAY.T, ARRAY.astype(">f8"), ARRAY[:, ::2], np.asarray(3, np.float32), np.zeros((0, 3), np.int32)])
def test_arrays_of_every_layout_and_pickle_come_back(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps({"a": array, "scalar": np.float64(2), "text": np.array(["x"])}, protocol))
    entries = read_entries(tmp_path / "w.ckpt")
    assert list(entries) == ["a"] and entries["a"].dtype == array.dtype
    np.testing.assert_array_equal(entries["a"], array)


def test_a_pickle_cannot_make_numbers_pointers(tmp_path: Path) -> None:
    """The state of a numpy type has flags: those of an object array would make its bytes addresses."""
    content = pickle.dumps({"a": np.ones(3)}, 2)
    assert b"f8" in content
    (tmp_path / "w.ckpt").write_bytes(content.replace(b"f8", b"O8"))
    with pytest.raises(WeightsError, match="holds no named arrays"):
        read_entries(tmp_path / "w.ckpt")


def test_npz_and_safetensors_come_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"layer.weight": ARRAY})
    save_file({"layer.weight": ARRAY, "half": np.asarray(ARRAY, jnp.bfloat16)}, tmp_path / "w.safetensors")
    for name in ("w.npz", "w.safetensors"):
        entry = read_entries(tmp_path / name)["layer.weight"]
        assert tuple(entry.shape) == (2, 3) and entry.dtype == np.float32
        np.testing.assert_array_equal(entry, ARRAY)
    np.testing.assert_array_equal(np.asarray(read_entries(tmp_path / "w.safetensors")["half"], np.float32), ARRAY)


def test_an_npz_keeps_its_good_arrays_beside_one_of_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"layer.weight": ARRAY, "names": np.array(["a", None], object)})
    entries = read_entries(tmp_path / "w.npz")
    np.testing.assert_array_equal(entries["layer.weight"], ARRAY)
    assert entries["names"].dtype == object
    shapes = wanted("context_head", lambda path: None)
    state = to_torch("context_head", {path: np.zeros(shape, np.float32) for path, shape in shapes.items()})
    assert find_weights(state | entries, "context_head", "w.npz").left_over == ("layer.weight", "names")
    with pytest.raises(WeightsError, match=r"^w\.npz: entry last_layer\.bias is of type object, not of floats"):
        find_weights(state | {"last_layer.bias": entries["names"]}, "context_head", "w.npz")


@pytest.fixture
def tree():
    """What training scripts save: tensors with strides, offsets and shared storages, settings, an optimiser."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(3, 2, 2), torch.nn.BatchNorm3d(2))
    shared = torch.randn(6, 5)
    return {
        "opt": Namespace(lr=0.1, gpus=[0, 1], inner=Namespace(x=1)), "state_dict": network.state_dict(), "epoch": 160,
        "whole": shared, "view": shared[1:4:2, 1:3].T, "half": torch.ones(2, dtype=torch.bfloat16), "scalar": torch.tensor(3),
        "parameter": torch.nn.Parameter(torch.randn(3)), "empty": torch.zeros(0, 3), "size": torch.Size([1]), "best": np.float64(0.5),
        "device": torch.device("cpu"), "optimizer": torch.optim.SGD(network.parameters(), 0.1).state_dict(),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_are_read_as_pytorch_reads_them(tmp_path: Path, tree, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    entries = read_entries(path)
    assert {"state_dict/0.weight", "state_dict/1.num_batches_tracked", "view", "scalar", "parameter", "empty"} <= entries.keys()
    with torch.serialization.safe_globals([Namespace, np._core.multiarray.scalar, np.dtype, type(np.dtype("f8"))]):
        theirs = torch.load(path, weights_only=True)
    for name, entry in entries.items():
        expected = theirs
        for key in name.split("/"):
            expected = expected[key]
        expected = expected.detach()
        assert tuple(entry.shape) == tuple(expected.shape)
        np.testing.assert_array_equal(np.asarray(entry).astype(np.float64), expected.double().numpy())


@pytest.mark.parametrize("zipped", [True, False])
def test_every_cut_of_a_pytorch_file_is_refused(tmp_path: Path, tree, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "cut.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for keep in [0, 3, 10, 17, 40, *range(60, len(whole), len(whole) // 25), len(whole) - 1]:
        path.write_bytes(whole[:keep])
        with pytest.raises(WeightsError, match=r"cut\.pth"):
            read_entries(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_that_runs_code_is_refused_before_it_runs(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {"a": torch.ones(2)}, "opt": Evil(tmp_path / "made")}, tmp_path / "evil.pth",
               _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth.*(posix|nt)\.mkdir"):
        read_entries(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"last_layer.bias": torch.full((1000,), 2.0)}, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[content.index(np.full(8, 2.0, np.float32).tobytes()) + 40] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    entries = read_entries(tmp_path / "w.pth")
    shapes = wanted("context_head", lambda path: (1000,) if path == "params/classifier/bias" else None)
    others = to_torch("context_head", {path: np.zeros(shape, np.float32) for path, shape in shapes.items()})
    with pytest.raises(WeightsError, match=r"^w\.pth: entry last_layer\.bias is damaged.*CRC"):
        find_weights(others | entries, "context_head", "w.pth")


def test_a_pickle_that_calls_something_is_refused_before_it_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "evil.ckpt", {"params": {"a": Evil(tmp_path / "made")}})
    with pytest.raises(WeightsError, match=r"evil\.ckpt.*(posix|nt)\.mkdir"):
        read_entries(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["numpy.load", "builtins.eval", "torch.load", "torch.hub.load", "argparse.FileType", "collections.abc.x"])
def test_nothing_but_arrays_and_containers_is_allowed(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    (tmp_path / "w.ckpt").write_bytes(f"c{module}\n{function}\n(S'x'\ntR.".encode())
    with pytest.raises(WeightsError, match=name):
        read_entries(tmp_path / "w.ckpt")


def test_a_pickle_leaves_no_mark_on_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    path.write_bytes(b"cargparse\nNamespace\n(N}S'mark'\nI1\nst b.".replace(b" ", b""))
    with pytest.raises(WeightsError):
        read_entries(path)
    with path.open("rb") as file:
        assert not hasattr(WeightUnpickler(file).find_class("argparse", "Namespace"), "mark")
    assert not hasattr(Namespace, "mark")


def build(name: str, state: object) -> bytes:
    """A pickle that names something of torch and sets its state."""
    return b"\x80\x02ctorch\n" + name.encode() + b"\n" + pickle.dumps(state, 2)[2:-1] + b"b."


def looks(dtype: np.dtype) -> tuple:
    return dtype.itemsize, dtype.alignment, dtype.byteorder, dtype.flags, dtype.isnative, dtype.hasobject, dtype.subdtype


@pytest.mark.parametrize("name", [*STORAGES, "float32"])
@pytest.mark.parametrize("state", [(3, ">", None, None, None, -1, -1, 0), (3, "|", None, None, None, 1 << 20, 1, 63), {"name": "Evil"},
                                   (None, {"name": "Evil"})])
def test_a_pickle_cannot_change_a_type_of_the_process(tmp_path: Path, name: str, state: object) -> None:
    """NumPy believes the state that its types are given, and ml_dtypes has one bfloat16 for the process."""
    before = {name: looks(dtype) for name, dtype in STORAGES.items()}
    (tmp_path / "w.ckpt").write_bytes(build(name, state) + bytes(20))
    with pytest.raises(WeightsError, match=rf"w\.ckpt: the file sets the state of torch\.{name}"):
        read_entries(tmp_path / "w.ckpt")
    assert {name: looks(dtype) for name, dtype in STORAGES.items()} == before
    assert np.ones(3, jnp.bfloat16).nbytes == 6 and (np.ones(3, jnp.bfloat16).astype(np.float32) == 1).all()


def test_nothing_that_a_pickle_is_given_is_another_files(tmp_path: Path) -> None:
    """Classes and functions of the interpreter refuse attributes; all others are made anew."""
    (tmp_path / "w.ckpt").write_bytes(b"\x80\x02N.")
    with (tmp_path / "w.ckpt").open("rb") as one, (tmp_path / "w.ckpt").open("rb") as other:
        first, second = WeightUnpickler(one)._names, WeightUnpickler(other)._names
    shared = {name for name, given in first.items() if given is second[name]}
    assert shared == {"collections.OrderedDict", "collections.Counter", "builtins.set", "__builtin__.set", "torch.Size", "numpy.ndarray", "numpy.dtype"}
    for name in shared:
        module, _, leaf = name.rpartition(".")
        (tmp_path / "w.ckpt").write_bytes(f"c{module}\n{leaf}\n(N}}S'mark'\nI1\nstb.".encode())
        with pytest.raises(WeightsError):
            read_entries(tmp_path / "w.ckpt")
        assert not hasattr(first[name], "mark")


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_of_a_training_beside_the_weights_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.tag = 3  # is saved with its attributes
    optimiser = torch.optim.SGD([parameter], 0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5])
    torch.save({"model": {"a": parameter}, "lr_scheduler": schedule.state_dict(), "dtype": torch.float32, "half": torch.bfloat16,
                "complex": complex(1, 2), "bytes": bytearray(b"xx")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    torch.load(tmp_path / "w.pth", weights_only=True)  # PyTorch reads it, too
    entries = read_entries(tmp_path / "w.pth")
    assert list(entries) == ["model/a"] and (np.asarray(entries["model/a"]) == 1).all()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(50), b"PK\x03\x04" + bytes(50), b"\x10\0\0\0\0\0\0\0{" + bytes(40),
                                     b"name,value\na,1\nb,2\nccccc", b"\x80\x04N."])
def test_foreign_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "what.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"what\.bin"):
        read_entries(tmp_path / "what.bin")


@pytest.mark.parametrize("keep", [0, 10, 120])
def test_a_truncated_pickle_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "cut.ckpt", {"params": {"a": np.zeros(100, np.float32)}})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cut\.ckpt.*truncated"):
        read_entries(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2, 7)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pth").read_bytes()
    assert content.count(b"K\x02K\x07\x86") == 1  # the shape (2, 7)
    (tmp_path / "w.pth").write_bytes(content.replace(b"K\x02K\x07\x86", b"K\x09K\x07\x86"))
    with pytest.raises(WeightsError, match="beyond its storage"):
        read_entries(tmp_path / "w.pth")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.ckpt"):
        read_entries(tmp_path / "none.ckpt")
