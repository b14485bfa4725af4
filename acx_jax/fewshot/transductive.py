"""Learners that look at all queries of an episode together."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.baselines import class_means, squared_distances
from acx_jax.fewshot.gradient_heads import unit
from acx_jax.fewshot.learner import Learner, Params, pooled
from acx_jax.fewshot.positive import solve_positive

SMALLEST = 1e-12  # keeps logarithms and quotients finite


def label_propagation(base: Learner, *, pool: str, neighbours: int, delta: float, alpha: float) -> Learner:
    """Any learner, its class probabilities propagated between near queries; the logits are the logarithm of the result."""

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        scores = jax.nn.softmax(base.logits(params, graphs))
        return jnp.log(propagate(pooled(graphs, pool), scores, neighbours=neighbours, delta=delta, alpha=alpha) + SMALLEST)

    return Learner(base.init, base.adapt, logits)


def propagate(vectors: jax.Array, scores: jax.Array, *, neighbours: int, delta: float, alpha: float) -> jax.Array:
    """(I - alpha L)^-1 Y, L = D^-1/2 W D^-1/2 (Zhou et al., "Learning with Local and Global Consistency", 2003).

    vectors [Q, P]. scores [Q, way]: in each column all but about `delta` of the rows, the smallest, count as 0. W: a vector's
    nearest `neighbours`, itself among them, weigh exp(-d^2 / (2 sigma^2)), made symmetric; sigma^2 is the mean of their d^2.
    """
    near, weights = _affinity(vectors, min(neighbours, len(vectors)))
    graph = jnp.where(near | near.T, weights, 0.0)
    scale = jax.lax.rsqrt(jnp.maximum(graph.sum(axis=1), SMALLEST))
    balanced = graph * scale[:, None] * scale[None, :]
    return solve_positive(jnp.eye(len(vectors)) - alpha * balanced, _most_certain(scores, delta))


def _affinity(vectors: jax.Array, neighbours: int) -> tuple[jax.Array, jax.Array]:
    """Who is near to whom, bool [Q, Q], and the weights of all pairs [Q, Q]."""
    squares = jnp.where(jnp.eye(len(vectors), dtype=bool), 0.0, squared_distances(vectors, vectors))
    values, indices = jax.lax.top_k(-squares, neighbours)
    near = jax.nn.one_hot(indices, len(vectors), dtype=bool).any(axis=1)
    spread = jnp.maximum(jnp.mean(-values), SMALLEST)
    return near, jnp.exp(-squares / (2 * spread))


def _most_certain(scores: jax.Array, delta: float) -> jax.Array:
    dropped = int((1 - delta) * len(scores))
    rank = jnp.argsort(jnp.argsort(scores, axis=0), axis=0)
    return jnp.where(rank < dropped, 0.0, scores)


def bd_cspn(*, features: int, way: int, pool: str, temperature: float) -> Learner:
    """Prototypes rectified by the queries (BD-CSPN; Liu, Song and Qin, "Prototype Rectification", 2020).

    The queries are moved so that their mean is the support's; each is given to its nearest prototype in cosine similarity;
    a class's new prototype is the mean of its support and queries weighted by exp(temperature cosine). logits = temperature
    cosine to it.
    """

    def init(key: jax.Array) -> Params:
        return {"mean": jnp.zeros(features), "prototypes": jnp.zeros((way, features)), "sums": jnp.zeros((way, features)),
                "weights": jnp.zeros(way)}

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        vectors, members = pooled(support.graphs, pool), jax.nn.one_hot(support.labels, way)
        prototypes = class_means(vectors, support.labels, way)
        weights = members * weight(vectors, prototypes)
        mean, sums = vectors.mean(axis=0), weights.T @ vectors
        return {"mean": mean, "prototypes": prototypes, "sums": sums, "weights": weights.sum(axis=0)}

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        vectors = pooled(graphs, pool)
        vectors = vectors + params["mean"] - vectors.mean(axis=0)
        likeness = weight(vectors, params["prototypes"])
        weights = jax.nn.one_hot(likeness.argmax(axis=-1), way) * likeness
        rectified = (params["sums"] + weights.T @ vectors) / (params["weights"] + weights.sum(axis=0))[:, None]
        return temperature * unit(vectors) @ unit(rectified).T

    def weight(vectors: jax.Array, prototypes: jax.Array) -> jax.Array:
        return jnp.exp(temperature * (unit(vectors) @ unit(prototypes).T - 1))

    return Learner(init, adapt, logits)
