"""Augmented sequences beside the features of segments, in the tree of the published implementation: <video>/augmented1/ctx_normal_<i>.npy."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from acx_jax.contracts import LABELS, Skipped
from acx_jax.data.builders.tree import printable

FOLDER = "augmented"
_NAME = re.compile(rf"ctx_({'|'.join(LABELS)})_(\d+)\.npy")
Copied = tuple[str, int]  # video and label of what a sequence is a copy of


class Copies(NamedTuple):
    """files: of each segment's video and label, by folder and number. aside: what is no copy of a segment, and why."""

    files: dict[Copied, tuple[Path, ...]]
    aside: tuple[Skipped, ...]


def is_copy(inside: Path) -> bool:
    """Whether a file, by its path under the root, lies where augmented sequences do."""
    return len(inside.parts) > 1 and inside.parts[-2].startswith(FOLDER) and inside.suffix.lower() == ".npy"


def find_copies(root: Path, files: Iterable[Path], plain: Container[Copied]) -> Copies:
    """Sorts the files that `is_copy` finds by the segments of `plain`; nothing is read."""
    found: dict[Copied, list[tuple[str, int, Path]]] = {}
    aside = []
    for file in files:
        inside = file.relative_to(root)
        match = _NAME.fullmatch(file.name)
        if match is None:
            aside.append(Skipped(printable(inside), "augmented sequences are named ctx_normal_<i>.npy or ctx_abnormal_<i>.npy"))
            continue
        of = printable(inside.parent.parent), LABELS.index(match[1])
        if of not in plain:
            aside.append(Skipped(printable(inside), f"there is no ctx_{match[1]}.npy in use that it could be an augmented sequence of"))
            continue
        found.setdefault(of, []).append((inside.parts[-2], int(match[2]), file))
    return Copies({of: tuple(file for *_, file in sorted(each)) for of, each in found.items()}, tuple(aside))
