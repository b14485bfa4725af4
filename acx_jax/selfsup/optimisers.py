"""Learning rates over the steps of an adaptation, and what they drive."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

DROPS = (0.6, 0.8)  # published: a tenth after epochs 120 and 160 of 200


def learning_rate(name: str, *, peak: float, steps: int, warmup: int) -> optax.Schedule:
    """The rate at each step. name: "cosine" to 0, "step" (published) or "constant"; the first `warmup` steps rise linearly to it."""
    later = {"cosine": lambda: optax.cosine_decay_schedule(peak, steps), "constant": lambda: optax.constant_schedule(peak),
             "step": lambda: partial(_dropping, peak=peak, steps=steps)}[name]()
    if warmup == 0:
        return later
    return lambda step: later(step) * jnp.minimum((step + 1) / warmup, 1.0)


def _dropping(step: Any, *, peak: float, steps: int) -> jax.Array:
    return peak * 0.1 ** sum(jnp.asarray(step >= max(int(share * steps), 1), jnp.float32) for share in DROPS)


def make_optimiser(params: Any, trained: Any, *, name: str, rate: optax.Schedule, momentum: float, decay: float,
                   decay_norms: bool, accumulate: int = 1) -> optax.GradientTransformation:
    """SGD with momentum, whose decay is part of the gradient, or AdamW (Loshchilov and Hutter, 2019), whose is not.

    trained: bools, True for parts of `params` that learn; no other part decays. decay_norms: whether scales and biases, which have
    one axis, decay as well. accumulate: steps whose gradients are averaged into one update; `rate` counts updates.
    """
    mask = jax.tree.map(lambda learns, part: jax.tree.map(lambda x: learns and (decay_norms or x.ndim > 1), part), trained, params)
    if name == "adamw":
        optimiser = optax.adamw(rate, weight_decay=decay, mask=mask)
    else:
        optimiser = optax.chain(optax.add_decayed_weights(decay, mask=mask), optax.sgd(rate, momentum))
    return optimiser if accumulate == 1 else optax.MultiSteps(optimiser, accumulate).gradient_transformation()


def scaled_rate(rate: float, *, batch: int, per: int) -> float:
    """The peak rate for a batch: rate * batch / per (linear scaling; Goyal et al., 2017), or `rate` itself where `per` is 0."""
    return rate * batch / per if per else rate
