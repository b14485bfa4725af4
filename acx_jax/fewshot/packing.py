"""Minibatches of ragged segments packed one after the other, in the smallest of a few sizes that holds them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.contracts import Graphs

STEPS = (16, 24, 32, 40, 56, 96, 384, 1536, 6144)  # rows of a packed batch; each is compiled, and a batch pays for the next one up


def row_sizes(most: int) -> tuple[int, ...]:
    """The sizes to compile for batches of up to `most` rows, rising; the last is `most` itself."""
    return (*(size for size in STEPS if size < most), most)


def size_classes(counts: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    """int32 [steps]: which of `sizes` holds each batch. counts: int [steps, batch], nodes of its segments.

    Under vmap the result is the largest over the mapped axis and not mapped itself, so that a `switch` on it stays one branch.
    """
    return _largest(jnp.searchsorted(jnp.asarray(sizes), counts.sum(axis=-1)).astype(jnp.int32))


def pack(graphs: Graphs, picked: jax.Array, counts: jax.Array, *, rows: int) -> tuple[jax.Array, jax.Array]:
    """Nodes [rows, P] of the picked segments, one after the other, and each node's place in `picked`, -1 behind the last.

    graphs: of S segments [S, N, P]. picked, counts: int [batch], indices of segments and how many nodes of each to take.
    """
    ends = jnp.cumsum(counts)
    row = jnp.arange(rows)
    place = jnp.sum(row[:, None] >= ends, axis=-1)
    inside = jnp.minimum(place, len(counts) - 1)
    node = jnp.clip(row - (ends - counts)[inside], 0, graphs.mask.shape[-1] - 1)
    flat = graphs.nodes.reshape(-1, graphs.nodes.shape[-1])
    return flat[picked[inside] * graphs.mask.shape[-1] + node], jnp.where(place < len(counts), place, -1)


@jax.custom_batching.custom_vmap
def _largest(classes: jax.Array) -> jax.Array:
    return classes


@_largest.def_vmap
def _(axis_size: int, in_batched: list[bool], classes: jax.Array) -> tuple[jax.Array, bool]:
    return _largest(jnp.max(classes, axis=0)), False
