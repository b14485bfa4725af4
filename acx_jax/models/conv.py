"""3-D convolution over [B, T, H, W, C] arrays, in the layout that the compiler runs fastest.

On GPU and TPU this is `lax.conv_general_dilated` as it stands. On the CPU XLA's 3-D convolution and its gradients are slow: the programs
there are those of `conv_cpu` and `conv_cpu_gradients`. Which program runs is chosen when it is lowered, so an exported program holds the
right one for its platform.
"""
import math
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from acx_jax.models import conv_cpu, conv_cpu_gradients
from acx_jax.models.conv_cpu import ONES, Padding, Size, output_size

Array = jax.Array


def he_deviation(shape: tuple[int, ...]) -> float:
    """sqrt(2 / fan out), the deviation of a fresh kernel [kt, kh, kw, Cin, Cout] (He et al. 2015, section 2.2)."""
    return math.sqrt(2 / (math.prod(shape[:3]) * shape[4]))


def same_padding(size: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...]) -> Padding:
    """TensorFlow's "SAME" padding of (T, H, W) `size`: ceil(size / stride) outputs, the odd element at the end."""
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, window, strides, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def conv3d(x: Array, kernel: Array, strides: Size = ONES, padding: Padding | Literal["SAME"] = "SAME") -> Array:
    """Convolves clips with a kernel; reverse-mode differentiable any number of times.

    Args:
      x: [B, T, H, W, Cin] floating.
      kernel: [kt, kh, kw, Cin, Cout], of the same dtype.
      strides: (time, height, width).
      padding: zeros before and after each of time, height and width, or "SAME" with TensorFlow's meaning.
    Returns:
      [B, T', H', W', Cout] with T' = floor((T + lo + hi - kt) / stride) + 1 and so on.
    Raises:
      ValueError: the channels of `x` and `kernel` differ, or the kernel is larger than the padded clip.
    """
    if x.ndim != 5 or kernel.ndim != 5 or x.shape[-1] != kernel.shape[3]:
        raise ValueError(f"clips {x.shape} and kernel {kernel.shape} are not [B,T,H,W,Cin] and [kt,kh,kw,Cin,Cout]")
    if padding == "SAME":
        padding = same_padding(x.shape[1:4], kernel.shape[:3], strides)
    if min(output_size(x.shape[1:4], kernel.shape[:3], strides, padding)) < 1:
        raise ValueError(f"kernel {kernel.shape} is larger than clips {x.shape} padded by {padding}")
    return _conv3d(x, kernel, tuple(strides), padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv3d(x: Array, kernel: Array, strides: Size, padding: Padding) -> Array:
    options = dict(strides=strides, padding=padding)
    return lax.platform_dependent(x, kernel, cpu=partial(conv_cpu.convolve, **options), default=partial(_direct, **options))


def _conv3d_forward(x: Array, kernel: Array, strides: Size, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _conv3d(x, kernel, strides, padding), (x, kernel)


def _conv3d_backward(strides: Size, padding: Padding, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    options = dict(strides=strides, padding=padding)
    return lax.platform_dependent(
        *saved, dy, cpu=partial(_folded_gradients, **options), default=partial(_direct_gradients, **options))


_conv3d.defvjp(_conv3d_forward, _conv3d_backward)


def _direct(x: Array, kernel: Array, strides: Size, padding: Padding) -> Array:
    names = ("NTHWC", "THWIO", "NTHWC")
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=names)


def _direct_gradients(x: Array, kernel: Array, dy: Array, strides: Size, padding: Padding) -> tuple[Array, Array]:
    return jax.vjp(partial(_direct, strides=strides, padding=padding), x, kernel)[1](dy)


def _folded_gradients(x: Array, kernel: Array, dy: Array, strides: Size, padding: Padding) -> tuple[Array, Array]:
    return (conv_cpu_gradients.input_gradient(x, kernel, dy, strides, padding),
            conv_cpu_gradients.kernel_gradient(x, kernel.shape, dy, strides, padding))


class Conv3D(nn.Module):
    """`conv3d` with parameters `kernel` [kt, kh, kw, Cin, features] and, if asked for, `bias` [features], float32.

    Attributes:
      features: Cout.
      kernel: window over (time, height, width).
      strides: over (time, height, width).
      padding: see `conv3d`.
      use_bias: whether a bias is added.
      dtype: of the computation and of the result.
    """

    features: int
    kernel: Size
    strides: Size = ONES
    padding: Padding | Literal["SAME"] = "SAME"
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, T, H, W, Cin] -> [B, T', H', W', features] of `dtype`."""
        shape = (*self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(he_deviation(shape)), shape, jnp.float32)
        y = conv3d(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
