"""Colour views: brightness, contrast, saturation and hue of a whole clip, in random order; grey and blur."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
SIGMAS = (0.1, 2.0)
Ranges = tuple[tuple[float, float], ...]  # of the factors of brightness, contrast and saturation, and of the turn of the hue
PUBLISHED: Ranges = ((0.5, 1.5), (0.5, 1.5), (0.75, 1.25), (-0.5, 0.5))


def jitter(key: jax.Array, clip: jax.Array, *, with_hue: bool = True, ranges: Ranges = PUBLISHED) -> jax.Array:
    """All four changes in random order, one draw for all frames. clip float [T, H, W, 3] in [0, 1] -> the same.

    ranges: factors are uniform in them; as published brightness and contrast in [0.5, 1.5], saturation in [0.75, 1.25], hue in [-0.5, 0.5] of
    the circle. with_hue: False leaves the hue as it is, and dm-pix unused.
    """
    changes, order = _drawn(key, ranges)
    if not with_hue:
        changes = [*changes[:-1], lambda clip: clip]
    return jax.lax.scan(lambda changed, which: (jax.lax.switch(which, changes, changed), None), clip, order)[0]


def last_jitter(key: jax.Array, clip: jax.Array) -> jax.Array:
    """The published form of `jitter`: each change starts from the clip as it was, so that only the last one shows."""
    changes, order = _drawn(key)
    return jax.lax.switch(order[-1], changes, clip)


def _drawn(key: jax.Array, ranges: Ranges = PUBLISHED) -> tuple[list[Callable[[jax.Array], jax.Array]], jax.Array]:
    """The four changes with their factors, and their order."""
    order_key, *keys = jax.random.split(key, 5)
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


def grey(key: jax.Array, clip: jax.Array, *, probability: float) -> jax.Array:
    """The clip without its colours, with that probability. float [T, H, W, 3] -> the same."""
    import dm_pix  # as in `hue`

    return jnp.where(jax.random.bernoulli(key, probability), dm_pix.rgb_to_grayscale(clip, keep_dims=True), clip)


def blur(key: jax.Array, clip: jax.Array, *, probability: float) -> jax.Array:
    """A Gaussian blur with that probability, its deviation uniform in SIGMAS pixels (Chen et al., 2020, appendix A).

    The kernel is about a tenth of the side wide; beyond an edge its pixels go on. float [T, S, S, 3] -> the same.
    """
    import dm_pix  # as in `hue`

    which_key, sigma_key = jax.random.split(key)
    radius = max(clip.shape[1] // 20, 1)
    wide = jnp.pad(clip, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="edge")
    sigma = jax.random.uniform(sigma_key, (), minval=SIGMAS[0], maxval=SIGMAS[1])
    blurred = dm_pix.gaussian_blur(wide, sigma, 2 * radius + 1, padding="VALID")
    return jnp.where(jax.random.bernoulli(which_key, probability), jnp.clip(blurred, 0, 1), clip)
