"""An encoder with a projection head on top, as one pure function."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from acx_jax.models.context_perception import uniform_fan_in
from acx_jax.models.encoders import EncoderSpec
from acx_jax.selfsup.training import Project


def init_head(key: jax.Array, *, inputs: int, outputs: int) -> dict[str, jax.Array]:
    """A linear layer [inputs] -> [outputs]."""
    kernel_key, bias_key = jax.random.split(key)
    init = uniform_fan_in(inputs)
    return {"kernel": init(kernel_key, (inputs, outputs)), "bias": init(bias_key, (outputs,))}


def make_projection(spec: EncoderSpec, *, dtype: Any, axis: str | None, train_norm: bool, frozen: str | None) -> Project:
    """project({"encoder", "head"}, statistics, clips in [0, 1]) -> (unit vectors [B, D] float32, new statistics).

    frozen: the last stage of the encoder that is not trained, None for none. train_norm: normalise by the batch (over all devices of `axis`) and update the statistics; else use them as they are.
    """
    encoder: nn.Module = spec.build(dtype, axis)
    mean, std = jnp.asarray(spec.mean), jnp.asarray(spec.std)

    def project(params: Any, statistics: Any, clips: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params["encoder"], "batch_stats": statistics}
        inputs = (clips - mean) / std
        if train_norm:
            features, changed = encoder.apply(variables, inputs, train=True, frozen=frozen, mutable=["batch_stats"])
            statistics = changed["batch_stats"]
        else:
            features = encoder.apply(variables, inputs, train=False, frozen=frozen)
        vectors = features @ params["head"]["kernel"] + params["head"]["bias"]
        # Bounded before the root: the gradient of a norm at zero is not a number.
        squares = jnp.maximum(jnp.sum(vectors**2, axis=-1, keepdims=True), 1e-24)
        return vectors / jnp.sqrt(squares), statistics

    return project
