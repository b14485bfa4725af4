"""Segments of many lengths as one array of vectors, from which those of an episode are gathered, padded to the longest of them alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acx_jax.contracts import ContextFeatures, Graphs

SAVED = 2  # so many times less padded vectors are worth a second program


class Ragged(NamedTuple):
    """vectors: float32 [V, P] of all segments, one after the other. starts, counts: int32 [S], where each segment's lie, and how many."""

    vectors: Any
    starts: Any
    counts: Any


def ragged(features: ContextFeatures) -> Ragged:
    """The features as arrays of NumPy."""
    return Ragged(np.asarray(features.vectors), features.offsets[:-1].astype(np.int32), np.diff(features.offsets).astype(np.int32))


def gather(segments: Ragged, picked: jax.Array, *, nodes: int) -> Graphs:
    """Segments by index as graphs of `nodes` nodes, which must be as many as each has: picked int [...] -> [..., N, P], mask [..., N].

    Behind a segment's own vectors lie zeros.
    """
    segments = jax.tree.map(jnp.asarray, segments)
    mask = jnp.arange(nodes) < segments.counts[picked][..., None]
    places = jnp.where(mask, segments.starts[picked][..., None] + jnp.arange(nodes), 0)
    return Graphs(jnp.where(mask[..., None], segments.vectors[places], 0), mask)


def size_groups(largest: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Episodes that are padded alike: (nodes, which episodes, int [n] rising), one or two of them, the smaller first.

    largest: int [E], nodes of each episode's largest segment. All are padded to the largest of all, unless few episodes hold so much of it that
    padding the others to their own largest leaves less than 1 / SAVED of the padded vectors.
    """
    order = np.argsort(largest, kind="stable")
    sizes = largest[order].astype(np.int64)
    small = np.arange(1, len(sizes) + 1)  # episodes of the smaller group
    padded = small * sizes + (len(sizes) - small) * sizes[-1]
    best = int(padded.argmin()) + 1
    if padded[best - 1] * SAVED >= padded[-1]:
        return [(int(sizes[-1]), np.arange(len(sizes)))]
    return [(int(part.max()), np.sort(rows)) for rows, part in ((order[:best], sizes[:best]), (order[best:], sizes[best:]))]
