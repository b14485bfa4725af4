"""Which files are videos and images, by name and kind, which must not be opened, and the error of one that cannot be read; nothing here opens one."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()
)
IMAGE_SUFFIXES = frozenset(".bmp .jpeg .jpg .png .webp".split())
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class DecodeError(Exception):
    """A video that cannot be read, or not to its end. `problem` says why without the path."""

    def __init__(self, path: Path, problem: str):
        super().__init__(f"{path}: {problem}")
        self.problem = problem


def image_files(folder: Path) -> list[Path]:
    """The images of a frame folder in natural order; hidden files and others are left out."""
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(images, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple:
    """A sort key that puts frame 9 before frame 10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)], name


def check_plain(path: Path) -> None:
    """Raises OSError where no file is at `path`, or one that must not be opened: a named pipe would be waited for, a device read, for ever."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind in _KINDS:
        raise OSError(errno.EINVAL, f"it is {_KINDS[kind]} and no file of a disk", str(path))
