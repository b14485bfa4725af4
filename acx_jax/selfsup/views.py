"""Views of clips for contrastive training: pure functions of a key and a uint8 clip, drawn for each sample."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from acx_jax.selfsup import colour, geometry, motion


class ViewOptions(NamedTuple):
    """How views are drawn.

    Attributes:
      size: side of a view in pixels.
      crop: "random", a square of that side out of the frame, "resized", a rectangle of random area and aspect, or "squeeze", the whole
        frame made as small (published).
      jitter: "all" four changes of colour in random order, "all_but_hue", or "last", of these the last alone (published).
      warp: "sample", local warps of each sample's own, "thin_plate", a smooth one of the whole view, or "batch", one draw of local warps
        for all and with swapped axes (published).
      flip, blur, grey: probabilities in [0, 1]; at 0 the compiled program holds nothing of them.
      temporal_jitter: largest share, in [0, 1), by which a view plays slower than its clip; at 0 likewise.
    """

    size: int
    crop: str
    jitter: str
    warp: str
    flip: float = 0.0
    blur: float = 0.0
    grey: float = 0.0
    temporal_jitter: float = 0.0


_FLIP, _BLUR, _GREY, _TIME = range(4, 8)  # folded into a view's key, behind the four keys that it is split into


def view(key: jax.Array, clip: jax.Array, warp: jax.Array, batch_key: jax.Array, *, options: ViewOptions) -> jax.Array:
    """Random rotation, crop and colours, and what else the options ask for, one draw for the whole clip.

    clip: uint8 [T, S, S, 3], S at least `options.size`. warp: bool, whether local warps bend the scene too, so that what two views
    share is the motion. batch_key: the same for all samples of a batch. Returns float32 [T, size, size, 3] in [0, 1].
    """
    warp_key, crop_key, rotate_key, colour_key = jax.random.split(key, 4)
    plain, side = geometry.identity(options.size), clip.shape[1]
    bent = _bent(warp_key, batch_key, plain, options.warp)
    grid = jax.tree.map(lambda bent, straight: jnp.where(warp, bent, straight), bent, plain)
    grid = geometry.rotate(rotate_key, _placed(crop_key, grid, side, options.crop), of=side)
    if options.flip:
        grid = geometry.flip(jax.random.fold_in(key, _FLIP), grid, probability=options.flip)
    if options.temporal_jitter:
        clip = motion.slower(jax.random.fold_in(key, _TIME), clip, most=options.temporal_jitter)
    picture = geometry.sample(clip, grid).astype(jnp.float32) / 255
    return _coloured(key, colour_key, picture, options)


def _bent(key: jax.Array, batch_key: jax.Array, grid: geometry.Grid, warp: str) -> geometry.Grid:
    if warp == "batch":
        return geometry.swapped_warps(batch_key, grid)
    return geometry.thin_plate(key, grid) if warp == "thin_plate" else geometry.local_warps(key, grid)


def _placed(key: jax.Array, grid: geometry.Grid, side: int, crop: str) -> geometry.Grid:
    if crop == "squeeze":
        return geometry.squeeze(grid, of=side)
    return geometry.resized_crop(key, grid, of=side) if crop == "resized" else geometry.crop(key, grid, of=side)


def _coloured(key: jax.Array, colour_key: jax.Array, picture: jax.Array, options: ViewOptions) -> jax.Array:
    if options.jitter == "last":
        picture = colour.last_jitter(colour_key, picture)
    else:
        picture = colour.jitter(colour_key, picture, with_hue=options.jitter == "all")
    if options.grey:
        picture = colour.grey(jax.random.fold_in(key, _GREY), picture, probability=options.grey)
    if options.blur:
        picture = colour.blur(jax.random.fold_in(key, _BLUR), picture, probability=options.blur)
    return picture
