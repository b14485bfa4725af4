"""The flags of acx_jax.main, and the config that a workdir remembers."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import json
import os
import re
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from acx_jax import config as schema
from acx_jax.contracts import Together
from acx_jax.errors import UsageError
from acx_jax.runtime.files import write_json
from acx_jax.settings import NAMED_WEIGHTS, SCHEMA

STAGE_NAMES = ("all", "check", "prepare", "adapt", "embed", "augment", "meta_train", "evaluate", "report")
JOINED_STAGES = ("adapt", "embed")  # that several processes do together
MEMORY = "config.json"


class Shard(NamedTuple):
    """Part `index`, from 0, of `count` of the videos."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Request(NamedTuple):
    """What the command line asks for. config_file None: the one that the workdir remembers. shard None: all videos. together None: alone."""

    config_file: Path | None
    overrides: dict[str, str]
    workdir: Path
    stage: str
    shard: Shard | None = None
    together: Together | None = None


def parse(arguments: list[str]) -> Request | None:
    """Reads the command line; prints the help and returns None for --help. Raises UsageError for anything wrong."""
    values = _define_flags()
    overrides, rest = _split_overrides(arguments)
    try:
        extra = values(["acx_jax.main", *("--help" if argument == "-h" else argument for argument in rest)])[1:]
    except flags.Error as error:
        raise UsageError(f"{error}; see --help") from None
    if values.help:
        print(_help(values))
        return None
    if extra:
        raise UsageError(f"unexpected argument {extra[0]!r}: every setting is given as --name=value; see --help")
    config_file = _path(values.config) if values.config else None
    if config_file is None and not values.workdir:
        raise UsageError("say what to run: --config=configs/demo.py, or --workdir=FOLDER of an earlier run; see --help")
    workdir = _path(values.workdir) if values.workdir else Path("runs") / config_file.stem
    return Request(config_file, overrides, workdir, values.stage, _shard(values.shard, values.stage), _together(values.join, values.stage))


def _shard(text: str, stage: str) -> Shard | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UsageError(f"--shard={text}: expected i/n with i from 0 to n - 1, such as --shard=3/16")
    if stage != "prepare":
        raise UsageError(f"--shard={text} divides the videos of --stage=prepare alone; the stage is {stage}")
    return Shard(int(match[1]), int(match[2]))


def _together(text: str, stage: str) -> Together | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", text)
    if text != "auto" and not (match and int(match[1]) < int(match[2])):
        raise UsageError(f"--join={text}: expected i/n@host:port with i from 0 to n - 1, such as --join=0/2@node1:9876, or auto under SLURM and on TPUs")
    if stage not in JOINED_STAGES:
        raise UsageError(f"--join={text} is for {' and '.join(f'--stage={name}' for name in JOINED_STAGES)} alone, which several processes do "
                         f"together; the stage is {stage}")
    return Together(int(match[1]), int(match[2]), match[3]) if match else Together(0, 0, "auto")


def joins(arguments: list[str]) -> bool:
    """Whether the process was to join others."""
    return any(argument.lstrip("-").startswith("join") for argument in arguments)


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # shells leave the ~ of --name=~/folder as it is


def _define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("config", "", "configuration file, such as configs/demo.py", flag_values=values)
    flags.DEFINE_string("workdir", "", "folder of the run; default runs/<config name>; it remembers its config", flag_values=values)
    flags.DEFINE_enum("stage", "all", STAGE_NAMES, "bring this stage up to date, and what it needs", flag_values=values)
    flags.DEFINE_string("shard", "", "i/n: read every n-th video from number i on, for --stage=prepare on several machines that share the "
                        "workdir; the same command without it puts the shards together", flag_values=values)
    flags.DEFINE_string("join", "", "i/n@host:port: work as process i of n that share the workdir, for --stage=adapt and --stage=embed; process 0 answers at "
                        "host:port. auto: as SLURM or the TPU says", flag_values=values)
    flags.DEFINE_bool("help", False, "show this", flag_values=values)
    return values


