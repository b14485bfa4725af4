"""Episodes in a file, so that two methods, or two papers, are judged on the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from acx_jax.contracts import Episodes, Segment, StoredSegment
from acx_jax.errors import UsageError
from acx_jax.runtime.files import replacing

FORMAT = 1


class Origin(NamedTuple):
    """Where episodes come from: the hash of the data they index (`data_hash`), the seed and the protocol they were drawn by."""

    data: str
    seed: int
    protocol: str


def data_hash(stored: Sequence[StoredSegment]) -> str:
    """16 hex digits of the segments in their order: videos, frames, labels, categories, sources; not of where they lie."""
    facts = json.dumps([[*s.segment, s.frames] for s in stored])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def save_episodes(path: Path, episodes: Episodes, origin: Origin) -> None:
    """Writes an .npz of plain arrays, whole."""
    with replacing(path) as file:
        np.savez(file, format=FORMAT, support=episodes.support, query=episodes.query, way=episodes.way, **origin._asdict())


def load_episodes(path: Path, *, data: str, segments: Sequence[Segment]) -> tuple[Episodes, Origin]:
    """The episodes of a file that was written for these data.

    data: `data_hash` of the segments that the indices count. Raises UsageError for a file that is not there, is none of
    `save_episodes`, was written for other data, or does not hold what an episode needs.
    """
    episodes, origin = _read(path)
    if origin.data != data:
        raise UsageError(f"config.episodes.file {path} was drawn from other data: it holds the data hash {origin.data}, the segments "
                         f"here have {data}; prepare the same videos with the same settings, or draw new episodes")
    for name, wrong in _faults(episodes, np.array([s.label for s in segments])):
        if wrong:
            raise UsageError(f"config.episodes.file {path}: {name}")
    return episodes, origin


def digest_of(path: Path) -> str:
    """16 hex digits of a file's bytes; of nothing where it cannot be read, which `load_episodes` then says."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _read(path: Path) -> tuple[Episodes, Origin]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if int(arrays["format"]) != FORMAT:
                raise ValueError(f"its format is {int(arrays['format'])}, expected {FORMAT}")
            episodes = Episodes(arrays["support"], arrays["query"], int(arrays["way"]))
            return episodes, Origin(str(arrays["data"]), int(arrays["seed"]), str(arrays["protocol"]))
    except FileNotFoundError:
        raise UsageError(f"config.episodes.file {path} does not exist: name an episodes.npz that an evaluation left") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError) as error:
        raise UsageError(f"config.episodes.file {path} is no file of episodes: {error}") from None
    except Exception as error:  # zipfile.BadZipFile and what else a damaged archive may raise
        raise UsageError(f"config.episodes.file {path} is damaged: {error}") from None


def _faults(episodes: Episodes, labels: np.ndarray) -> list[tuple[str, bool]]:
    """What may be wrong with episodes, in the order it has to be asked, and whether it is."""
    sides = (episodes.support, episodes.query)
    shaped = all(side.ndim == 2 and side.dtype.kind == "i" and side.size and side.shape[1] % 2 == 0 for side in sides) \
        and episodes.way == 2 and len(sides[0]) == len(sides[1])
    inside = shaped and all((side >= 0).all() and (side < len(labels)).all() for side in sides)
    classes = inside and all((labels[side] == np.repeat([0, 1], side.shape[1] // 2)).all() for side in sides)
    both = np.concatenate(sides, axis=1) if shaped else np.zeros((0, 0))
    return [("its arrays are not those of 2-way episodes", not shaped), ("it names segments that are not there", not inside),
            ("its columns are not of the classes they should be", not classes),
            ("an episode names one segment twice", any(len(np.unique(row)) < len(row) for row in both))]
