"""What a run says before it starts, and the JAX settings it starts with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax import __version__
from acx_jax.contracts import Together
from acx_jax.errors import UsageError
from acx_jax.runtime import devices
from acx_jax.runtime.run_log import RunLog


def set_up(config: ConfigDict, together: Together | None = None) -> int:
    """Sets JAX up for this config, before anything is computed. Gives this process's number among those that work `together`, 0 alone."""
    batch = config.source.batch if config.source.steps else config.adapt.batch
    devices.split_cpu(batch // max(together.count, 1) if together else batch)
    keep_compiled_programs()
    if together:
        _join(config, together)
    return devices.process()[0] if together else 0


def _join(config: ConfigDict, together: Together) -> None:
    """Raises UsageError where the others cannot be joined, or where the first of them has another config."""
    how = "--join=auto" if together.coordinator == "auto" else f"--join={together.index}/{together.count}@{together.coordinator}"
    try:
        devices.join_processes(*together)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UsageError(f"{how}: the processes cannot join ({reason}): expected one process 0 that can answer at its host and a free port, "
                         "the same for all; auto under SLURM or on a TPU alone") from None
    own = np.frombuffer(hashlib.sha256(json.dumps([__version__, config.to_dict()], sort_keys=True, default=str).encode()).digest(), np.uint8)
    if not np.array_equal(devices.from_first_process(own), own):
        raise UsageError(f"{how}: this process has other settings, or another version, than process 0: start all with the same command")


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
