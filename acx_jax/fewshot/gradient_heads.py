"""Heads on one pooled vector a segment that are fitted by gradient steps."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.fit import fit_minibatches, mean_cross_entropy
from acx_jax.fewshot.learner import Learner, Params, pooled
from acx_jax.models.context_perception import uniform_fan_in

TWO_LAYER_HIDDEN = 128
COSINE_SCALE = 2.0
SMALL_NORM = 1e-5


def linear(*, features: int, way: int, pool: str, **fit: float) -> Learner:
    """One linear layer; `fit` is what `fitted_by_sgd` takes."""

    def scores(params: Params, vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
        return vectors @ params["kernel"] + params["bias"], vectors

    return fitted_by_sgd(lambda key: dense_init(key, features, way), scores, pool=pool, **fit)


def two_layer(*, features: int, way: int, pool: str, **fit: float) -> Learner:
    """Linear, ReLU, linear with 128 units between; `fit` is what `fitted_by_sgd` takes."""

    def init(key: jax.Array) -> Params:
        first, second = jax.random.split(key)
        return {"hidden": dense_init(first, features, TWO_LAYER_HIDDEN), "out": dense_init(second, TWO_LAYER_HIDDEN, way)}

    def scores(params: Params, vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = jax.nn.relu(vectors @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        return hidden @ params["out"]["kernel"] + params["out"]["bias"], hidden

    return fitted_by_sgd(init, scores, pool=pool, **fit)


def cosine(*, features: int, way: int, pool: str, **fit: float) -> Learner:
    """x / (|x| + 1e-5) times a weight-normalised matrix, times 2 (Chen et al., "A Closer Look at Few-shot Classification", 2019).

    Direction and length of each class's vector are learnt apart; `fit` is what `fitted_by_sgd` takes.
    """

    def init(key: jax.Array) -> Params:
        direction = dense_init(key, features, way)["kernel"]
        return {"direction": direction, "length": jnp.linalg.norm(direction, axis=0)}

    def scores(params: Params, vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
        lengths = jnp.linalg.norm(params["direction"], axis=0)
        return COSINE_SCALE * unit(vectors) @ (params["direction"] * (params["length"] / lengths)), vectors

    return fitted_by_sgd(init, scores, pool=pool, **fit)


def fitted_by_sgd(
    init: Callable[[jax.Array], Params],
    scores: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]],
    *,
    pool: str,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    spectral: float = 0.0,
) -> Learner:
    """A learner fitted by SGD with momentum 0.9, dampening 0.9 and weight decay on everything.

    scores(params, vectors [B, P]) -> logits [B, way] and the features [B, F] that its last layer sees. `spectral` weighs their
    squared singular values in the loss (batch spectral regularisation; Liu et al., 2020): their sum is the sum of their
    squares, so that a last layer on fixed vectors is left as it is.
    """

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return scores(params, pooled(graphs, pool))[0]

    def loss(params: Params, part: Support, counts: jax.Array) -> jax.Array:
        values, seen = scores(params, pooled(part.graphs, pool))
        return mean_cross_entropy(values, part.labels, counts) + spectral * jnp.sum(seen**2 * counts[:, None])

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        optimiser = optax.chain(optax.add_decayed_weights(weight_decay), dampened_momentum(0.9, 0.9), optax.scale(-learning_rate))
        return fit_minibatches(loss, optimiser, params, support, key, batch=batch, epochs=epochs)

    return Learner(init, adapt, logits)


def dense_init(key: jax.Array, inputs: int, outputs: int) -> Params:
    """A linear layer's kernel [inputs, outputs] and bias [outputs], as PyTorch draws them."""
    uniform, (kernel, bias) = uniform_fan_in(inputs), jax.random.split(key)
    return {"kernel": uniform(kernel, (inputs, outputs)), "bias": uniform(bias, (outputs,))}


def unit(vectors: jax.Array) -> jax.Array:
    """[..., P] over its length plus 1e-5; a vector of zeros stays one, with a finite gradient."""
    squares = jnp.sum(vectors**2, axis=-1, keepdims=True)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return vectors / (length + SMALL_NORM)


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
