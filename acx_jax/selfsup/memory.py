"""A queue of keys of earlier steps, as explicit state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

EMPTY = -1  # no key yet: no negative
DRAWN = -2  # a random vector, of no video


class Queue(NamedTuple):
    """keys: float32 [K, D] of unit norm, but those drawn. video: int32 [K], whose key it is, EMPTY or DRAWN. position: int32."""

    keys: jax.Array
    video: jax.Array
    position: jax.Array


def empty_queue(size: int, dimension: int) -> Queue:
    """A queue without entries: none counts as a negative until it was filled."""
    return Queue(jnp.zeros((size, dimension)), jnp.full((size,), EMPTY, jnp.int32), jnp.zeros((), jnp.int32))


def uniform_queue(key: jax.Array, size: int, dimension: int) -> Queue:
    """The published first queue: entries uniform in [-a, a], a = 1 / sqrt(dimension / 3), negatives for every sample."""
    bound = (dimension / 3) ** -0.5
    keys = jax.random.uniform(key, (size, dimension), minval=-bound, maxval=bound)
    return Queue(keys, jnp.full((size,), DRAWN, jnp.int32), jnp.zeros((), jnp.int32))


def push(queue: Queue, keys: jax.Array, video: jax.Array) -> Queue:
    """Overwrites the oldest entries by keys [B, D] of the videos [B]; with B above K only the last K stay."""
    size = len(queue.video)
    if size == 0:
        return queue
    keys, video = keys[-size:], video[-size:]
    places = (queue.position + jnp.arange(len(video))) % size
    return Queue(queue.keys.at[places].set(keys), queue.video.at[places].set(video), (queue.position + len(video)) % size)
