"""How the vectors of a batch lie on the sphere."""

from __future__ import annotations

import jax
import jax.numpy as jnp

SHARPNESS = 2.0  # t of `uniformity`


def alignment(query: jax.Array, key: jax.Array) -> jax.Array:
    """mean |q - k|^2 of the positive pairs, unit vectors [B, D]; 0 where they meet, at most 4 (Wang and Isola, 2020, eq. 5, alpha 2)."""
    return jnp.mean(jnp.sum((query - key) ** 2, axis=-1))


def uniformity(vectors: jax.Array) -> jax.Array:
    """log mean exp(-2 |x - y|^2) over the pairs of unit vectors [B, D]: 0 where all are one, lower the wider they are spread, at
    least -8 (Wang and Isola, 2020, arXiv 2005.10242, eq. 6, t = 2). 0 of a single vector."""
    count = len(vectors)
    if count < 2:
        return jnp.zeros(())
    squares = jnp.maximum(2.0 - 2.0 * vectors @ vectors.T, 0.0)
    apart = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, -SHARPNESS * squares)
    return jax.nn.logsumexp(apart) - jnp.log(count * (count - 1.0))


def to_unit(vectors: jax.Array) -> jax.Array:
    """[B, D] -> [B, D] of norm 1; zero stays zero."""
    # Bounded before the root: the gradient of a norm at zero is not a number.
    squares = jnp.maximum(jnp.sum(vectors**2, axis=-1, keepdims=True), 1e-24)
    return vectors / jnp.sqrt(squares)
