"""The meta context perception head, fitted from scratch on each support set as published."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.fit import batch_order, fit_steps, mean_cross_entropy
from acx_jax.fewshot.learner import Learner, Params
from acx_jax.fewshot.packing import pack, row_sizes, size_classes
from acx_jax.models.context_perception import ContextHead

NODES_TOGETHER = 4096  # of the segments that are scored at once: bounds the memory of their edges
EPS_ROOT = 1e-30  # changes no step, and keeps the gradient through Adam finite where a weight's gradient is exactly 0


def mcp(head: ContextHead, *, features: int, epochs: int, batch: int, learning_rate: float) -> Learner:
    """Adam on the mean cross-entropy of minibatches of segments (arXiv 2112.06320; 301 epochs, batch 4, rate 0.01)."""

    def init(key: jax.Array) -> Params:
        return head.init(key, jnp.zeros((1, features)), jnp.ones((1,), bool))

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        if graphs.mask.size <= NODES_TOGETHER:
            return head.apply(params, *graphs)
        return jax.lax.map(lambda segment: head.apply(params, *segment), tuple(graphs), batch_size=max(1, NODES_TOGETHER // graphs.mask.shape[-1]))

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        size = min(batch, len(support.labels))
        order = batch_order(key, size=len(support.labels), batch=size, epochs=epochs)
        return fit_packed(head, optax.adam(learning_rate, eps_root=EPS_ROOT), params, support, order)[0]

    return Learner(init, adapt, logits)


def fit_packed(head: ContextHead, optimiser: optax.GradientTransformation, params: Params, support: Support,
               order: tuple[jax.Array, jax.Array]) -> tuple[Params, jax.Array]:
    """`fit_in_order` of the head with each batch's segments packed: the same losses [steps] and params, without the padding."""
    support = jax.tree.map(jnp.asarray, support)
    picked, counts = order
    nodes = jnp.where(counts, support.graphs.mask.sum(axis=-1)[picked], 0)
    sizes = row_sizes(picked.shape[1] * support.graphs.mask.shape[-1])

    def loss(params: Params, drawn: Any, rows: int) -> jax.Array:
        picked, counts, nodes = drawn
        values, segment = pack(support.graphs, picked, nodes, rows=rows)
        logits = head.apply(params, values, segment, segments=len(picked), method="packed")
        return mean_cross_entropy(logits, support.labels[picked], counts)

    branches = [lambda params, drawn, rows=rows: jax.value_and_grad(loss)(params, drawn, rows) for rows in sizes]

    def gradient_of(params: Params, drawn: Any) -> tuple[jax.Array, Params]:
        size, *drawn = drawn
        return jax.lax.switch(size, branches, params, tuple(drawn))

    return fit_steps(gradient_of, optimiser, params, (size_classes(nodes, sizes), picked, counts, nodes))
