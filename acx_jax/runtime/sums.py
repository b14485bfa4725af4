"""Digests of a folder's files, noted in it, for a file whose bytes a disk or a copy changed may still read as numbers."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from acx_jax.runtime.files import write_text

SUMS = "SHA256SUMS"  # what `sha256sum -c` reads


def write_sums(folder: Path) -> None:
    """Notes the digest of each file in a folder, in a file of it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SUMS)
    write_text(folder / SUMS, "".join(f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files))


def changed(folder: Path) -> str:
    """What is no longer as `write_sums` noted it, in words; "" where all is, or nothing was noted. Raises OSError where the disk cannot be read."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    except (IsADirectoryError, ValueError):
        return f"{SUMS} is no list of digests"
    for line in lines:
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file():
            return f"{name or SUMS} is missing or cut short"
        if sha256(folder / name) != digest:
            return f"the bytes of {name} are not those that were written"
    return "" if lines else f"{SUMS} is empty"


def sha256(file: Path) -> str:
    """The digest of a file's bytes, in hexadecimal digits; a file that looks unchanged is not read again."""
    return _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)


@cache
def _sha256(file: Path, _size: int, _changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
