"""A queue of keys of earlier steps, as explicit state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

EMPTY = -1


class Queue(NamedTuple):
    """keys: float32 [K, D] of unit norm. video: int32 [K], whose key it is, EMPTY where there is none yet. position: int32."""

    keys: jax.Array
    video: jax.Array
    position: jax.Array


def empty_queue(size: int, dimension: int) -> Queue:
    """A queue without entries: none counts as a negative until it was filled."""
    return Queue(jnp.zeros((size, dimension)), jnp.full((size,), EMPTY, jnp.int32), jnp.zeros((), jnp.int32))


def push(queue: Queue, keys: jax.Array, video: jax.Array) -> Queue:
    """Overwrites the oldest entries by keys [B, D] of the videos [B]; with B above K only the last K stay."""
    size = len(queue.video)
    if size == 0:
        return queue
    keys, video = keys[-size:], video[-size:]
    places = (queue.position + jnp.arange(len(video))) % size
    return Queue(queue.keys.at[places].set(keys), queue.video.at[places].set(video), (queue.position + len(video)) % size)
