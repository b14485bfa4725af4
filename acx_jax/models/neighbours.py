"""Masked nearest-neighbour graphs."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def nearest_neighbours(nodes: jax.Array, mask: jax.Array, *, k: int) -> tuple[jax.Array, jax.Array]:
    """The k real nodes nearest to each node in Euclidean distance, itself included.

    nodes: float [N, D]. mask: bool [N]. Returns (indices int32 [N, j], valid bool [N, j]) with j = min(k, N); where fewer
    than j nodes are real, the surplus is marked not valid, so that k works as min(k, real nodes).
    """
    squares = jnp.sum(nodes**2, axis=-1)
    distances = squares[:, None] + squares[None, :] - 2 * nodes @ nodes.T
    distances = jnp.where(mask[None, :], distances, jnp.inf)
    distances = jnp.where(jnp.eye(len(nodes), dtype=bool), -1.0, distances)  # a node is its own nearest, whatever the rounding
    _, indices = jax.lax.top_k(-distances, min(k, nodes.shape[0]))
    return indices, mask[indices]
