"""The forward convolution of clips as a CPU runs it fastest: products of matrices and 2-D convolutions.

XLA's 3-D convolution is slow on a CPU, its 2-D one and its products are near the machine's rate. So time and space are done one
after the other: the taps in time are a 2-D convolution over (time, all positions of a frame), or a sum of products where there
are few frames; the taps in space are a 2-D convolution of frames or, for 3x3 ones, Winograd's minimal filtering, which does
with 16 products what takes 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, F(2x2, 3x3)).
"""
import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Size = tuple[int, int, int]
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Array = jax.Array

NONE = (0, 0)
ONES: Size = (1, 1, 1)
NAMES = ("NHWC", "HWIO", "NHWC")
# Up to this many output positions a frame, stacking all taps costs less than a 2-D convolution gains.
SMALL_FRAME = 64
# From this many input channels, a convolution with a stride in space is fastest as one product for each tap.
MANY_CHANNELS = 32
# Winograd's transforms cost memory traffic: of the kernel, shared by all positions, and of each position, shared by the channels.
WINOGRAD_POSITIONS, WINOGRAD_CHANNELS = 1024, 24
# Values that Winograd's transforms may hold at once; more clips than that go one group after the other.
WINOGRAD_VALUES = 2**27


def convolve(x: Array, kernel: Array, strides: Size, padding: Padding) -> Array:
    """`conv.conv3d` with explicit padding: x [B, T, H, W, Cin], kernel [kt, kh, kw, Cin, Cout] -> [B, T', H', W', Cout]."""
    kernel, padding = without_idle_taps(x.shape[1], kernel, strides[0], padding)
    window, cout = kernel.shape[1:3], kernel.shape[4]
    _, height, width = output_size(x.shape[1:4], kernel.shape[:3], strides, padding)
    if window == (1, 1):
        x = pad(x, (NONE, *padding[1:]))[:, :, :: strides[1], :: strides[2]]
        return over_time(x, kernel[:, 0, 0], strides[0], padding[0])
    if window == (3, 3) and strides[1:] == (1, 1) and winograd_pays(x, cout, height * width):
        return in_groups(partial(winograd, kernel=kernel, stride=strides[0], padding=padding), x, cout)
    if strides[1:] != (1, 1) and x.shape[4] >= MANY_CHANNELS:
        taps = kernel.reshape(-1, *kernel.shape[3:])
        return sum(one @ taps[i] for i, one in enumerate(views(pad(x, padding), kernel.shape[:3], strides)))
    if height * width <= SMALL_FRAME or (strides[1:] != (1, 1) and kernel.shape[0] > 1):
        columns = stack_taps(pad(x, (NONE, *padding[1:])), (1, *window), (1, *strides[1:]))
        return over_time(columns, kernel.reshape(kernel.shape[0], -1, cout), strides[0], padding[0])
    return over_frames(x, kernel, strides, padding)


