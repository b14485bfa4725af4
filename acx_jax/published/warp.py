"""The published local warp, with its swapped axes, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jax.numpy as jnp

from acx_jax.published.bundle import Bundle, Check
from acx_jax.published.measured import Measured, measured
from acx_jax.selfsup.geometry import identity, sample, swapped_bend

FILE = "spatial_warp.npz"


def warps(bundle: Bundle) -> Iterator[Measured]:
    """Every recorded warp of the recorded clip [1, T, S, S, 3]."""
    arrays = bundle.arrays(FILE)
    clip = arrays["x"][0]
    grid = identity(clip.shape[1])
    numbers = sorted(int(name[5:]) for name in arrays if re.fullmatch(r"point\d+", name))
    pairs = [(f"y{i}", sample(clip, swapped_bend(grid, jnp.asarray(arrays[f"point{i}"], jnp.int32))), arrays[f"y{i}"][0]) for i in numbers]
    yield measured("pixels", pairs, tolerance=0)


CHECKS: dict[str, Check] = {"warp": Check((FILE,), warps)}
