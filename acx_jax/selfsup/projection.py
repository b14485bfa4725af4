"""An encoder with a projection head on top, as one pure function."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from acx_jax.models.context_perception import uniform_fan_in
from acx_jax.models.encoders import EncoderSpec
from acx_jax.selfsup.measures import to_unit
from acx_jax.selfsup.training import Project


def init_head(key: jax.Array, *, inputs: int, outputs: int) -> dict[str, jax.Array]:
    """A linear layer [inputs] -> [outputs]."""
    kernel_key, bias_key = jax.random.split(key)
    init = uniform_fan_in(inputs)
    return {"kernel": init(kernel_key, (inputs, outputs)), "bias": init(bias_key, (outputs,))}


def make_projection(spec: EncoderSpec, *, dtype: Any, axis: str | None, train_norm: bool, frozen: str | None, shared_norm: bool = True,
                    unit: bool = True) -> Project:
    """project({"encoder", "head"}, statistics, clips in [0, 1]) -> (vectors [B, D] float32, new statistics).

    frozen: the last stage of the encoder that is not trained, None for none. train_norm: normalise by the batch and update the statistics; else
    use them as they are. shared_norm: by the batch over all devices of `axis`; else each device by its part, and only the statistics that are
    kept are the mean over devices. unit: the vectors have norm 1.
    """
    encoder: nn.Module = spec.build(dtype, axis if shared_norm else None)
    mean, std = jnp.asarray(spec.mean), jnp.asarray(spec.std)

    def project(params: Any, statistics: Any, clips: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params["encoder"], "batch_stats": statistics}
        inputs = (clips - mean) / std
        if train_norm:
            features, changed = encoder.apply(variables, inputs, train=True, frozen=frozen, mutable=["batch_stats"])
            statistics = changed["batch_stats"] if shared_norm or axis is None else jax.lax.pmean(changed["batch_stats"], axis)
        else:
            features = encoder.apply(variables, inputs, train=False, frozen=frozen)
        vectors = features @ params["head"]["kernel"] + params["head"]["bias"]
        return (to_unit(vectors) if unit else vectors), statistics

    return project
