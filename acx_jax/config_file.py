"""A config file: Python whose get_config() gives the config of a run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import traceback
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from acx_jax import config as schema
from acx_jax.errors import UsageError


def load(path: Path) -> ConfigDict:
    """Runs the Python file `path` and returns what its get_config() gives, named after the file if it has no name."""
    if not path.is_file():
        near = ", ".join(sorted(str(other) for other in path.parent.glob("*.py"))) or "no .py file"
        raise UsageError(f"--config={path} is no file; {path.parent} has {near}")
    loader = importlib.machinery.SourceFileLoader(f"config_{path.stem}", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    try:
        loader.exec_module(module)
        config = module.get_config()
    except (Exception, SystemExit) as error:
        raise UsageError(f"--config={path} cannot be used: {_what_is_wrong(error, path)}") from error
    return _named(config, path)


def _what_is_wrong(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    said = re.sub(r"""Other fields present.*}"|\\+n|['"]+$""", " ", str(error), flags=re.DOTALL)  # ml_collections lists the whole group
    return f"{where}{type(error).__name__}: {' '.join(said.split())[:300]}"


def _named(config: Any, path: Path) -> ConfigDict:
    if not isinstance(config, ConfigDict):
        raise UsageError(f"--config={path}: get_config() gave {type(config).__name__}, expected acx_jax.config.default_config() changed")
    schema.flatten(config)
    if not config.name:
        config.name = path.stem
    return config
