"""Weight files of every kind as named arrays: PyTorch's, NumPy's, safetensors, pickles of arrays. Nothing in them is executed."""
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from acx_jax.models.array_pickles import PickledArray
from acx_jax.models.torch_files import LEGACY_HEAD, LazyTensor, WeightsError, WeightUnpickler, read_legacy, read_zip

Entries = dict[str, Any]  # name -> what np.asarray makes an array of, with .shape and .dtype
SAFETENSORS_DTYPES = {"F64": np.dtype("f8"), "F32": np.dtype("f4"), "F16": np.dtype("f2")}


class _LazySlice:
    """An array of a safetensors file, read when `np.asarray` asks for it."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        part = file.get_slice(name)
        self.shape = tuple(part.get_shape())
        self.dtype = SAFETENSORS_DTYPES.get(part.get_dtype()) or file.get_tensor(name).dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._file.get_tensor(self._name), dtype)


def read_entries(path: Path) -> Entries:
    """Every array of a weight file by name; names inside nested dictionaries are joined by "/".

    Args:
      path: a PyTorch file (either container), .npz, .safetensors, or a pickle of nested dictionaries of numpy arrays; what it
        is shows in its first bytes.
    Returns:
      name -> array, or something that `np.asarray` reads from the file when it is wanted.
    Raises:
      WeightsError: the file is missing, foreign, damaged or truncated, wants to run code, or holds no named array.
    """
    try:
        entries = flatten(_read(path))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged file may raise any exception at all
        raise WeightsError(f"{path}: damaged or truncated ({type(error).__name__}: {error})") from None
    if not entries:
        raise WeightsError(f"{path}: holds no named arrays")
    return entries


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        archive = zipfile.ZipFile(path)
        return _read_npz(path) if any(name.endswith(".npy") for name in archive.namelist()) else read_zip(archive)
    if head.startswith(LEGACY_HEAD[:len(head)]) and len(head) >= len(LEGACY_HEAD):
        return read_legacy(path)
    if head[8:9] == b"{":
        file = safe_open(path, framework="numpy")
        return {name: _LazySlice(file, name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if len(head) < 16 or head[0] in b"\x80(}c":
        return WeightUnpickler(io.BytesIO(path.read_bytes())).load()
    raise WeightsError("no weight file that can be read: neither PyTorch's, NumPy's, safetensors nor a pickle of arrays")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: _npz_array(archive, name) for name in archive.files}


def _npz_array(archive: Any, name: str) -> np.ndarray:
    """One array; of Python objects, which stay unread, only the type is told."""
    try:
        return archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):  # how NumPy says that it holds objects
            raise
        return np.empty(0, object)


def flatten(tree: Any, prefix: str = "") -> Entries:
    """Arrays of nested dictionaries by their joined names; what is no array is left out."""
    if isinstance(tree, PickledArray):
        tree = tree.value
    if isinstance(tree, (np.ndarray, LazyTensor, _LazySlice)):
        return {prefix: tree} if prefix else {}
    if not isinstance(tree, Mapping):
        return {}
    joined = ((f"{prefix}/{key}" if prefix else str(key), value) for key, value in tree.items())
    return {name: value for key, part in joined for name, value in flatten(part, key).items()}
