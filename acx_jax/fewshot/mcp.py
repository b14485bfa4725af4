"""The meta context perception head, fitted from scratch on each support set as published."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.fit import fit_minibatches, mean_cross_entropy
from acx_jax.fewshot.learner import Learner, Params
from acx_jax.models.context_perception import ContextHead

EPS_ROOT = 1e-30  # changes no step, and keeps the gradient through Adam finite where a weight's gradient is exactly 0


def mcp(head: ContextHead, *, features: int, epochs: int, batch: int, learning_rate: float) -> Learner:
    """Adam on the mean cross-entropy of minibatches of segments (arXiv 2112.06320; 301 epochs, batch 4, rate 0.01)."""

    def init(key: jax.Array) -> Params:
        return head.init(key, jnp.zeros((1, features)), jnp.ones((1,), bool))

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return head.apply(params, *graphs)

    def loss(params: Params, part: Support, counts: jax.Array) -> jax.Array:
        return mean_cross_entropy(logits(params, part.graphs), part.labels, counts)

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        return fit_minibatches(loss, optax.adam(learning_rate, eps_root=EPS_ROOT), params, support, key, batch=batch, epochs=epochs)

    return Learner(init, adapt, logits)
