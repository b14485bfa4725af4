"""What a run says before it starts, and the JAX settings it starts with."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from ml_collections import ConfigDict

from acx_jax import __version__
from acx_jax.contracts import Together
from acx_jax.runtime import devices
from acx_jax.runtime.run_log import RunLog


def set_up(config: ConfigDict, together: Together | None = None) -> int:
    """Sets JAX up for this config, before anything is computed. Gives this process's number among those that train `together`, 0 alone."""
    batch = config.source.batch if config.source.steps else config.adapt.batch
    devices.split_cpu(batch // max(together.count, 1) if together else batch)
    keep_compiled_programs()
    if together:
        devices.join_processes(*together)
    return devices.process()[0] if together else 0


def announce(config: ConfigDict, workdir: Path, log: RunLog) -> None:
    """Says the version, the config, the device and the workdir."""
    log.info(f"acx_jax {__version__}, config {config.name}, seed {config.seed}")
    log.info(f"device: {devices.describe()}")
    log.info(f"workdir: {workdir}")


def keep_compiled_programs() -> None:
    """Compiled programs are kept in the user's cache folder, so that a second run need not wait for them."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acx_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
