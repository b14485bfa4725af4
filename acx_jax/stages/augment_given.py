"""Augmented sequences that a user brings beside the features of segments, imported as those that are made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from acx_jax.contracts import StoredSegment
from acx_jax.data.builders import features
from acx_jax.data.builders.feature_arrays import BadArray, read_place, read_vectors
from acx_jax.data.feature_store import FeatureWriter
from acx_jax.errors import UsageError
from acx_jax.stages.job import Job


def run(job: Job, out: Path, segments: list[StoredSegment]) -> None:
    """Writes `<i>`, the i-th augmented sequence of every segment, i below the fewest that a segment has.

    Raises UsageError where that is fewer than `episodes.augmented`, or where an array cannot be used.
    """
    root, asked = Path(job.config.data.root), job.config.episodes.augmented
    listed = features.list_features(root)
    files = [listed.copies.get(s.segment, ()) for s in segments]
    held = min(map(len, files))
    if held < asked:
        raise UsageError(f"config.episodes.augmented is {asked}, but under {root} {_fewer(segments, files, asked)}: ask for at most {held}, or "
                         "add <video>/augmented1/ctx_normal_<i>.npy and ctx_abnormal_<i>.npy")
    if max(map(len, files)) > held:
        job.log.info(f"augment: {held} augmented sequences of each segment are taken: {_fewer(segments, files, held + 1)}")
    dimension = read_place(listed.places[segments[0].segment]).shape[1]
    with job.log.progress("import augmented sequences", held, unit="sets") as advance:
        for copy in range(held):
            _import(job, out / str(copy), [of_segment[copy] for of_segment in files], dimension, copy)
            advance(1)


def _import(job: Job, folder: Path, files: list[Path], dimension: int, copy: int) -> None:
    counts = [len(_read(file, dimension)) for file in files]
    provenance = {"given": features.fingerprint(Path(job.config.data.root)), "copy": copy}
    writer = FeatureWriter(folder, offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), dimension=dimension, provenance=provenance)
    writer.done = 0  # they are read faster than it takes to find out which are written
    for file in files:
        writer.append(_read(file, dimension))


def _read(file: Path, dimension: int) -> np.ndarray:
    try:
        vectors = read_vectors(file)
    except BadArray as error:
        raise UsageError(f"{file}: {error}") from None
    if vectors.shape[1] != dimension:
        raise UsageError(f"the vectors of {file} have {vectors.shape[1]} numbers, those of the segments {dimension}: all must come from one encoder")
    return vectors


def _fewer(segments: list[StoredSegment], files: list[tuple[Path, ...]], number: int) -> str:
    """Which segments have fewer than `number`, in words."""
    fewer = [f"the {s.segment} has {len(of)}" for s, of in zip(segments, files) if len(of) < number]
    return f"{len(fewer)} of {len(segments)} segments have fewer: " + ", ".join(fewer[:3]) + (", ..." if len(fewer) > 3 else "")
