"""Reads PyTorch's weight files, both containers, without PyTorch; nothing in them is executed.

A file is a pickle of nested dictionaries whose tensors point at storages: members of a zip archive (since PyTorch 1.6),
or blocks behind the pickle (before). The unpickler builds tensors, containers and plain settings and refuses the rest.
"""
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from acx_jax.models import array_pickles

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
STORAGES = {
    "FloatStorage": np.dtype("<f4"), "DoubleStorage": np.dtype("<f8"), "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16), "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"), "CharStorage": np.dtype("i1"), "ByteStorage": np.dtype("u1"), "BoolStorage": np.dtype("?"),
}
TYPES = (  # of torch, beside the tensors: settings in a training checkpoint
    "float", "double", "half", "bfloat16", "long", "int", "short", "float16", "float32", "float64", "uint8", "uint16", "uint32", "uint64",
    "int8", "int16", "int32", "int64", "bool", "complex32", "complex64", "complex128", "cfloat", "cdouble",
)


class WeightsError(ValueError):
    """A weight file is missing, damaged or not of the asked-for architecture; the message names file and entry."""


class TorchType:
    """Stands for a type of PyTorch: says its own name and takes no state, which NumPy's types, one for the process, would believe."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        raise WeightsError(f"the file sets the state of torch.{self.name}, which has none")


class Storage(NamedTuple):
    """One block of numbers of a file: `read()` gives `count` of `dtype`."""

    dtype: np.dtype
    count: int
    read: Callable[[], np.ndarray]


class LazyTensor(NamedTuple):
    """A tensor that is read when `np.asarray` asks for it; offset and strides count elements of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        return self.storage.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        size = self.dtype.itemsize
        part = self.storage.read()[self.offset:]
        view = np.lib.stride_tricks.as_strided(part, self.shape, tuple(step * size for step in self.strides), writeable=False)
        return np.array(view, dtype)


def _rebuild_tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> LazyTensor:
    if not isinstance(storage, Storage) or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise WeightsError("a tensor is described in a way that makes no sense")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise WeightsError(f"a tensor of shape {tuple(shape)} reaches beyond its storage of {storage.count} numbers")
    return LazyTensor(storage, offset, tuple(shape), tuple(strides))


def _latin1(text: str, encoding: str) -> bytes:
    """How old pickles of numpy arrays keep their bytes."""
    if encoding != "latin1":
        raise WeightsError(f"the file asks for the codec {encoding}")
    return text.encode("latin1")


def _allowed() -> dict[str, Any]:
    """What a weight file may name, made anew for each file: a pickle can set attributes of what it was given."""
    return {
        "collections.OrderedDict": OrderedDict,
        "collections.Counter": dict,  # schedules of the learning rate keep their milestones in one
        "builtins.set": set, "__builtin__.set": set,
        **{f"{builtins}.{name}": lambda *_: None for builtins in ("builtins", "__builtin__") for name in ("complex", "bytearray")},
        "argparse.Namespace": type("Namespace", (), {}),  # the published adapted checkpoints keep their flags in one
        "__builtin__.bytes": lambda: b"",  # how old pickles write no bytes
        "torch.Size": tuple,
        "torch.device": lambda *_: None,
        "torch._utils._rebuild_tensor": lambda *parts: _rebuild_tensor(*parts),
        "torch._utils._rebuild_tensor_v2": lambda *parts: _rebuild_tensor(*parts),
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "_codecs.encode": lambda text, encoding: _latin1(text, encoding),
        **{f"torch.{name}": TorchType(name) for name in (*STORAGES, *TYPES)},
        **array_pickles.names(),
    }


class WeightUnpickler(pickle.Unpickler):
    """Rebuilds containers of tensors and numpy arrays and refuses, by name, whatever else a pickle asks for.

    `storage(dtype, key, count)` gives the storage that a tensor points at; None where there are none.
    """

    def __init__(self, file: BinaryIO, storage: Callable[[np.dtype, str, int], Storage] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self._storage, self._names = storage, _allowed()

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in self._names:
            return self._names[f"{module}.{name}"]
        raise WeightsError(f"the file asks for {module}.{name}; only arrays, tensors and containers of them are allowed "
                           "(of a whole pickled model, save its state_dict())")

    def persistent_load(self, pid: Any) -> Storage:
        if self._storage is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or any(pid[5:]):
            raise WeightsError("the file points at something that is no storage of numbers")
        kind, key, count = pid[1], pid[2], pid[4]
        if not isinstance(kind, TorchType) or kind.name not in STORAGES or not isinstance(count, int) or count < 0:
            raise WeightsError(f"storage {key} is described in a way that makes no sense")
        return self._storage(STORAGES[kind.name], str(key), count)


def read_zip(archive: zipfile.ZipFile) -> Any:
    """The object in a zip container, its tensors lazy. Raises WeightsError, or what a damaged archive may raise."""
    heads = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(heads) != 1:
        raise WeightsError("a zip archive, but neither PyTorch's nor NumPy's")
    root = heads[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in archive.namelist():
        raise WeightsError("a TorchScript program: save the state_dict() of the model")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise WeightsError("written on a machine of another byte order")
    block = lru_cache(maxsize=1)(lambda key: archive.read(f"{root}data/{key}"))

    def storage(dtype: np.dtype, key: str, count: int) -> Storage:
        if archive.getinfo(f"{root}data/{key}").file_size < count * dtype.itemsize:
            raise WeightsError(f"storage {key} is shorter than the tensors in it")
        return Storage(dtype, count, lambda: np.frombuffer(block(key), dtype, count))

    with archive.open(heads[0]) as file:
        return WeightUnpickler(file, storage).load()


def read_legacy(path: Path) -> Any:
    """The object in a container of the time before PyTorch 1.6, its tensors lazy. Raises as `read_zip`."""
    offsets: dict[str, int] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> Storage:
        lengths[key] = (count, dtype.itemsize)
        return Storage(dtype, count, lambda: np.fromfile(path, dtype, count, offset=offsets[key]))

    lengths: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        if WeightUnpickler(file).load() != LEGACY_MAGIC:
            raise WeightsError("no PyTorch file")
        WeightUnpickler(file).load()  # the version of the container
        if not WeightUnpickler(file).load().get("little_endian", True):
            raise WeightsError("written on a machine of another byte order")
        tree = WeightUnpickler(file, storage).load()
        for key in WeightUnpickler(file).load():
            count, itemsize = lengths.get(str(key), (0, 0))
            if int.from_bytes(file.read(8), "little") != count:
                raise WeightsError(f"damaged or truncated (storage {key} has another length than its tensors)")
            offsets[str(key)] = file.tell()
            file.seek(count * itemsize, 1)
        end = file.tell()
    if end > path.stat().st_size or offsets.keys() != lengths.keys():
        raise WeightsError(f"truncated: {path.stat().st_size} bytes where {end} are announced")
    return tree
