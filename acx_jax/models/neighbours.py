"""Nearest-neighbour graphs inside segments."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def nearest_neighbours(nodes: jax.Array, segment: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    """The k nodes of the same segment nearest to each node in Euclidean distance, itself included and first.

    nodes: float [..., N, D]. segment: int [..., N], -1 for padding. Returns (picks bool [..., N, j, N], valid bool [..., N, j])
    with j = min(k, N): picks[n, i, m] says that m is the i-th neighbour of n. Where a segment has fewer than j nodes, the surplus
    picks nothing and is not valid, so that k works as min(k, nodes of the segment). Ties go to the lower index. A node of the
    padding has itself for its only neighbour, so that what is computed from it stays finite.

    Takes the nearest k times: for some dozen nodes that compiles and runs many times faster than a sort, and a pick is a
    product's operand where an index would need a gather (and its gradient a scatter).
    """
    squares = jnp.sum(nodes**2, axis=-1)
    # Near nodes differ in the last digits, which an accelerator's default precision rounds away.
    products = jnp.matmul(nodes, nodes.swapaxes(-1, -2), precision=jax.lax.Precision.HIGHEST)
    distances = squares[..., :, None] + squares[..., None, :] - 2 * products
    together = (segment[..., :, None] == segment[..., None, :]) & (segment >= 0)[..., None, :]
    itself = jnp.eye(nodes.shape[-2], dtype=bool)
    distances = jnp.where(itself, -jnp.inf, jnp.where(together, distances, jnp.inf))  # itself first, whatever the rounding
    order, picks = jnp.arange(nodes.shape[-2]), []
    for _ in range(min(k, len(order))):
        nearest = jnp.min(distances, axis=-1, keepdims=True)
        lowest = jnp.min(jnp.where(distances == nearest, order, len(order)), axis=-1, keepdims=True)
        pick = (order == lowest) & (nearest < jnp.inf)
        distances = jnp.where(pick, jnp.inf, distances)
        picks.append(pick)
    picks = jnp.stack(picks, axis=-2)
    return picks, picks.any(axis=-1)
