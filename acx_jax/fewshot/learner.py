"""The one interface of everything that learns from a support set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acx_jax.contracts import ContextFeatures, Graphs, Support

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


def pooled_segments(features: ContextFeatures, pool: str) -> ContextFeatures:
    """Each segment as the one vector that `pooled` makes of it: an episode gathers far less of those."""
    starts, counts = features.offsets[:-1], np.diff(features.offsets)
    if pool == "middle":
        vectors = features.vectors[starts + (counts - 1) // 2]
    else:
        vectors = np.add.reduceat(features.vectors, starts, axis=0) / counts[:, None].astype(np.float32)
    return ContextFeatures(vectors, np.arange(len(counts) + 1))
