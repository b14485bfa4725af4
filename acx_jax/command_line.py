"""The flags of acx_jax.main, and what they ask for."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from absl import flags

from acx_jax.contracts import Together
from acx_jax.errors import UsageError
from acx_jax.settings import SCHEMA

STAGE_NAMES = ("all", "check", "prepare", "adapt", "embed", "augment", "meta_train", "evaluate", "report")
JOINED_STAGES = ("adapt", "embed")  # that several processes do together


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
    config_file = path_of(values.config) if values.config else None
    if config_file is None and not values.workdir:
        raise UsageError("say what to run: --config=configs/demo.py, or --workdir=FOLDER of an earlier run; see --help")
    workdir = path_of(values.workdir) if values.workdir else Path("runs") / config_file.stem
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


def path_of(text: str) -> Path:
    """The path that is meant by a text."""
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


def explain(error: OSError) -> str:
    """An operating-system error as one line that says what to do."""
    where = f" ({error.filename})" if error.filename else ""
    hints = {
        errno.ENOSPC: "the disk is full: free some space and run the same command, it goes on from here",
        errno.EDQUOT: "the disk quota is used up: free some space and run the same command, it goes on from here",
        errno.EFBIG: "a file is larger than the disk, or ulimit -f, allows: choose another --workdir, or raise the limit",
        errno.EROFS: "the folder is on a read-only disk: choose another --workdir",
        errno.EACCES: "no permission to write or read here: choose another --workdir, or change its permissions",
        errno.EPERM: "not permitted: choose another --workdir, or change its permissions",
    }
    return hints.get(error.errno, str(error.strerror or error)) + where
