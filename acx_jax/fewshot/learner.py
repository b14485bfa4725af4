"""The one interface of everything that learns from a support set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acx_jax.contracts import Graphs, Support

Params = Any


class Learner(NamedTuple):
    """A triple of pure functions, so that vmap, pmap, scan and grad compose.

    init(key) -> params. adapt(params, support, key) -> params. logits(params, graphs [Q, N, P]) -> float32 [Q, way].
    """

    init: Callable[[jax.Array], Params]
    adapt: Callable[[Params, Support, jax.Array], Params]
    logits: Callable[[Params, Graphs], jax.Array]


def pooled(graphs: Graphs, pool: str) -> jax.Array:
    """One vector a segment: the mean of its clips, or its middle clip ("middle"). [S, N, P] -> [S, P]."""
    weights = graphs.mask.astype(graphs.nodes.dtype)
    counts = weights.sum(axis=-1, keepdims=True)
    if pool == "middle":
        weights = jax.nn.one_hot((counts[..., 0].astype(int) - 1) // 2, weights.shape[-1])
        counts = jnp.ones_like(counts)
    return jnp.einsum("...n,...np->...p", weights / counts, graphs.nodes)
