"""Views of clips for contrastive training: pure functions of a key and a uint8 clip, drawn for each sample."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from acx_jax.selfsup import colour, geometry


def anchor_view(key: jax.Array, clip: jax.Array, *, size: int) -> jax.Array:
    """As `view`, its scene bent by local warps: what stays is the motion. [T, S, S, 3] uint8 -> [T, size, size, 3] in [0, 1]."""
    warp_key, key = jax.random.split(key)
    return _view(key, clip, geometry.local_warps(warp_key, geometry.identity(size)))


def view(key: jax.Array, clip: jax.Array, *, size: int) -> jax.Array:
    """Random rotation, crop and colours, one draw for the whole clip. [T, S, S, 3] uint8 -> [T, size, size, 3] in [0, 1]."""
    return _view(key, clip, geometry.identity(size))


def _view(key: jax.Array, clip: jax.Array, grid: geometry.Grid) -> jax.Array:
    crop_key, rotate_key, colour_key = jax.random.split(key, 3)
    side = clip.shape[1]
    grid = geometry.rotate(rotate_key, geometry.crop(crop_key, grid, of=side), of=side)
    return colour.jitter(colour_key, geometry.sample(clip, grid).astype(jnp.float32) / 255)
