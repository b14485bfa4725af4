"""Four fake CPU devices for every test, and where the real data and recorded outputs lie."""

import os
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of recorded outputs of the published code."""
    return _folder(_shared_data().parent / "parity", "recorded outputs of the published code")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real labelled videos."""
    return _folder(_shared_data(), "real labelled videos")


def _shared_data() -> Path:
    return Path(os.environ.get("ACX_DATA", ROOT.parent / "shared" / "data"))


def _folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"no {what} at {path} (set ACX_DATA to the data folder beside it)")
    return path
