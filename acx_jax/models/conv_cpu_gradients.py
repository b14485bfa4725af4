"""The gradients of the convolution of clips as a CPU runs them fastest: products of matrices and convolutions of `conv_cpu`.

The input's gradient is a convolution of the output's; with strides, one for each place that an input element can have between two steps, so
that no product meets a zero. The kernel's gradient is a matrix product over all output positions for each tap; for 3x3 taps in space
Winograd's minimal filtering saves more than half of them, as in the forward pass (Lavin and Gray, CVPR 2016).
"""
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

from acx_jax.models import conv_cpu
from acx_jax.models.conv_cpu import NONE, ONES, SMALL_FRAME, Padding, Size, pad, stack_taps, views

Array = jax.Array


def input_gradient(x: Array, kernel: Array, dy: Array, strides: Size, padding: Padding) -> Array:
    """The gradient [B, T, H, W, Cin] for `x` of the sum of `dy` times the convolution; of `x` only the shape is used."""
    if strides == ONES:
        around = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel.shape[:3], padding, strict=True))
        return conv_cpu.convolve(dy, _turned(kernel), ONES, around)
    steps = [-(-(lo + n) // s) for n, s, (lo, _) in zip(x.shape[1:4], strides, padding, strict=True)]
    phases = [_phase(kernel, dy, strides, phase, steps) for phase in itertools.product(*map(range, strides))]
    b, cin = x.shape[0], x.shape[4]
    dx = jnp.stack(phases).reshape(*strides, b, *steps, cin).transpose(3, 4, 0, 5, 1, 6, 2, 7)
    dx = dx.reshape(b, *(n * s for n, s in zip(steps, strides, strict=True)), cin)
    starts = [lo for lo, _ in padding]
    return lax.slice(dx, (0, *starts, 0), (b, *(lo + n for lo, n in zip(starts, x.shape[1:4], strict=True)), cin))


def _turned(kernel: Array) -> Array:
    return kernel[::-1, ::-1, ::-1].swapaxes(3, 4)


def _phase(kernel: Array, dy: Array, strides: Size, phase: Size, steps: list[int]) -> Array:
    """Gradients of the input elements `phase` behind a step, [B, *steps, Cin]: step m sees tap phase + stride * q of output m - q."""
    taps = kernel[tuple(slice(p, None, s) for p, s in zip(phase, strides, strict=True))]
    if 0 in taps.shape:  # a stride longer than the kernel passes over elements
        return jnp.zeros((dy.shape[0], *steps, kernel.shape[3]), dy.dtype)
    around = tuple((k - 1, n - o) for k, n, o in zip(taps.shape[:3], steps, dy.shape[1:4], strict=True))
    return conv_cpu.convolve(dy, _turned(taps), ONES, around)


def kernel_gradient(x: Array, shape: tuple[int, ...], dy: Array, strides: Size, padding: Padding) -> Array:
    """The gradient for the kernel of `shape` [kt, kh, kw, Cin, Cout]."""
    window, cout = shape[:3], shape[4]
    if window[1:] == (1, 1) and window[0] > 1 and strides == ONES and cout < shape[3] and padding[1:] == (NONE, NONE):
        return _over_time(x, shape, dy, padding[0][0])
    if window[1:] == (3, 3) and strides[1:] == (1, 1) and conv_cpu.winograd_pays(x, cout, math.prod(dy.shape[2:4])):
        return _winograd(x, shape, dy, strides[0], padding)
    (folded, folded_strides), rest = _stacked_taps(window, strides, dy.shape[1:4])
    columns = stack_taps(pad(x, padding), folded, folded_strides)
    gradients = jnp.stack([_product(view, dy) for view in views(columns, *rest)])
    return gradients.reshape(*window[1:], window[0], shape[3], cout).transpose(2, 0, 1, 3, 4)


def _stacked_taps(window: Size, strides: Size, output: Size) -> tuple[tuple[Size, Size], tuple[Size, Size]]:
    """Which taps are stacked in the channels, all or those in time, and which have a product each; each with its strides."""
    if window[1:] == (1, 1) or output[1] * output[2] <= SMALL_FRAME:
        return (window, strides), (ONES, ONES)
    return ((window[0], 1, 1), (strides[0], 1, 1)), ((1, *window[1:]), (1, *strides[1:]))


def _product(x: Array, dy: Array) -> Array:
    """[Cin, Cout] over all positions. Flat operands: XLA's CPU products that contract several axes run at half the speed."""
    return x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])


def _over_time(x: Array, shape: tuple[int, ...], dy: Array, before: int) -> Array:
    """Taps in time alone, `dy` shifted for each of them and stacked: it has fewer channels to copy than `x`."""
    taps, _, _, cin, cout = shape
    frames = x.shape[1]
    dy = pad(dy, ((taps - 1 - before, frames - dy.shape[1] + before), NONE, NONE))
    shifted = lax.optimization_barrier(jnp.concatenate([lax.slice_in_dim(dy, j, j + frames, axis=1) for j in range(taps - 1, -1, -1)], -1))
    return _product(x, shifted).reshape(cin, taps, cout).swapaxes(0, 1).reshape(shape)


def _winograd(x: Array, shape: tuple[int, ...], dy: Array, stride: int, padding: Padding) -> Array:
    """The transpose of `conv_cpu.winograd` for its kernel, with one flat product for each of the 16 elements and tap in time."""
    taps, _, _, cin, cout = shape
    groups = conv_cpu.groups_of(x, cout)
    if groups > 1:
        parts = lax.map(lambda pair: _winograd_products(pair[0], shape, pair[1], stride, padding),
                        tuple(one.reshape(groups, -1, *one.shape[1:]) for one in (x, dy)))
        products = parts.sum(axis=0)
    else:
        products = _winograd_products(x, shape, dy, stride, padding)
    transform = jnp.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], x.dtype)
    return jnp.einsum("ia,jb,ijtcd->tabcd", transform, transform, products.reshape(4, 4, taps, cin, cout))


def _winograd_products(x: Array, shape: tuple[int, ...], dy: Array, stride: int, padding: Padding) -> Array:
    """[16, kt, Cin, Cout]."""
    inputs, tiles = conv_cpu.winograd_inputs(pad(x, (padding[0], NONE, NONE)), dy.shape[2:4], padding)
    dy = pad(dy, (NONE, *((0, 2 * n - m) for n, m in zip(tiles, dy.shape[2:4], strict=True))))
    rows = lax.optimization_barrier(_output_transpose(dy, 2))
    outputs = lax.optimization_barrier([one for row in rows for one in _output_transpose(row, 3)])
    return jnp.stack([jnp.stack([_product(view, out) for view in views(one, (shape[0], 1, 1), (stride, 1, 1))])
                      for one, out in zip(inputs, outputs, strict=True)])


def _output_transpose(dy: Array, axis: int) -> list[Array]:
    """The transpose of Winograd's output transform along one axis, whose length is even."""
    even, odd = (lax.slice_in_dim(dy, i, None, 2, axis) for i in range(2))
    return [even, even + odd, even - odd, -odd]
