"""Masked nearest-neighbour graphs."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def nearest_neighbours(nodes: jax.Array, mask: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    """The k real nodes nearest to each node in Euclidean distance, itself included, nearest first.

    nodes: float [N, D]. mask: bool [N]. Returns (picks bool [N, j, N], valid bool [N, j]) with j = min(k, N): picks[n, i, m]
    says that m is the i-th neighbour of n. Where fewer than j nodes are real, the surplus picks nothing and is not valid,
    so that k works as min(k, real nodes). Ties go to the lower index.

    Ranks by comparing all pairs of distances: for graphs of some dozen nodes that compiles and runs many times faster than
    a sort, and a pick is a product's operand where an index would need a gather (and its gradient a scatter).
    """
    squares = jnp.sum(nodes**2, axis=-1)
    # Near nodes differ in the last digits, which an accelerator's default precision rounds away.
    distances = squares[:, None] + squares[None, :] - 2 * jnp.matmul(nodes, nodes.T, precision=jax.lax.Precision.HIGHEST)
    distances = jnp.where(jnp.eye(len(nodes), dtype=bool), -jnp.inf, distances)  # itself first, whatever the rounding
    distances = jnp.where(mask[None, :], distances, jnp.inf)
    order = jnp.arange(nodes.shape[0])
    ahead = (distances[:, None, :] < distances[:, :, None]) | (
        (distances[:, None, :] == distances[:, :, None]) & (order[None, :] < order[:, None])
    )
    rank = jnp.sum(ahead, axis=-1)
    picks = (rank[:, None, :] == order[: min(k, len(order)), None]) & mask[None, None, :]
    return picks, picks.any(axis=-1)
