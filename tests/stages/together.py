"""Processes that work together, one CPU device each, for tests of them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def with_devices(environment: dict[str, str], count: int) -> dict[str, str]:
    return environment | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count} --xla_backend_optimization_level=0"}


def start(environment: dict[str, str], output: Path, *arguments: str) -> subprocess.Popen:
    """Starts acx_jax.main with one device; what it says goes to a file."""
    with output.open("w") as to:
        return subprocess.Popen([sys.executable, "-m", "acx_jax.main", *arguments], cwd=ROOT, env=with_devices(environment, 1), stdout=to,
                                stderr=subprocess.STDOUT)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def until(path: Path, text: str, process: subprocess.Popen) -> None:
    """Waits until a process has said something."""
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, path.read_text()
        time.sleep(0.1)
