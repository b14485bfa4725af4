"""Baselines on one pooled vector a segment."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.fit import fit_minibatches, mean_cross_entropy
from acx_jax.fewshot.learner import Learner, Params, pooled
from acx_jax.models.context_perception import uniform_fan_in


def proto(*, features: int, way: int, pool: str) -> Learner:
    """Class means; logits are minus the squared distance to them, divided by the dimension (Snell et al., 2017)."""

    def init(key: jax.Array) -> Params:
        return jnp.zeros((way, features))

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        members = jax.nn.one_hot(support.labels, way).T
        return members @ pooled(support.graphs, pool) / members.sum(axis=1, keepdims=True)

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        differences = pooled(graphs, pool)[:, None] - params[None]
        return -jnp.sum(differences**2, axis=-1) / features

    return Learner(init, adapt, logits)


def linear(*, features: int, way: int, pool: str, epochs: int, batch: int, learning_rate: float, weight_decay: float) -> Learner:
    """A linear layer fitted by SGD with momentum 0.9, dampening 0.9 and weight decay on everything."""

    def init(key: jax.Array) -> Params:
        uniform = uniform_fan_in(features)
        kernel_key, bias_key = jax.random.split(key)
        return {"kernel": uniform(kernel_key, (features, way)), "bias": uniform(bias_key, (way,))}

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return pooled(graphs, pool) @ params["kernel"] + params["bias"]

    def loss(params: Params, part: Support, counts: jax.Array) -> jax.Array:
        return mean_cross_entropy(logits(params, part.graphs), part.labels, counts)

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        optimiser = optax.chain(optax.add_decayed_weights(weight_decay), dampened_momentum(0.9, 0.9), optax.scale(-learning_rate))
        return fit_minibatches(loss, optimiser, params, support, key, batch=batch, epochs=epochs)

    return Learner(init, adapt, logits)


def length() -> Learner:
    """How far the number of clips alone tells the classes apart: nearest class mean of its logarithm.

    The logits are scaled by the spread of the support, so that they do not depend on the unit of length.
    """

    def log_length(graphs: Graphs) -> jax.Array:
        return jnp.log(graphs.mask.sum(axis=-1).astype(jnp.float32))

    def init(key: jax.Array) -> Params:
        return {"means": jnp.zeros(2), "variance": jnp.ones(())}

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        lengths, members = log_length(support.graphs), jax.nn.one_hot(support.labels, 2).T
        return {"means": members @ lengths / members.sum(axis=1), "variance": jnp.var(lengths) + 1e-6}

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return -((log_length(graphs)[:, None] - params["means"]) ** 2) / params["variance"]

    return Learner(init, adapt, logits)


def dampened_momentum(momentum: float, dampening: float) -> optax.GradientTransformation:
    """v <- momentum v + (1 - dampening) g, the first v being g itself, as PyTorch's SGD has it."""

    def init(params: Params) -> tuple[Params, jax.Array]:
        return jax.tree.map(jnp.zeros_like, params), jnp.zeros((), bool)

    def update(gradients: Params, state: tuple[Params, jax.Array], params: Params = None):
        trace, started = state
        weight = jnp.where(started, 1 - dampening, 1.0)
        trace = jax.tree.map(lambda v, g: momentum * v + weight * g, trace, gradients)
        return trace, (trace, jnp.ones((), bool))

    return optax.GradientTransformation(init, update)
