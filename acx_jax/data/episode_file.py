"""Episodes in a file, so that two methods, or two papers, are judged on the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from acx_jax.contracts import LABELS, Episodes, Segment, StoredSegment
from acx_jax.data.episodes import DISJOINT, PUBLISHED, group_segments
from acx_jax.errors import UsageError
from acx_jax.runtime.files import replacing

FORMAT = 2  # 1 held the way, and as many queries of each class


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
        arrays = {name: value for name, value in episodes._asdict().items() if value is not None}
        np.savez(file, format=FORMAT, **arrays, **origin._asdict())


def read_episodes(path: Path) -> tuple[Episodes, Origin]:
    """The episodes of a file of this format or the one before, whatever they are; raises what a file that holds none raises."""
    if not _is_archive(path):  # NumPy would advise to unpickle what it does not know
        raise ValueError("it is no .npz archive")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if int(arrays["format"]) not in (1, FORMAT):
            raise ValueError(f"its format is {int(arrays['format'])}, expected {FORMAT} or 1")
        support, query, way = arrays["support"], arrays["query"], int(arrays["way"]) if int(arrays["format"]) == 1 else 0
        queries = (query.shape[-1] // way,) * way if way else tuple(int(number) for number in arrays["queries"])
        categories = arrays["categories"] if "categories" in arrays else None
        return Episodes(support, query, queries, categories), Origin(str(arrays["data"]), int(arrays["seed"]), str(arrays["protocol"]))


def load_episodes(path: Path, *, data: str, segments: Sequence[Segment]) -> tuple[Episodes, Origin]:
    """The episodes of a file that was written for these data.

    data: `data_hash` of the segments that the indices count. Raises UsageError for a file that is not there, is none of
    `save_episodes`, was written for other data, does not hold what an episode needs, or breaks the protocol that it names.
    """
    episodes, origin = _read(path)
    if origin.data != data:
        raise UsageError(f"config.episodes.file {path} was drawn from other data: it holds the data hash {origin.data}, the segments "
                         f"here have {data}; prepare the same videos with the same settings, or draw new episodes")
    for name, wrong in _faults(episodes, origin.protocol, segments):
        if wrong:
            raise UsageError(f"config.episodes.file {path}: {name}")
    if origin.protocol == DISJOINT and (shared := _shared(episodes, segments)):
        raise UsageError(f"config.episodes.file {path} says that its protocol is {DISJOINT}, but {shared}: draw the episodes anew, or name "
                         f"their protocol {PUBLISHED}, in which any segments may meet")
    return episodes, origin


def digest_of(path: Path) -> str:
    """16 hex digits of a file's bytes; of nothing where it cannot be read, which `load_episodes` then says."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _read(path: Path) -> tuple[Episodes, Origin]:
    try:
        return read_episodes(path)
    except FileNotFoundError:
        raise UsageError(f"config.episodes.file {path} does not exist: name an episodes.npz that an evaluation left") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError) as error:
        raise UsageError(f"config.episodes.file {path} is no file of episodes: {error}") from None
    except Exception as error:  # zipfile.BadZipFile and what else a damaged archive may raise
        raise UsageError(f"config.episodes.file {path} is damaged: {error}") from None


def _faults(episodes: Episodes, protocol: str, segments: Sequence[Segment]) -> list[tuple[str, bool]]:
    """What may be wrong with episodes, in the order it has to be asked, and whether it is."""
    sides = (episodes.support, episodes.query)
    shaped = all(side.ndim == 2 and side.dtype.kind == "i" and side.size for side in sides) and len(sides[0]) == len(sides[1]) \
        and _named(episodes) and sides[0].shape[1] % episodes.way == 0 and min(episodes.queries) > 0 and sides[1].shape[1] == sum(episodes.queries)
    inside = shaped and all((side >= 0).all() and (side < len(segments)).all() for side in sides)
    classes = inside and _of_their_classes(episodes, segments)
    both = np.concatenate(sides, axis=1) if shaped else np.zeros((0, 0))
    return [("its arrays are not those of episodes", not shaped), ("it names segments that are not there", not inside),
            ("its columns are not of the classes they should be", not classes),
            ("an episode names one segment twice", any(len(np.unique(row)) < len(row) for row in both)),
            (f"its protocol is {protocol!r}, expected {DISJOINT} or {PUBLISHED}", protocol not in (DISJOINT, PUBLISHED)),
            ("it holds a single episode, of which there is no interval: at least 2 are needed", len(both) < 2)]


def _named(episodes: Episodes) -> bool:
    """Whether there are as many classes as `categories` says, and no two of an episode are the same."""
    names = episodes.categories
    if names is None:
        return episodes.way == len(LABELS)
    return episodes.way > 1 and names.dtype.kind == "U" and names.shape == (len(episodes.support), episodes.way - 1) and all(
        len({"", *row}) == episodes.way for row in names.tolist())


def _of_their_classes(episodes: Episodes, segments: Sequence[Segment]) -> bool:
    """Whether every column holds segments of its class."""
    labels, categories = np.array([s.label for s in segments]), np.array([s.category for s in segments])

    def right(side: np.ndarray, numbers: tuple[int, ...]) -> bool:
        of_label = labels[side] == np.repeat(np.arange(episodes.way) > 0, numbers)
        if episodes.categories is None:
            return bool(of_label.all())
        of_category = categories[side[:, numbers[0]:]] == np.repeat(episodes.categories, numbers[1:], axis=1)
        return bool(of_label.all() and of_category.all())

    return right(episodes.support, (episodes.shot,) * episodes.way) and right(episodes.query, episodes.queries)


def _shared(episodes: Episodes, segments: Sequence[Segment]) -> str:
    """Where support and query of one episode first share a video or a source, in words; "" where none do."""
    group, rows = group_segments(segments).of_segment, np.arange(len(episodes.query))[:, None]
    supports = np.zeros((len(rows), group.max() + 1), bool)
    supports[rows, group[episodes.support]] = True
    meets = supports[rows, group[episodes.query]]
    if not meets.any():
        return ""
    row, column = np.argwhere(meets)[0]
    return f"row {row} has {segments[episodes.query[row, column]]} as a query beside support segments of the same video or source"
