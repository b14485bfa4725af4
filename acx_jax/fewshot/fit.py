"""Fitting a head on a support set by minibatch gradient steps, as one scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Support


def batch_order(key: jax.Array, *, size: int, batch: int, epochs: int) -> tuple[jax.Array, jax.Array]:
    """Indices [steps, batch] into a support set of `size`, reshuffled each epoch, and which of them count (bool).

    The last batch of an epoch is filled up with indices that do not count.
    """
    steps = -(-size // batch)
    orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, epochs))
    filled = jnp.pad(orders, ((0, 0), (0, steps * batch - size))).reshape(epochs * steps, batch)
    counts = jnp.tile((jnp.arange(steps * batch) < size).reshape(steps, batch), (epochs, 1))
    return filled, counts


def fit_minibatches(
    loss: Callable[[Any, Support, jax.Array], jax.Array],
    optimiser: optax.GradientTransformation,
    params: Any,
    support: Support,
    key: jax.Array,
    *,
    batch: int,
    epochs: int,
) -> Any:
    """Minimises loss(params, part of the support, counts bool [batch]) and returns the params after the last step."""
    batch = min(batch, len(support.labels))
    order = batch_order(key, size=len(support.labels), batch=batch, epochs=epochs)
    return fit_in_order(loss, optimiser, params, support, order)[0]


def fit_in_order(
    loss: Callable[[Any, Support, jax.Array], jax.Array],
    optimiser: optax.GradientTransformation,
    params: Any,
    support: Support,
    order: tuple[jax.Array, jax.Array],
) -> tuple[Any, jax.Array]:
    """One step a row of `order`, as `batch_order` gives it. Returns the last params and each step's loss before it [steps]."""
    support = jax.tree.map(jnp.asarray, support)

    def gradient_of(params: Any, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        indices, counts = drawn
        return jax.value_and_grad(loss)(params, jax.tree.map(lambda x: x[indices], support), counts)

    return fit_steps(gradient_of, optimiser, params, order)


def fit_steps(gradient_of: Callable[[Any, Any], tuple[jax.Array, Any]], optimiser: optax.GradientTransformation, params: Any,
              drawn: Any) -> tuple[Any, jax.Array]:
    """One step of the optimiser a row of `drawn`: gradient_of(params, row) -> loss, gradient. Returns as `fit_in_order`."""

    def step(carry: Any, row: Any) -> tuple[Any, jax.Array]:
        params, state = carry
        value, gradient = gradient_of(params, row)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, optimiser.init(params)), drawn)
    return params, losses


def mean_cross_entropy(logits: jax.Array, labels: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean over the rows that count. logits [B, way], labels int [B], counts bool [B]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(losses * counts) / jnp.sum(counts)
