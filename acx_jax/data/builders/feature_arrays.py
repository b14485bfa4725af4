"""Arrays of clip vectors that a user brings, in .npy and .npz files; nothing in them is ever executed."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from acx_jax.data.media_files import check_plain

# What broken files raise: RuntimeError is of encrypted members, MemoryError and OverflowError are of sizes that a header declares.
_BROKEN = (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, MemoryError, OverflowError,
           zipfile.BadZipFile, zlib.error, tokenize.TokenError)


class BadArray(Exception):
    """An array that cannot be used; the message says why, without its place."""


class Place(NamedTuple):
    """Rows start .. stop - 1 of the array in `file`, that of the name `member` where the file is an .npz."""

    file: Path
    member: str
    start: int
    stop: int


def read_vectors(file: Path, member: str = "") -> np.ndarray:
    """float32 [N, D] of a file; an array [D] is one vector. Raises BadArray when it is no array of finite numbers.

    Arrays that hold pickled Python objects are refused: reading one could run anything.
    """
    try:
        return _checked(_load(file, member))
    except _BROKEN as error:
        pickled = "pickle" in str(error).lower()
        raise BadArray("it holds pickled objects, which are never read: save plain arrays of numbers" if pickled
                       else f"it cannot be read: {_reason(error)}") from None


def members(file: Path) -> list[str]:
    """The names in an .npz file. Raises BadArray when it is none."""
    try:
        check_plain(file)
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:  # NumPy leaves a broken archive that it opened itself open
            return list(archive.files)
    except _BROKEN as error:
        raise BadArray(f"it is no .npz archive: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, tokenize.TokenError):
        return f"its header is cut off or damaged: {error.args[0]}"
    return getattr(error, "strerror", None) or str(error)


def read_place(place: Place) -> np.ndarray:
    """float32 [stop - start, D]. Raises BadArray."""
    return read_vectors(place.file, place.member)[place.start:place.stop]


def _load(file: Path, member: str) -> np.ndarray:
    check_plain(file)
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as archive:
        return archive[member]


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise BadArray(f"it holds {array.dtype}, expected numbers")
    if array.ndim not in (1, 2) or not array.size:
        raise BadArray(f"its shape is {array.shape}, expected [N, D]: N vectors of D numbers")
    with np.errstate(over="ignore"):
        vectors = np.atleast_2d(array).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise BadArray(f"{bad.size} of its {len(vectors)} vectors hold NaN or infinity, the first is vector {bad[0]}")
    return vectors
