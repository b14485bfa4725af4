"""How many operations the encoders' convolutions ask for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from acx_jax.models.conv import Conv3D
from acx_jax.models.encoders import EncoderSpec, trainable


def forward_flops(spec: EncoderSpec, shape: tuple[int, ...]) -> dict[str, float]:
    """Two for every multiplication of a forward pass over clips [B, T, H, W, 3], padding included, by outermost module."""
    counts: Counter[str] = Counter()

    def counting(method: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        y = method(*args, **kwargs)
        if isinstance(context.module, Conv3D) and context.method_name == "__call__":
            counts[context.module.path[0]] += 2 * y.size * math.prod(context.module.kernel) * args[0].shape[-1]
        return y

    with nn.intercept_methods(counting):
        clips = jax.ShapeDtypeStruct(shape, jnp.float32)
        jax.eval_shape(partial(spec.build().init, train=False), jax.random.key(0), clips)
    return {name: float(count) for name, count in counts.items()}


def training_flops(spec: EncoderSpec, shape: tuple[int, ...], *, trained: int, frozen: str | None, forward: int = 1) -> float:
    """Those of a step of the adaptation over a batch of `shape`: `trained` views with both gradients of what is not frozen, and `forward`
    others, such as the positive, without. What `remat` computes anew does not count."""
    passes = forward_flops(spec, shape)
    moves = trainable(spec, dict.fromkeys(passes, 0), frozen)
    return sum(count * (trained + forward + 2 * trained * moves[name]) for name, count in passes.items())
