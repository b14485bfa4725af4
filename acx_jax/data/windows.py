"""Frame-index arithmetic: which windows a segment has, and how it is cut into blocks for storage."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

WINDOWS_PER_BLOCK = 16  # 68 frames at 8-frame windows of stride 4: small enough to read for one clip, large enough to read on


def window_count(frames: int, *, length: int, stride: int) -> int:
    """Windows of `length` frames, `stride` apart, that lie whole in `frames` frames: floor((L - length) / stride) + 1."""
    return max(0, (frames - length) // stride + 1)


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0 .. count - 1, int [n] in order, evenly from the first to the last; all of them if most is 0."""
    return np.arange(count) if not 0 < most < count else np.linspace(0, count - 1, most).round().astype(int)


def most_of_each(counts: Sequence[int], total: int) -> int:
    """The largest `most` for `spread` with which segments of so many windows have at most `total` in all: 0 where that is all of them, 1 where
    there are more segments than that."""
    if sum(counts) <= total:
        return 0
    of_all = np.asarray(counts)
    return max(1, bisect_right(range(max(counts) + 1), total, key=lambda most: int(np.minimum(of_all, most).sum())) - 1)


def block_ranges(frames: int, *, length: int, stride: int) -> list[tuple[int, int]]:
    """Half-open frame ranges [start, stop) of the blocks of a segment of `frames` frames.

    Window w lies whole in block w // WINDOWS_PER_BLOCK, at frame (w % WINDOWS_PER_BLOCK) * stride of it; the last block also
    takes the frames behind the last window. No block for a segment shorter than a window.
    """
    windows = window_count(frames, length=length, stride=stride)
    firsts = range(0, windows, WINDOWS_PER_BLOCK)
    ends = [min(first + WINDOWS_PER_BLOCK, windows) for first in firsts]
    stops = [frames if end == windows else (end - 1) * stride + length for end in ends]
    return [(first * stride, stop) for first, stop in zip(firsts, stops)]
