"""Motion-broken versions of a clip: the scene stays, the order of its frames does not (arXiv 2112.06320, section 3.2); its speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def reverse(key: jax.Array, clip: jax.Array, other: jax.Array) -> jax.Array:
    """The frames backwards. clip, other: [T, ...]; the key and the other clip are not used."""
    del key, other
    return clip[::-1]


def shuffle(key: jax.Array, clip: jax.Array, other: jax.Array) -> jax.Array:
    """The frames in a random order other than their own: a random one of them is not where it was. [T, ...], T at least 2."""
    del other
    order_key, shift_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(clip))
    turned = jnp.roll(jnp.arange(len(clip)), jax.random.randint(shift_key, (), 1, len(clip)))
    return clip[jnp.where(jnp.all(order == jnp.arange(len(clip))), turned, order)]


def insertion(key: jax.Array, clip: jax.Array, other: jax.Array) -> jax.Array:
    """A run of a quarter to a half of the frames, at a random place, replaced by the same places of another moment. [T, ...] each."""
    length_key, place_key = jax.random.split(key)
    frames = len(clip)
    length = jax.random.randint(length_key, (), max(frames // 4, 1), max(frames // 2, 1) + 1)
    first = jax.random.randint(place_key, (), 0, frames - length + 1)
    at = jnp.arange(frames).reshape(-1, *(1,) * (clip.ndim - 1))
    return jnp.where((at >= first) & (at < first + length), other, clip)


def slower(key: jax.Array, clip: jax.Array, *, most: float) -> jax.Array:
    """Frames of the clip played slower by a uniform share up to `most`, in [0, 1), from a uniform moment at which they last. [T, ...].

    Each frame is the nearest one in time, so the order stays and some come twice.
    """
    speed_key, start_key = jax.random.split(key)
    last = len(clip) - 1
    speed = 1 - jax.random.uniform(speed_key, (), maxval=most)
    start = jax.random.uniform(start_key, ()) * last * (1 - speed)
    return clip[jnp.clip(jnp.round(start + speed * jnp.arange(len(clip))).astype(int), 0, last)]


BREAKS = {"shuffle": shuffle, "reverse": reverse, "insertion": insertion}


def broken(key: jax.Array, clip: jax.Array, other: jax.Array, has_other: jax.Array, *, kind: str) -> jax.Array:
    """A version of `kind`, one of BREAKS or "any" of them at random. Without another moment (has_other False) insertion is shuffle."""
    kind_key, key = jax.random.split(key)
    names = list(BREAKS)
    which = jax.random.randint(kind_key, (), 0, len(names)) if kind == "any" else jnp.int32(names.index(kind))
    which = jnp.where((which == names.index("insertion")) & ~has_other, names.index("shuffle"), which)
    return jax.lax.switch(which, list(BREAKS.values()), key, clip, other)
