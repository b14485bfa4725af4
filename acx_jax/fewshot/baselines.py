"""Nearest class means: of pooled vectors, of centred ones, and of the length alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.gradient_heads import unit
from acx_jax.fewshot.learner import Learner, Params, pooled


def class_means(vectors: jax.Array, labels: jax.Array, way: int) -> jax.Array:
    """[S, P], int [S] -> [way, P]; every class has a member."""
    members = jax.nn.one_hot(labels, way).T
    return members @ vectors / members.sum(axis=1, keepdims=True)


def squared_distances(vectors: jax.Array, means: jax.Array) -> jax.Array:
    """[Q, P], [way, P] -> [Q, way]."""
    return jnp.sum((vectors[:, None] - means[None]) ** 2, axis=-1)


def mixed_up(labels: jax.Array, way: int) -> jax.Array:
    """int [S]: the labels that a support has when its classes take turns and it is taken to stand class by class.

    The order of ProtoNet's classes on features is mixed up in the published code; this is that mistake in its plainest form.
    """
    by_class = jnp.argsort(labels, stable=True).reshape(way, -1)
    runs = jnp.repeat(jnp.arange(way), by_class.shape[1])
    return jnp.zeros_like(labels).at[by_class.T.reshape(-1)].set(runs)


def proto(*, features: int, way: int, pool: str, temperature: float | None = None, class_order: str = "label") -> Learner:
    """Class means; logits are minus the squared distance to them over the temperature (Snell et al., 2017).

    The temperature is the dimension of the vectors unless it is given. class_order: "label", or "position" for means of the
    classes `mixed_up`.
    """

    def init(key: jax.Array) -> Params:
        return jnp.zeros((way, features))

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        labels = support.labels if class_order == "label" else mixed_up(support.labels, way)
        return class_means(pooled(support.graphs, pool), labels, way)

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return -squared_distances(pooled(graphs, pool), params) / (features if temperature is None else temperature)

    return Learner(init, adapt, logits)


def simpleshot(*, features: int, way: int, pool: str) -> Learner:
    """Class means of vectors centred by the support's mean and scaled to length 1 (Wang et al., "SimpleShot", 2019)."""

    def init(key: jax.Array) -> Params:
        return {"centre": jnp.zeros(features), "means": jnp.zeros((way, features))}

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        vectors = pooled(support.graphs, pool)
        centre = class_means(vectors, support.labels, way).mean(axis=0)
        return {"centre": centre, "means": class_means(unit(vectors - centre), support.labels, way)}

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return -squared_distances(unit(pooled(graphs, pool) - params["centre"]), params["means"])

    return Learner(init, adapt, logits)


def length(*, way: int) -> Learner:
    """How far the number of clips alone tells the classes apart: nearest class mean of its logarithm.

    The logits are scaled by the spread of the support, so that they do not depend on the unit of length.
    """

    def log_length(graphs: Graphs) -> jax.Array:
        return jnp.log(graphs.mask.sum(axis=-1).astype(jnp.float32))

    def init(key: jax.Array) -> Params:
        return {"means": jnp.zeros(way), "variance": jnp.ones(())}

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        lengths, members = log_length(support.graphs), jax.nn.one_hot(support.labels, way).T
        return {"means": members @ lengths / members.sum(axis=1), "variance": jnp.var(lengths) + 1e-6}

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return -((log_length(graphs)[:, None] - params["means"]) ** 2) / params["variance"]

    return Learner(init, adapt, logits)
