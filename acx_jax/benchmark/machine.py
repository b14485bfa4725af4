"""What the measurements ran on, and how fast it multiplies matrices: the rate that other rates are a share of."""

from __future__ import annotations

import platform
from typing import Any

import jax
import jax.numpy as jnp

from acx_jax.benchmark.timing import call

SIZES = {"cpu": 2048}  # of the square matrices; elsewhere:
LARGE = 8192


def describe() -> dict[str, Any]:
    """The device, the versions of JAX and Python, and the system."""
    device = jax.local_devices()[0]
    return {"device": device.device_kind, "platform": device.platform, "devices": jax.local_device_count(),
            "jax": jax.__version__, "python": platform.python_version(), "system": platform.platform()}


def matrix_rates(repeats: int = 25) -> dict[str, float]:
    """GFLOP/s of one large square product by number format, the best of `repeats`; bfloat16 on accelerators only.

    Products are at JAX's default precision, as the encoders' are: on an NVIDIA card float32 means TF32 then.
    """
    dtypes = ["float32"] if jax.default_backend() == "cpu" else ["float32", "bfloat16"]
    return {dtype: _rate(SIZES.get(jax.default_backend(), LARGE), dtype, repeats) for dtype in dtypes}


def _rate(size: int, dtype: str, repeats: int) -> float:
    product = jax.jit(jnp.matmul)
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(dtype)
    call(lambda: product(a, a))
    return 2 * size**3 / min(call(lambda: product(a, a)) for _ in range(repeats)) / 1e9
