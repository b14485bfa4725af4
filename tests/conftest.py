"""Four fake CPU devices for every test, and where the real data and recorded outputs lie."""

import contextlib
import gc
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="module", autouse=True)
def freed_programs() -> Iterator[None]:
    """Compiled programs are let go behind each module: one of them takes up to 9,000 memory maps, and a process has 65,530 in all."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def quick_compiler() -> Iterator[None]:
    """XLA optimises nothing while a module runs whose time would nearly all go into compiling."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of runs in processes of their own: they find acx_jax from any folder and share compiled programs.

    Nearly all their time would go into compiling, so XLA is told to optimise nothing.
    """
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="session")
def acx(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs acx_jax.main with the given arguments to its end, in the repository or in the folder `cwd`."""

    def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "acx_jax.main", *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def acx_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `acx`, but in this process, where all is loaded: for the many ways to be refused. What a run raises, it raises here."""
    from acx_jax.main import main

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "as it is")  # else a run would set JAX's folder of programs, for all tests behind it

    def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        said = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
        with contextlib.redirect_stdout(said[0]), contextlib.redirect_stderr(said[1]):
            status = main(list(arguments))
        return subprocess.CompletedProcess(arguments, status, *(_text(one) for one in said))

    return run


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _shared_data() -> Path:
    return Path(os.environ.get("ACX_DATA", ROOT.parent / "shared" / "data"))


def _folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"no {what} at {path} (set ACX_DATA to the data folder beside it)")
    return path
