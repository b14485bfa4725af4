"""The folder of recorded arrays, and the weights that derive from their names."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from acx_jax.errors import WorkError
from acx_jax.published.measured import Measured

SEED_FILE = "bundle.json"


class Lacking(Exception):
    """A check cannot run for want of something that is not the code's fault; the message says of what."""


class Arrays(dict[str, np.ndarray]):
    """The arrays of one file by name; asking for one that is not there is a WorkError that names file and array."""

    kind = "array"

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]):
        super().__init__(arrays)
        self.path = path

    def __missing__(self, name: str) -> np.ndarray:
        raise WorkError(f"{self.path}: no {self.kind} {name}; it has {', '.join(self) or 'none'}")


class Entries(Arrays):
    """The same for what a .json file has by name."""

    kind = "entry"


class Bundle:
    """Reads the files of the folder `path`. WorkError names a file that is damaged."""

    def __init__(self, path: Path):
        self.path = path

    def has(self, name: str) -> bool:
        """Whether the bundle holds the file `name`."""
        return (self.path / name).is_file()

    def arrays(self, name: str) -> Arrays:
        """The arrays of an .npz file. Raises Lacking, or WorkError for a damaged file."""
        path = self._file(name)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                return Arrays(path, {key: archive[key] for key in archive.files})
        except (OSError, ValueError, EOFError, AttributeError, zlib.error, zipfile.BadZipFile) as error:
            raise WorkError(f"{path}: damaged or no .npz file ({error})") from None

    def json(self, name: str) -> Entries:
        """The contents of a .json file. Raises Lacking, or WorkError for a file that is damaged or holds no names."""
        path = self._file(name)
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WorkError(f"{path}: damaged or no .json file ({error})") from None
        if not isinstance(contents, dict):
            raise WorkError(f"{path}: expected names and their values, it has a {type(contents).__name__}")
        return Entries(path, contents)

    def text(self, name: str) -> str:
        """The contents of a text file. Raises Lacking."""
        return self._file(name).read_text(encoding="utf-8")

    def seed(self) -> int:
        """What the weights derive from beside their names. Raises Lacking, or WorkError where there is none."""
        seed = self.json(SEED_FILE).get("seed")
        if type(seed) is not int:  # true would be one
            raise WorkError(f"{self.path / SEED_FILE}: expected an integer 'seed', it has {seed!r}")
        return seed

    def parameter(self, name: str, shape: Iterable[int]) -> np.ndarray:
        """The array that the recorded runs used for the entry `name` of a PyTorch state dict."""
        return named_parameter(name, tuple(shape), self.seed())

    def parameters(self, shapes: Mapping[str, Iterable[int]]) -> dict[str, np.ndarray]:
        """A whole state dict from the shapes of its entries."""
        return {name: self.parameter(name, shape) for name, shape in shapes.items()}

    def _file(self, name: str) -> Path:
        if not self.has(name):
            raise Lacking(f"the bundle has no {name}")
        return self.path / name


class Check(NamedTuple):
    """What `measure` compares; it runs where the bundle holds all `files`."""

    files: tuple[str, ...]
    measure: Callable[[Bundle], Iterable[Measured]]


def named_parameter(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draws an entry of a state dict from its own name, as the recorded runs did.

    Biases and running means are 0.1 times standard normal, running variances and what else has one axis uniform in [0.5, 1.5],
    the rest normal with variance 2 over the fan-in; all float32 but `num_batches_tracked`, int64 zeros.
    """
    draw = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf in ("bias", "running_mean"):
        return np.float32(0.1 * draw.standard_normal(shape))
    if leaf == "running_var" or len(shape) == 1:
        return np.float32(draw.uniform(0.5, 1.5, shape))
    return np.float32(np.sqrt(2.0 / np.prod(shape[1:])) * draw.standard_normal(shape))
