"""One seed, many independent streams: a stream is named by what it is for, and a step is folded into its key."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import jax


def stream(seed: int, name: str) -> jax.Array:
    """The key of the stream `name`. Two names give independent keys; adding a stream changes no other."""
    import jax  # here, because data workers import this module and must not load jax

    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def numpy_stream(seed: int, name: str, *indices: int) -> np.random.Generator:
    """The same for host code: a generator for `name` and, within it, for the given indices (of an episode, a sample)."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *indices])
