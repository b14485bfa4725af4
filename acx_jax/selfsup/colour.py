"""Colour views: brightness, contrast, saturation and hue of a whole clip, in random order."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma


def jitter(key: jax.Array, clip: jax.Array, *, with_hue: bool = True) -> jax.Array:
    """All four changes in random order, one draw for all frames. clip float [T, H, W, 3] in [0, 1] -> the same.

    Factors as published: brightness and contrast in [0.5, 1.5], saturation in [0.75, 1.25], hue in [-0.5, 0.5] of the circle.
    with_hue: False leaves the hue as it is, and dm-pix unused.
    """
    changes, order = _drawn(key)
    if not with_hue:
        changes = [*changes[:-1], lambda clip: clip]
    return jax.lax.scan(lambda changed, which: (jax.lax.switch(which, changes, changed), None), clip, order)[0]


def last_jitter(key: jax.Array, clip: jax.Array) -> jax.Array:
    """The published form of `jitter`: each change starts from the clip as it was, so that only the last one shows."""
    changes, order = _drawn(key)
    return jax.lax.switch(order[-1], changes, clip)


def _drawn(key: jax.Array) -> tuple[list[Callable[[jax.Array], jax.Array]], jax.Array]:
    """The four changes with their factors, and their order."""
    order_key, *keys = jax.random.split(key, 5)
    ranges = ((0.5, 1.5), (0.5, 1.5), (0.75, 1.25), (-0.5, 0.5))
    factors = [jax.random.uniform(k, (), minval=low, maxval=high) for k, (low, high) in zip(keys, ranges)]
    changes = [lambda x, change=change, factor=factor: jnp.clip(change(x, factor), 0, 1)
               for change, factor in zip((brightness, contrast, saturation, hue), factors)]
    return changes, jax.random.permutation(order_key, 4)


def brightness(clip: jax.Array, factor: jax.Array) -> jax.Array:
    """Blends with black."""
    return clip * factor


def contrast(clip: jax.Array, factor: jax.Array) -> jax.Array:
    """Blends with each frame's mean grey."""
    mean = jnp.mean(clip @ GREY, axis=(-2, -1))[..., None, None, None]
    return mean + factor * (clip - mean)


def saturation(clip: jax.Array, factor: jax.Array) -> jax.Array:
    """Blends with the grey picture."""
    grey = (clip @ GREY)[..., None]
    return grey + factor * (clip - grey)


def hue(clip: jax.Array, turn: jax.Array) -> jax.Array:
    """Turns the hue by a share of the circle."""
    import dm_pix  # here, so that a benchmark of other views needs no more than jax

    return dm_pix.adjust_hue(clip, turn)
