"""What the check finds out from given clip vectors: arrays that are copies of each other, and what is labelled differently in them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from acx_jax.contracts import Segment
from acx_jax.data.builders.feature_arrays import BadArray, Place, read_vectors
from acx_jax.data.builders.features import list_features
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.tree import printable
from acx_jax.data.check.copies import contradictions
from acx_jax.stages import check_words
from acx_jax.stages.check_media import Found
from acx_jax.stages.job import Job

Array = tuple[Path, str]  # its file and, of an archive, its name there


def vectors(job: Job, listed: Listing) -> Found:
    """Arrays of the same vectors; those that are labelled differently make results wrong."""
    root = Path(job.config.data.root)
    places, wanted = list_features(root).places, set(listed.segments)
    problems, warnings, report = [], [], []
    for group in _same({segment: place for segment, place in places.items() if segment in wanted}):
        names = [_name(root, array) for array in group]
        against = contradictions(list(group.values()), [0.0] * len(group))
        what = f"{check_words.listed(names)} are the same vectors"
        report.append({"videos": names, "same_bytes": True, "contradictions": against})
        problems += [f"{what}, labelled differently: {against[0]}"] if against else []
        warnings += [] if against else [what]
    return Found({"copies": report}, problems, warnings)


def _same(places: Mapping[Segment, Place]) -> Iterator[dict[Array, list[Segment]]]:
    """Arrays that hold the same numbers, and the segments in use of each, counted from its first vector."""
    in_array: dict[Array, list[Segment]] = defaultdict(list)
    for segment, place in places.items():
        in_array[place.file, place.member].append(segment._replace(start=place.start, end=place.stop - 1))
    by_digest = defaultdict(dict)
    for array, segments in in_array.items():
        by_digest[_digest(array)][array] = segments
    yield from (group for found, group in by_digest.items() if found and len(group) > 1)


def _digest(array: Array) -> str:
    """Of the shape and the float32 numbers of an array; "" of one that can be read no more."""
    try:
        found = read_vectors(*array)
    except BadArray:
        return ""
    return hashlib.sha256(repr(found.shape).encode() + found.tobytes()).hexdigest()


def _name(root: Path, array: Array) -> str:
    file, member = array
    return printable(file.relative_to(root)) + (f" [{member}]" if member else "")