def _split_overrides(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Takes --config.a.b=value (or --config.a.b value) out of the arguments."""
    overrides, rest, pending = {}, [], None
    for argument in arguments:
        if pending is not None and not argument.startswith("--"):
            overrides[pending], pending = argument, None
        elif pending is not None:
            break
        elif argument.startswith(("--config.", "-config.")):
            key, equals, value = argument.lstrip("-").removeprefix("config.").partition("=")
            pending = None if equals else key
            overrides |= {key: value} if equals else {}
        else:
            rest.append(argument)
    if pending is not None:
        raise UsageError(f"--config.{pending} has no value: write --config.{pending}=VALUE")
    return overrides, rest


def _help(values: flags.FlagValues) -> str:
    lines = ["python -m acx_jax.main --config=FILE [--workdir=FOLDER] [--stage=NAME] [--shard=i/n] [--join=i/n@host:port] [--config.a.b=value ...]", ""]
    lines += [f"  --{name}: {values[name].help}" for name in ("config", "workdir", "stage", "shard", "join")]
    lines += ["", f"stages: {', '.join(STAGE_NAMES)}", "", "settings (default):"]
    lines += [f"  --config.{key}={setting.default!r}: {setting.doc}; {setting.range}" for key, setting in SCHEMA.items()]
    return "\n".join(lines)


def make_workdir(workdir: Path) -> None:
    """Creates the folder of the run. Raises UsageError when a file is in its place."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--workdir={workdir} is a file, or lies below one: name a folder") from None


def wanted_config(request: Request) -> ConfigDict:
    """The validated config that this run asks for.

    With --config its file is read anew and the overrides of earlier runs still hold; without, the remembered values
    hold. Overrides of this run come on top. Raises UsageError if the workdir was made with a config of another name.
    """
    return _resolve(request)[0]


def remember(request: Request) -> ConfigDict:
    """`wanted_config`, which the workdir remembers from now on."""
    config, memory = _resolve(request)
    write_json(request.workdir / MEMORY, memory)
    return config


def _resolve(request: Request) -> tuple[ConfigDict, dict[str, Any]]:
    """The config of this run and what the workdir is to remember of it."""
    memory = _read_memory(request.workdir / MEMORY)
    if request.config_file is None:
        if memory is None:
            raise UsageError(f"{request.workdir} remembers no config yet: name one with --config=FILE")
        config, name = schema.from_flat(memory["values"]), memory["config"]
    else:
        config = load_config_file(request.config_file)
        name = config.name
        _check_same_config(request, memory, name)
    overrides = {**(memory["overrides"] if memory else {}), **request.overrides}
    if overrides.get("data.root"):
        overrides["data.root"] = _absolute(overrides["data.root"])
    config = schema.with_overrides(config, overrides)
    config.data.root = _absolute(config.data.root) if config.data.root else ""
    if config.encoder.weights not in NAMED_WEIGHTS:
        config.encoder.weights = _absolute(config.encoder.weights)
        overrides |= {"encoder.weights": config.encoder.weights} if "encoder.weights" in overrides else {}
    schema.validate(config)
    return config, {"config": name, "overrides": overrides, "values": schema.flatten(config)}


def _absolute(root: str) -> str:
    return str(_path(root).absolute())  # remembered runs are started from other folders


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
        schema.with_overrides(schema.from_flat(memory["values"]), memory["overrides"])
        return {key: memory[key] for key in ("config", "overrides", "values")}
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        reason = f" ({error})" if isinstance(error, UsageError) else ""
        raise UsageError(f"{path} is damaged{reason}: delete it and name the config with --config=FILE") from None


def load_config_file(path: Path) -> ConfigDict:
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


def explain(error: OSError) -> str:
    """An operating-system error as one line that says what to do."""
    where = f" ({error.filename})" if error.filename else ""
    hints = {
        errno.ENOSPC: "the disk is full: free some space and run the same command, it goes on from here",
        errno.EDQUOT: "the disk quota is used up: free some space and run the same command, it goes on from here",
        errno.EROFS: "the folder is on a read-only disk: choose another --workdir",
        errno.EACCES: "no permission to write or read here: choose another --workdir, or change its permissions",
        errno.EPERM: "not permitted: choose another --workdir, or change its permissions",
    }
    return hints.get(error.errno, str(error.strerror or error)) + where
