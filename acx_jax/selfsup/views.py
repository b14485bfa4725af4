"""Views of clips for contrastive training: pure functions of a key and a uint8 clip, drawn for each sample."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.selfsup import colour, geometry


def view(key: jax.Array, clip: jax.Array, warp: jax.Array, *, size: int) -> jax.Array:
    """Random rotation, crop and colours, one draw for the whole clip.

    clip: uint8 [T, S, S, 3], S at least `size`. warp: bool, whether local warps bend the scene too, so that what two views
    share is the motion. Returns float32 [T, size, size, 3] in [0, 1].
    """
    warp_key, crop_key, rotate_key, colour_key = jax.random.split(key, 4)
    plain = geometry.identity(size)
    grid = jax.tree.map(lambda bent, straight: jnp.where(warp, bent, straight), geometry.local_warps(warp_key, plain), plain)
    side = clip.shape[1]
    grid = geometry.rotate(rotate_key, geometry.crop(crop_key, grid, of=side), of=side)
    return colour.jitter(colour_key, geometry.sample(clip, grid).astype(jnp.float32) / 255)
