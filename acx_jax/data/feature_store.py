"""Context features on disk: memory-mapped, written in order, resumable, with what made them beside them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from acx_jax.contracts import ContextFeatures, check_features
from acx_jax.errors import WorkError
from acx_jax.runtime.files import write_array, write_json

VECTORS, OFFSETS, PROVENANCE, PROGRESS = "vectors.npy", "offsets.npy", "provenance.json", "progress.json"
FLUSH_EVERY = 16  # appends between two notes of progress: what a kill costs


class FeatureWriter:
    """Appends clip vectors to a folder; an interrupted one goes on at `done`.

    offsets: int64 [S + 1] of the segments. dimension: P. provenance: JSON value that says what makes the vectors; vectors
    that were begun with another are started over.
    """

    def __init__(self, folder: Path, *, offsets: np.ndarray, dimension: int, provenance: dict[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._appends = folder, 0
        shape = (int(offsets[-1]), dimension)
        self.done = self._resume(provenance, offsets, shape)
        write_json(folder / PROGRESS, {"done": self.done})  # first: a kill must not leave the progress of other vectors
        mode = "r+" if self.done else "w+"
        self._vectors = np.lib.format.open_memmap(folder / VECTORS, mode=mode, dtype=np.float32, shape=shape)
        _reserve(folder / VECTORS)
        write_array(folder / OFFSETS, offsets)
        write_json(folder / PROVENANCE, provenance)

    def append(self, vectors: np.ndarray) -> None:
        """vectors: float32 [n, P], those that follow `done`. Raises WorkError when they are not finite."""
        if not np.isfinite(vectors).all():
            raise WorkError(f"the encoder gave vectors that are not finite for windows {self.done}..{self.done + len(vectors) - 1}: "
                            "its weights or the adaptation are broken (a lower --config.adapt.learning_rate may help)")
        self._vectors[self.done : self.done + len(vectors)] = vectors
        self.done += len(vectors)
        self._appends += 1
        if self._appends % FLUSH_EVERY == 0 or self.done == len(self._vectors):
            self.save()

    def save(self) -> None:
        """Notes the progress, so that a writer after this one goes on here."""
        self._vectors.flush()
        write_json(self._folder / PROGRESS, {"done": self.done})

    def _resume(self, provenance: dict[str, Any], offsets: np.ndarray, shape: tuple[int, int]) -> int:
        try:
            same = json.loads((self._folder / PROVENANCE).read_text()) == json.loads(json.dumps(provenance))
            same = same and np.array_equal(np.load(self._folder / OFFSETS), offsets)
            same = same and np.load(self._folder / VECTORS, mmap_mode="r").shape == shape
            return _done(self._folder) if same else 0
        except (OSError, ValueError, KeyError, EOFError):
            return 0


def _reserve(file: Path) -> None:
    """Takes the place on the disk that a file is to fill: written through memory, a full disk would end the process with no word. Where the system
    cannot take it beforehand (macOS, some network disks), nothing is done."""
    if not hasattr(os, "posix_fallocate"):
        return
    with file.open("r+b") as there:
        try:
            os.posix_fallocate(there.fileno(), 0, os.fstat(there.fileno()).st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(error.errno, error.strerror, str(file)) from None


def load_features(folder: Path, *, stage: Path) -> ContextFeatures:
    """The features of a folder, memory-mapped. Raises WorkError when they are incomplete or broken, which says to delete the folder `stage` of the
    stage that made them: it would pass for finished without them."""
    try:
        features = ContextFeatures(np.load(folder / VECTORS, mmap_mode="r"), np.load(folder / OFFSETS))
        if _done(folder) != len(features.vectors):
            raise ValueError(f"only {_done(folder)} of {len(features.vectors)} context vectors were written")
        return check_features(features)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise WorkError(f"{folder}: {error}; delete {stage} and run the same command again: it is then made anew") from None


def is_finished(folder: Path, provenance: dict[str, Any]) -> bool:
    """Whether a folder holds all the vectors that a `FeatureWriter` of this provenance writes, as far as its notes tell."""
    try:
        same = json.loads((folder / PROVENANCE).read_text()) == json.loads(json.dumps(provenance))
        return same and _done(folder) == len(np.load(folder / VECTORS, mmap_mode="r"))
    except (OSError, ValueError, KeyError, EOFError):
        return False


def take_over(done: Path, folder: Path, provenance: dict[str, Any]) -> None:
    """Copies what an earlier run finished of this provenance, where `folder` is not there yet; a kill leaves it whole or not at all."""
    if folder.exists() or not is_finished(done, provenance):
        return
    temporary = folder.with_name(f"{folder.name}.taken")
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(done, temporary)
    temporary.rename(folder)


def _done(folder: Path) -> int:
    return json.loads((folder / PROGRESS).read_text())["done"]
