"""What the measurements ran on, and how fast it multiplies matrices: the rate that other rates are a share of."""

from __future__ import annotations

import platform
from typing import Any

import jax

from acx_jax.runtime.peak import matrix_rate


def describe() -> dict[str, Any]:
    """The device, the versions of JAX and Python, and the system."""
    device = jax.local_devices()[0]
    return {"device": device.device_kind, "platform": device.platform, "devices": jax.local_device_count(),
            "jax": jax.__version__, "python": platform.python_version(), "system": platform.platform()}


def matrix_rates(repeats: int = 25) -> dict[str, float]:
    """`matrix_rate` by number format, of all devices; bfloat16 on accelerators only."""
    dtypes = ["float32"] if jax.default_backend() == "cpu" else ["float32", "bfloat16"]
    return {dtype: matrix_rate(dtype, repeats=repeats) for dtype in dtypes}
