"""Clip vectors that a user brings, of any encoder, in place of videos: they go straight to evaluation.

    normal/<video>.npy, abnormal/<video>.npy                    arrays [N, D], each one segment
    <video>/ctx_normal.npy, <video>/ctx_abnormal.npy            the tree of the published implementation, augmented sequences beside them
    *.npz, or <video>.npy, and one *.csv of labels              one row a video, or one a vector: a run of equal labels is a segment
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from acx_jax.contracts import LABELS, NORMAL, Segment, Skipped
from acx_jax.data.builders.feature_arrays import BadArray, Place, members, read_vectors
from acx_jax.data.builders.feature_copies import find_copies, is_copy
from acx_jax.data.builders.feature_labels import Labels, read_labels, runs
from acx_jax.data.builders.listing import Listing, size_and_time
from acx_jax.data.builders.tree import Lost, check_root, folders_below, hidden, printable
from acx_jax.errors import UsageError

_EXPECTED = ("normal/ and abnormal/ with .npy files, or <video>/ctx_normal.npy and ctx_abnormal.npy, or .npz or .npy files beside one "
             ".csv with the columns video and label")
_SUFFIXES = (".npy", ".npz", ".csv")
_PUBLISHED = {f"ctx_{name}.npy": label for label, name in enumerate(LABELS)}
_DOTA_NAME = re.compile(r"(.{11})_\d{6}")  # of DoTA's videos; what stands first is their source


class Featured(NamedTuple):
    """The listing, in which the frames of a segment are its vectors, counted from 0; where the vectors of each lie; and its augmented sequences."""

    listing: Listing
    places: dict[Segment, Place]
    copies: dict[Segment, tuple[Path, ...]]


class _Array(NamedTuple):
    """One array to be read, and what is said of it; `label` is None where a table has to say."""

    video: str
    file: Path
    member: str
    label: int | None

    @property
    def name(self) -> str:
        return self.member or self.file.name


def list_features(root: Path) -> Featured:
    """Reads and checks every array under `root` but the augmented sequences; each is in use or skipped by name.

    Raises UsageError when the layout or the table of labels is not understood, when two arrays differ in dimension, or when
    all vectors of several arrays are the same.
    """
    check_root(root, _EXPECTED)
    lost: list[Skipped] = []
    files = _files(root, lost.append)
    arrays, broken, beside = _arrays(root, files)
    table = _table(root, files) if any(array.label is None for array in arrays) or (broken and _tables(root, files)) else {}
    places: dict[Segment, Place] = {}
    skipped, dimensions, counted = [*broken], {}, Counter()
    distinct: set[bytes] = set()  # of each array the first vector, and the first other one
    for array in arrays:
        try:
            if array.label is None and counted[array.video]:
                raise BadArray(f"another array is named {array.video}: give each a name of its own")
            vectors = read_vectors(array.file, array.member)
            found = list(_segments(array, len(vectors), table, first=counted[array.video]))
        except BadArray as error:
            skipped.append(Skipped(_place(root, array), str(error)))
            continue
        dimensions.setdefault(vectors.shape[1], _place(root, array))
        distinct |= {row.tobytes() for row in (vectors[0], *vectors[(vectors != vectors[0]).any(axis=1)][:1])}
        places.update(found)
        counted[array.video] += len(vectors)
    _check_dimensions(dimensions)
    _check_not_constant(root, len(distinct), len(places))
    absent = [name for name in table if name not in {array.video for array in arrays}]
    skipped += [Skipped(f"{name} ({table[name].place})", "there is no array of this name") for name in absent]
    names = {array.video for array in arrays} | set(absent) | ({item for item, _ in broken} if not table else set())
    plain = {(segment.video, segment.label): segment for segment in places}
    copies, aside = find_copies(root, beside, plain)
    listing = _listing(places, names, [*lost, *skipped, *aside], len(skipped) - (len(broken) if table else 0))
    if copies:
        note = f"{sum(map(len, copies.values()))} augmented sequences of {len(copies)} segments: config.episodes.augmented puts them into the support"
        listing = listing._replace(notes=(note,))
    return Featured(listing, places, {plain[of]: each for of, each in copies.items()})


def fingerprint(root: Path) -> str:
    """16 hex digits that change with the name, size or time of any array or table under `root`."""
    check_root(root, _EXPECTED)
    facts = [[printable(file.relative_to(root)), *size_and_time(file)] for file in _files(root)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _files(root: Path, lost: Lost = lambda item: None) -> list[Path]:
    found = (folder / name for folder, names in folders_below(root, lost) for name in names if not hidden(name))
    return sorted(path for path in found if path.suffix.lower() in _SUFFIXES)


def _arrays(root: Path, files: Iterable[Path]) -> tuple[list[_Array], list[Skipped], list[Path]]:
    """Every array, as far as names tell, normal ones before abnormal ones of the same video; archives that are broken; augmented sequences."""
    found, broken, beside = [], [], []
    for file in files:
        inside, suffix = file.relative_to(root), file.suffix.lower()
        if is_copy(inside):
            beside.append(file)
        elif suffix == ".npy":
            found.append(_named(inside, file))
        elif suffix == ".npz":
            try:
                found += [_Array(member, file, member, None) for member in members(file)]
            except BadArray as error:
                broken.append(Skipped(printable(inside), str(error)))
    if not found and not broken and not beside:
        raise UsageError(f"data root {root} holds no .npy and no .npz file. Expected {_EXPECTED}")
    return sorted(found, key=lambda array: (array.video, array.label or NORMAL)), broken, beside


def _named(inside: Path, file: Path) -> _Array:
    if file.name in _PUBLISHED and len(inside.parts) > 1:
        return _Array(printable(inside.parent), file, "", _PUBLISHED[file.name])
    if inside.parts[0].lower() in LABELS and len(inside.parts) > 1:
        return _Array(printable(Path(*inside.parts[1:]).with_suffix("")), file, "", LABELS.index(inside.parts[0].lower()))
    return _Array(printable(inside.with_suffix("")), file, "", None)


def _tables(root: Path, files: Iterable[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() == ".csv" and file.parent == root]


def _table(root: Path, files: Iterable[Path]) -> dict[str, Labels]:
    tables = _tables(root, files)
    if len(tables) != 1:
        found = ", ".join(file.name for file in tables) or "none"
        raise UsageError(f"data root {root} needs exactly one .csv of labels, found {found}. Expected {_EXPECTED}")
    return read_labels(tables[0])


def _segments(array: _Array, count: int, table: dict[str, Labels], *, first: int) -> Iterator[tuple[Segment, Place]]:
    """The segments of an array of `count` vectors; `first` ones of the same video came before it."""
    if array.label is not None:
        source = _DOTA_NAME.fullmatch(array.video)
        yield (Segment(array.video, first, first + count - 1, array.label, source=source[1] if source else array.video, split="evaluate"),
               Place(array.file, array.member, 0, count))
        return
    said = table.get(array.video)
    if said is None:
        raise BadArray("the table of labels does not name it")
    if len(said.labels) not in (1, count):
        raise UsageError(f"{said.place}: {array.video} has {len(said.labels)} rows, but its array in {array.file.name} has {count} vectors: "
                         "give it one row, or one for each vector")
    for start, stop, label in runs(said.labels * (count if len(said.labels) == 1 else 1)):
        yield (Segment(array.video, start, stop - 1, label, said.category, said.ego_involved, said.source, "evaluate"),
               Place(array.file, array.member, start, stop))


def _check_dimensions(dimensions: dict[int, str]) -> None:
    if len(dimensions) > 1:
        (a, first), (b, second) = list(dimensions.items())[:2]
        raise UsageError(f"the vectors of {first} have {a} numbers, those of {second} {b}: all must come from one encoder")


def _check_not_constant(root: Path, distinct: int, segments: int) -> None:
    if segments > 1 and distinct == 1:
        raise UsageError(f"all vectors under {root} are the same, in all {segments} segments, so that nothing tells normal from abnormal: "
                         "look at the encoder that made them")


def _listing(places: dict[Segment, Place], names: set[str], skipped: list[Skipped], segments_skipped: int) -> Listing:
    used = {segment.video: place.file for segment, place in places.items()}
    return Listing(segments=tuple(places), paths=used, skipped=tuple(skipped), videos_listed=len(names),
                   segments_listed=len(places) + segments_skipped, missing=tuple(sorted(names - used.keys())))


def _place(root: Path, array: _Array) -> str:
    return printable(array.file.relative_to(root)) + (f" [{array.member}]" if array.member else "")
