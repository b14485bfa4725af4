"""Batch normalisation (Ioffe and Szegedy 2015) whose running variance may be the unbiased one, as PyTorch keeps it."""
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


class BatchNorm(nn.Module):
    """y = (x - mean) / sqrt(variance + eps) * scale + bias, over every axis but the last.

    Parameters `scale` and `bias`, statistics `mean` and `var` (collection `batch_stats`), all [C] float32. Statistics
    are computed in float32 whatever the dtype of the input, and always normalise with the biased variance.

    Attributes:
      eps: added to the variance.
      momentum: share of the old running statistics that an update keeps (1 - PyTorch's momentum).
      use_scale: whether there is a `scale`.
      unbiased: whether the running variance follows n / (n - 1) times the batch's, n being values per channel.
      axis_name: a mapped axis (of pmap, vmap or shard_map) over which statistics are shared, or None.
      dtype: of the result.
    """

    eps: float = 1e-5
    momentum: float = 0.9
    use_scale: bool = True
    unbiased: bool = True
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[..., C] -> [..., C] of `dtype`; with `train` uses the batch's statistics and updates the running ones."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32) if self.use_scale else jnp.float32(1)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not train:
            mean, var = running_mean.value, running_var.value
        else:
            # Variables are made outside the mapped axis.
            mean, var, count = batch_statistics(x, None if self.is_initializing() else self.axis_name)
        if train and not self.is_initializing():
            correction = count / jnp.maximum(count - 1, 1) if self.unbiased else 1.0
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var * correction
        factor = scale * lax.rsqrt(var + self.eps)
        return (x.astype(jnp.float32) * factor + (bias - mean * factor)).astype(self.dtype)


class Folded(nn.Module):
    """In the place of a norm that is folded into the convolution before it: gives back what it gets."""

    def __call__(self, x: Array, *, train: bool) -> Array:
        """[...] -> the same. Raises ValueError in training, where a norm follows the batch."""
        if train:
            raise ValueError("a network with folded norms cannot be trained")
        return x


def batch_statistics(x: Array, axis_name: str | None = None) -> tuple[Array, Array, Array]:
    """Mean [C], biased variance [C] and count [] of values per channel of `x` [..., C], shared over `axis_name`."""
    values = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    count = jnp.float32(values.shape[0])
    mean, square = values.mean(0), jnp.square(values).mean(0)
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
        count = lax.psum(count, axis_name)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0), count
