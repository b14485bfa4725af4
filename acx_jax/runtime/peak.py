"""How fast the devices multiply matrices: the rate that other rates are a share of."""

from __future__ import annotations

import time
from functools import cache

import jax
import jax.numpy as jnp

from acx_jax.runtime import devices

SIZES = {"cpu": 2048}  # of the square matrices; elsewhere:
LARGE = 8192


@cache
def matrix_rate(dtype: str, *, repeats: int = 5) -> float:
    """GFLOP/s of large square products on all devices of this process at once, the best of `repeats`.

    Products are at JAX's default precision, as the encoders' are: on an NVIDIA card float32 means TF32 then.
    """
    size = SIZES.get(jax.default_backend(), LARGE)
    product = devices.map_over_devices(jnp.matmul, own=True)
    a = devices.replicate(jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(dtype))
    jax.block_until_ready(product(a, a))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(product(a, a))
        seconds.append(time.perf_counter() - began)
    return devices.count() * 2 * size**3 / min(seconds) / 1e9
