"""What a run says before it starts, and the JAX settings it starts with."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from ml_collections import ConfigDict

from acx_jax import __version__
from acx_jax.runtime import devices
from acx_jax.runtime.run_log import RunLog


MOST_CPU_DEVICES = 4


def announce(config: ConfigDict, workdir: Path, log: RunLog) -> None:
    """Says the version, the config, the device and the workdir; sets up JAX."""
    use_cores(config.adapt.batch)
    log.info(f"acx_jax {__version__}, config {config.name}, seed {config.seed}")
    log.info(f"device: {devices.describe()}")
    log.info(f"workdir: {workdir}")
    keep_compiled_programs()


def use_cores(batch: int) -> None:
    """Splits the CPU into devices, as many as share `batch` equally, unless the environment says how many.

    A CPU device runs small operations on one core: episodes of small graphs take half the time on two.
    """
    if "host_platform_device_count" in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = [n for n in (1, 2, MOST_CPU_DEVICES) if n <= cores and batch % n == 0]
    jax.config.update("jax_num_cpu_devices", max(fitting))


def keep_compiled_programs() -> None:
    """Compiled programs are kept in the user's cache folder, so that a second run need not wait for them."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acx_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
