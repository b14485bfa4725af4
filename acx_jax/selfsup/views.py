"""Views of clips for contrastive training: pure functions of a key and a uint8 clip, drawn for each sample."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from acx_jax.selfsup import colour, geometry


class ViewOptions(NamedTuple):
    """How views are drawn.

    Attributes:
      size: side of a view in pixels.
      crop: "random", a square of that side out of the frame, or "squeeze", the whole frame made as small (published).
      jitter: "all" four changes of colour in random order, "all_but_hue", or "last", of these the last alone (published).
      warp: "sample", local warps of each sample's own, or "batch", one draw for all and with swapped axes (published).
    """

    size: int
    crop: str
    jitter: str
    warp: str


def view(key: jax.Array, clip: jax.Array, warp: jax.Array, batch_key: jax.Array, *, options: ViewOptions) -> jax.Array:
    """Random rotation, crop and colours, one draw for the whole clip.

    clip: uint8 [T, S, S, 3], S at least `options.size`. warp: bool, whether local warps bend the scene too, so that what two views
    share is the motion. batch_key: the same for all samples of a batch. Returns float32 [T, size, size, 3] in [0, 1].
    """
    warp_key, crop_key, rotate_key, colour_key = jax.random.split(key, 4)
    plain, side = geometry.identity(options.size), clip.shape[1]
    bent = geometry.local_warps(warp_key, plain) if options.warp == "sample" else geometry.swapped_warps(batch_key, plain)
    grid = jax.tree.map(lambda bent, straight: jnp.where(warp, bent, straight), bent, plain)
    placed = geometry.squeeze(grid, of=side) if options.crop == "squeeze" else geometry.crop(crop_key, grid, of=side)
    grid = geometry.rotate(rotate_key, placed, of=side)
    picture = geometry.sample(clip, grid).astype(jnp.float32) / 255
    if options.jitter == "last":
        return colour.last_jitter(colour_key, picture)
    return colour.jitter(colour_key, picture, with_hue=options.jitter == "all")
