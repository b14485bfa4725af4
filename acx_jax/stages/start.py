"""What a run says before it starts, and the JAX settings it starts with."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from ml_collections import ConfigDict

from acx_jax import __version__
from acx_jax.runtime import devices
from acx_jax.runtime.run_log import RunLog


def set_up(config: ConfigDict) -> None:
    """Sets JAX up for this config; to be called before anything is computed."""
    devices.split_cpu(config.source.batch if config.source.steps else config.adapt.batch)
    keep_compiled_programs()


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