def output_size(size: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], padding: tuple) -> Size:
    """floor((n + lo + hi - k) / stride) + 1 along each axis."""
    return tuple((n + sum(p) - k) // s + 1 for n, k, s, p in zip(size, window, strides, padding, strict=True))


def pad(x: Array, padding: Padding) -> Array:
    """`x` [B, T, H, W, C] with zeros around time, height and width; a negative padding cuts."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in padding), (0, 0, 0)])


def views(x: Array, window: Size, strides: Size) -> list[Array]:
    """For each tap of `window`, time first, what it sees at every output position: [B, T', H', W', C] each."""
    size = output_size(x.shape[1:4], window, strides, (NONE,) * 3)
    spans = [(m - 1) * s + 1 for m, s in zip(size, strides, strict=True)]
    taps = itertools.product(*map(range, window))
    return [lax.slice(x, (0, *tap, 0), (x.shape[0], *(i + n for i, n in zip(tap, spans, strict=True)), x.shape[4]),
                      (1, *strides, 1)) for tap in taps]


def stack_taps(x: Array, window: Size, strides: Size) -> Array:
    """[B, T', H', W', taps * C]: what the taps of `window` see, stacked in the channels as (h, w, t, C)."""
    # One axis after the other: a joint concatenation of all taps takes XLA seconds to compile.
    for axis in (0, 2, 1):
        along = [tuple(n if i == axis else 1 for i, n in enumerate(sizes)) for sizes in (window, strides)]
        if along != [ONES, ONES]:
            x = lax.optimization_barrier(jnp.concatenate(views(x, *along), axis=-1))
    return x


def without_idle_taps(frames: int, kernel: Array, stride: int, padding: Padding) -> tuple[Array, Padding]:
    """Without the first and last taps in time that see nothing but padding; in the clips of a few frames most do."""
    (lo, hi), taps = padding[0], kernel.shape[0]
    outputs = (frames + lo + hi - taps) // stride + 1
    seen = [k for k in range(taps) if any(0 <= t * stride + k - lo < frames for t in range(outputs))]
    if not seen:
        return kernel, padding
    end = (outputs - 1) * stride + seen[-1] - lo  # the last frame that a tap looks at
    return kernel[seen[0]:seen[-1] + 1], ((lo - seen[0], end - frames + 1), *padding[1:])


def over_time(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    """x [B, T, H, W, Cin] and kernel [kt, Cin, Cout], taps in time alone -> [B, T', H, W, Cout]."""
    (b, t, h, w, c), (taps, _, cout) = x.shape, kernel.shape
    if t < 3 and taps > 1:
        return _frame_by_frame(x, kernel, stride, padding)
    x = pad(x, (padding, NONE, NONE))
    if taps == 1:
        return x[:, ::stride] @ kernel[0]
    x = x.reshape(b, x.shape[1], h * w, c)
    y = lax.conv_general_dilated(x, kernel[:, None], (stride, 1), "VALID", dimension_numbers=NAMES)
    return y.reshape(b, y.shape[1], h, w, cout)


def _frame_by_frame(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    """`over_time` without the products of padding, which are many in a clip of few frames."""
    (taps, _, cout), frames = kernel.shape, x.shape[1]
    outputs = (frames + sum(padding) - taps) // stride + 1
    seen = [[(k, t * stride + k - padding[0]) for k in range(taps)] for t in range(outputs)]
    zeros = jnp.zeros((x.shape[0], *x.shape[2:4], cout), x.dtype)
    return jnp.stack([sum((x[:, i] @ kernel[k] for k, i in pairs if 0 <= i < frames), zeros) for pairs in seen], 1)


def over_frames(x: Array, kernel: Array, strides: Size, padding: Padding) -> Array:
    """2-D convolutions of frames, the taps in time stacked in the channels or, where that is less to write, summed."""
    taps, kh, kw, cin, cout = kernel.shape
    size = output_size(x.shape[1:4], kernel.shape[:3], strides, padding)
    x = pad(x, padding)
    seen = views(x, (taps, 1, 1), (strides[0], 1, 1))
    if taps > 1 and cout * size[1] * size[2] > cin * x.shape[2] * x.shape[3]:
        seen = [lax.optimization_barrier(jnp.concatenate(seen, -1))]
        kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(1, kh, kw, taps * cin, cout)
    frames = [one.reshape(-1, *one.shape[2:]) for one in seen]
    y = sum(lax.conv_general_dilated(one, kernel[i], strides[1:], "VALID", dimension_numbers=NAMES)
            for i, one in enumerate(frames))
    return y.reshape(x.shape[0], *size, cout)


def winograd_pays(x: Array, cout: int, positions: int) -> bool:
    """Whether the products saved cost more than the transforms; other formats than float32 would lose digits."""
    cin, enough = x.shape[4], x.shape[0] * x.shape[1] * positions >= WINOGRAD_POSITIONS
    return x.dtype == jnp.float32 and enough and cin * cout >= WINOGRAD_CHANNELS * (cin + cout)


def in_groups(function: Callable[[Array], Array], x: Array, cout: int) -> Array:
    """`function` of clips, in as few equal groups as keep the transforms of Winograd within WINOGRAD_VALUES."""
    groups = groups_of(x, cout)
    if groups == 1:
        return function(x)
    y = lax.map(function, x.reshape(groups, -1, *x.shape[1:]))
    return y.reshape(x.shape[0], *y.shape[2:])


def groups_of(x: Array, cout: int) -> int:
    """How many groups of clips `in_groups` makes."""
    clips = x.shape[0]
    wanted = -(-4 * x.size // x.shape[4] * (x.shape[4] + cout) // WINOGRAD_VALUES)
    return next((n for n in range(wanted, clips) if clips % n == 0), clips)


def winograd(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Taps (kt, 3, 3) without a stride in space: four outputs from a tile of 4x4 inputs, and time among each of the 16."""
    size = output_size(x.shape[1:4], kernel.shape[:3], (stride, 1, 1), padding)
    inputs, tiles = winograd_inputs(x, size[1:], padding)
    kernels = [one for row in _kernel_transform(kernel, 1) for one in _kernel_transform(row, 1)]
    products = [over_time(one, taps, stride, padding[0]) for one, taps in zip(inputs, kernels, strict=True)]
    columns = [_output_transform(products[4 * i:4 * i + 4]) for i in range(4)]
    (y00, y10), (y01, y11) = (_output_transform([column[i] for column in columns]) for i in range(2))
    y = jnp.stack([jnp.stack([y00, y01], 4), jnp.stack([y10, y11], 4)], 3)  # [B, T', tiles, 2, tiles, 2, Cout]
    return y.reshape(*y.shape[:2], 2 * tiles[0], 2 * tiles[1], y.shape[-1])[:, :, :size[1], :size[2]]


def winograd_inputs(x: Array, size: tuple[int, int], padding: Padding) -> tuple[list[Array], tuple[int, int]]:
    """The 16 elements [B, T, *tiles, Cin] of the tiles' transformed 4x4 inputs, and how many tiles a frame of outputs of `size` has."""
    tiles = tuple(-(-n // 2) for n in size)
    even = [(lo, 2 * n + 2 - m - lo) for (lo, _), n, m in zip(padding[1:], tiles, x.shape[2:4], strict=True)]
    rows = lax.optimization_barrier(_input_transform(pad(x, (NONE, *even)), 2, tiles[0]))
    return lax.optimization_barrier([one for row in rows for one in _input_transform(row, 3, tiles[1])]), tiles


def _input_transform(x: Array, axis: int, tiles: int) -> list[Array]:
    d = [lax.slice_in_dim(x, i, i + 2 * tiles - 1, 2, axis) for i in range(4)]
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _kernel_transform(kernel: Array, axis: int) -> list[Array]:
    g = [lax.index_in_dim(kernel, i, axis, keepdims=False) for i in range(3)]
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _output_transform(m: list[Array]) -> tuple[Array, Array]:
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]
