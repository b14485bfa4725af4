"""Copies: videos of the same bytes, and videos that look the same; and what is labelled differently in them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.decode import image_files

_SMALL = (64, 48)  # what frames are compared at
_MEAN, _LARGE, _LARGE_SHARE = 2.0, 12.0, 0.99  # grey levels: a copy encoded anew differs by less
_BLOCK = 1 << 20


class Copies(NamedTuple):
    """Two videos, by index, that are one; `same_bytes` or only alike."""

    one: int
    other: int
    same_bytes: bool


def find_copies(paths: Sequence[Path], sizes: Sequence[int], looks: Sequence[np.ndarray], frames: Sequence[int]) -> list[Copies]:
    """Pairs of videos that are the same. sizes: bytes of each. looks: uint8 [n, H, W] of each. frames: of each."""
    same = _same_bytes(paths, sizes)
    alike = [pair for pair in _alike(looks, frames) if pair not in same]
    return [Copies(*pair, True) for pair in sorted(same)] + [Copies(*pair, False) for pair in alike]


def contradictions(one: Sequence[Segment], other: Sequence[Segment]) -> list[str]:
    """What two copies of one video say differently of the same frames."""
    return [f"{a} and {b}" for a in one for b in other if a.label != b.label and _overlap(a, b)]


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's images one after the other."""
    found = hashlib.sha256()
    for file in image_files(path) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
    return found.hexdigest()


def _same_bytes(paths: Sequence[Path], sizes: Sequence[int]) -> set[tuple[int, int]]:
    """Only files of equal size are read."""
    by_size, by_digest = defaultdict(list), defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[size].append(index)
    for group in by_size.values():
        for index in group if len(group) > 1 else ():
            try:
                by_digest[digest(paths[index])].append(index)
            except OSError:
                continue  # what cannot be read is named elsewhere
    return {(group[0], index) for group in by_digest.values() for index in group[1:]}


def _alike(looks: Sequence[np.ndarray], frames: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs whose frames differ by little, everywhere; a coarse look first, so that few pairs are compared in full."""
    whole = [i for i, video in enumerate(looks) if len(video) == max(map(len, looks))]
    if not whole or not len(looks[whole[0]]):
        return []
    small = np.stack([np.stack([_shrink(look) for look in looks[i]]) for i in whole]).astype(np.float32)
    coarse = small.reshape(len(whole), small.shape[1], 6, 8, 8, 8).mean(axis=(3, 5)).reshape(len(whole), -1)
    found = []
    for i in range(1, len(whole)):
        near = np.flatnonzero(np.abs(coarse[:i] - coarse[i]).mean(axis=1) < _MEAN)
        found += [(whole[j], whole[i]) for j in near if _same(small[j], small[i]) and _as_long(frames[whole[j]], frames[whole[i]])]
    return found


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    difference = np.abs(a - b)
    return bool(difference.mean() < _MEAN and np.quantile(difference, _LARGE_SHARE) < _LARGE)


def _as_long(a: int, b: int) -> bool:
    return abs(a - b) <= 0.05 * max(a, b)


def _shrink(look: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(look).resize(_SMALL, Image.Resampling.BOX))


def _overlap(a: Segment, b: Segment) -> bool:
    a_end, b_end = (float("inf") if s.end == TO_THE_END else s.end for s in (a, b))
    return a.start <= b_end and b.start <= a_end
