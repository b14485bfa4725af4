"""The config that a workdir remembers, and the one that a run with it asks for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from acx_jax import config as schema
from acx_jax import config_file
from acx_jax.command_line import Request, path_of
from acx_jax.errors import UsageError
from acx_jax.runtime.files import write_json
from acx_jax.settings import NAMED_WEIGHTS, RETIRED

MEMORY = "config.json"


def wanted_config(request: Request) -> ConfigDict:
    """The validated config that this run asks for.

    With --config its file is read anew and the overrides of earlier runs still hold, but for those of a first run that was refused; without,
    the remembered values hold. Overrides of this run come on top. Raises UsageError if the workdir was made with a config of another name.
    """
    return _resolve(request)[0]


@contextlib.contextmanager
def remembering(request: Request) -> Iterator[ConfigDict]:
    """Gives `wanted_config`, which the workdir remembers from now on, unless the run inside refuses it: by UsageError.

    Then the workdir remembers what it did before, unless a stage was made with the new settings: that work would be redone for the old ones.
    Where it remembered nothing, as of a first run, it keeps what was refused and says so: that holds for
    runs that only change it, and no longer for one that names its --config anew.
    """
    before, made = _read_memory(request.workdir / MEMORY), _made(request.workdir)
    config, memory = _resolve(request)
    write_json(request.workdir / MEMORY, memory)
    try:
        yield config
    except UsageError:
        if before is None or before["refused"]:
            write_json(request.workdir / MEMORY, memory | {"refused": True})
        elif _made(request.workdir) == made:
            write_json(request.workdir / MEMORY, before)
        raise


def _made(workdir: Path) -> list[bytes]:
    """What the finished stages in a workdir were made from; but for the check, which is soon made again."""
    stamps = (stamp for stamp in sorted(workdir.glob("*/stage.json")) if stamp.parent.name != "check" and ".partial" not in stamp.parent.name)
    return [stamp.read_bytes() for stamp in stamps if stamp.is_file()]


def _resolve(request: Request) -> tuple[ConfigDict, dict[str, Any]]:
    """The config of this run and what the workdir is to remember of it."""
    memory = _read_memory(request.workdir / MEMORY)
    if request.config_file is None:
        if memory is None:
            raise UsageError(f"{request.workdir} remembers no config yet: name one with --config=FILE")
        config, name = schema.from_flat(memory["values"]), memory["config"]
    else:
        config = config_file.load(request.config_file)
        name = config.name
        _check_same_config(request, memory, name)
    held = memory["overrides"] if memory and not (memory["refused"] and request.config_file) else {}
    overrides = {**held, **request.overrides}
    if overrides.get("data.root"):
        overrides["data.root"] = _absolute(overrides["data.root"])
    config = schema.with_overrides(config, overrides)
    config.data.root = _absolute(config.data.root) if config.data.root else ""
    if config.encoder.weights not in NAMED_WEIGHTS:
        config.encoder.weights = _absolute(config.encoder.weights)
        overrides |= {"encoder.weights": config.encoder.weights} if "encoder.weights" in overrides else {}
    schema.validate(config)
    return config, {"config": name, "overrides": overrides, "values": schema.flatten(config), "refused": False}


def _absolute(root: str) -> str:
    return str(path_of(root).absolute())  # remembered runs are started from other folders


def _check_same_config(request: Request, memory: dict[str, Any] | None, name: str) -> None:
    if memory is not None and memory["config"] != name:
        raise UsageError(
            f"{request.workdir} holds a run of the config {memory['config']!r}, and --config={request.config_file} is "
            f"{name!r}: choose another --workdir, or leave --config out to go on with {memory['config']!r}"
        )


def _read_memory(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        memory = json.loads(path.read_text(encoding="utf-8"))
        memory |= {part: {key: value for key, value in memory[part].items() if key not in RETIRED} for part in ("overrides", "values")}
        schema.with_overrides(schema.from_flat(memory["values"]), memory["overrides"])
        return {key: memory[key] for key in ("config", "overrides", "values")} | {"refused": bool(memory.get("refused"))}
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        reason = f" ({error})" if isinstance(error, UsageError) else ""
        raise UsageError(f"{path} is damaged{reason}: delete it and name the config with --config=FILE") from None
