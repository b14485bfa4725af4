"""The suites, one file each; a file put here is a suite of its name. What such a file holds:

    SUMMARY: str                                         what is measured, in one line
    add_arguments(parser: argparse.ArgumentParser)       its own options, with their defaults
    run(options: argparse.Namespace) -> Outcome          measures (acx_jax/benchmark/outcome.py)
    SPLIT_CPU = True                                     optional: on a CPU, a device a core, as the stages have it

`options` has, besides the suite's own, `peer` ("torch" or None) and `repeats`. The suites embed, adapt and episodes import jax, flax,
optax, numpy and, for the peer and only then, PyTorch, so that they run on a bare GPU image; prepare and feed need what the data side
needs. A suite raises UsageError for options that make no sense.
"""
import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Of all suites."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The suite `name`, one of `names()`."""
    return importlib.import_module(f"{__name__}.{name}")
