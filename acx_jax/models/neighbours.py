"""Nearest-neighbour graphs inside segments."""

from __future__ import annotations

import jax
import jax.numpy as jnp

MANY = 256  # nodes from which on indices are sorted and gathered, block by block: all distances, and a pick for each, would be quadratic
BLOCK = 64  # rows of distances at once, then


def of_neighbours(values: jax.Array, nodes: jax.Array, segment: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    """What `values` has for the k nodes of the same segment nearest to each node in Euclidean distance, itself included and first.

    values: float [..., N, C]. nodes: float [..., N, D]; no gradient goes through the choice. segment: int [..., N], -1 for padding. Returns
    (float [..., N, j, C], valid bool [..., N, j]) with j = min(k, N). Where a segment has fewer than j nodes, the surplus is not valid and
    finite, so that k works as min(k, nodes of the segment). Ties go to the lower index. A node of the padding has itself for its only neighbour.
    """
    nodes = jax.lax.stop_gradient(nodes)
    if nodes.shape[-2] < MANY:
        picks = picked_neighbours(nodes, segment, k=k)
        return jnp.einsum("...njm,...mc->...njc", picks.astype(values.dtype), values), picks.any(axis=-1)
    order, valid = sorted_neighbours(nodes, segment, k=k)
    flat = order.reshape(*order.shape[:-2], -1, 1)
    return jnp.take_along_axis(values, flat, axis=-2).reshape(*order.shape, values.shape[-1]), valid


def picked_neighbours(nodes: jax.Array, segment: jax.Array, *, k: int) -> jax.Array:
    """Picks bool [..., N, j, N]: [n, i, m] says that m is the i-th neighbour of n; a surplus neighbour picks nothing.

    Takes the nearest k times: for some dozen nodes that compiles and runs many times faster than a sort, and a pick is a
    product's operand where an index would need a gather (and its gradient a scatter).
    """
    distances = _distances(nodes, segment, nodes, segment, jnp.arange(nodes.shape[-2]))
    order, picks = jnp.arange(nodes.shape[-2]), []
    for _ in range(min(k, len(order))):
        nearest = jnp.min(distances, axis=-1, keepdims=True)
        lowest = jnp.min(jnp.where(distances == nearest, order, len(order)), axis=-1, keepdims=True)
        pick = (order == lowest) & (nearest < jnp.inf)
        distances = jnp.where(pick, jnp.inf, distances)
        picks.append(pick)
    return jnp.stack(picks, axis=-2)


def sorted_neighbours(nodes: jax.Array, segment: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    """The same as indices int [..., N, j], with which of them are valid; memory grows with N, not with its square."""
    count = nodes.shape[-2]
    starts = jnp.minimum(jnp.arange(0, count, BLOCK), max(count - BLOCK, 0))  # the last block overlaps the one before

    def nearest(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, own = (jax.lax.dynamic_slice_in_dim(x, start, min(BLOCK, count), axis) for x, axis in ((nodes, nodes.ndim - 2), (segment, segment.ndim - 1)))
        values, order = jax.lax.top_k(-_distances(rows, own, nodes, segment, start + jnp.arange(rows.shape[-2])), min(k, count))
        return order, values > -jnp.inf

    blocks = jax.lax.map(nearest, starts)
    places = starts[:, None] + jnp.arange(min(BLOCK, count))

    def joined(x: jax.Array) -> jax.Array:
        """[blocks, ..., BLOCK, j] -> [..., N, j]."""
        x = jnp.moveaxis(x, 0, -3)
        return jnp.zeros((*x.shape[:-3], count, x.shape[-1]), x.dtype).at[..., places, :].set(x)

    return tuple(map(joined, blocks))


def _distances(rows: jax.Array, of_rows: jax.Array, nodes: jax.Array, segment: jax.Array, order: jax.Array) -> jax.Array:
    """Squared distances of some nodes, of the given order among all, to all: [..., R, N]; to itself -inf, whatever the rounding, and to those of
    other segments and of the padding inf."""
    # Near nodes differ in the last digits, which an accelerator's default precision rounds away.
    products = jnp.matmul(rows, nodes.swapaxes(-1, -2), precision=jax.lax.Precision.HIGHEST)
    distances = jnp.sum(rows**2, axis=-1)[..., :, None] + jnp.sum(nodes**2, axis=-1)[..., None, :] - 2 * products
    together = (of_rows[..., :, None] == segment[..., None, :]) & (segment >= 0)[..., None, :]
    itself = order[:, None] == jnp.arange(nodes.shape[-2])
    return jnp.where(itself, -jnp.inf, jnp.where(together, distances, jnp.inf))
