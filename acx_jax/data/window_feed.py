"""All windows of a split in order, as a Grain pipeline over the records: what the encoder goes over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from acx_jax.contracts import StoredSegment
from acx_jax.data.feeds import ALONE, BLOCKS_KEPT, Process, iterate
from acx_jax.data.prepared import load_windows, open_records
from acx_jax.data.windows import WINDOWS_PER_BLOCK, spread, window_count
from acx_jax.errors import UsageError


class WindowBatch(NamedTuple):
    """A process's part of a batch, all of it where there is one process.

    frames: uint8 [part, T, crop, crop, 3]. count: how many of them, from the first, are windows, 0 to part; the rest is padding.
    """

    frames: np.ndarray
    count: int


class WindowPlaces(NamedTuple):
    """Where each window of a split lies. record, start: int64 [V], the record that holds it and its first frame there."""

    record: np.ndarray
    start: np.ndarray


def windows_feed(prepared: Path, stored: Sequence[StoredSegment], split: str, *, crop: int, batch: int, length: int,
                 stride: int, most: int = 0, start_batch: int = 0, process: Process = ALONE) -> Iterator[WindowBatch]:
    """Yields the windows of all segments of `split`, in the order of `stored`, centre-cropped, from batch `start_batch` on.

    Of several processes each reads and yields its part of every batch. length, stride: as the records were prepared for. most: windows of a
    segment at most, spread evenly; 0 for all. The last batch is filled up by repeating its last window. Holds a few blocks and batches in
    memory. Raises UsageError when `crop` is larger than the stored frames, ValueError where the processes cannot share `batch` equally.
    """
    if (length, stride) != load_windows(prepared):
        raise ValueError(f"windows of {length} frames, stride {stride}, asked of records prepared for {load_windows(prepared)}")
    where = locate_windows([s for s in stored if s.segment.split == split], length=length, stride=stride, most=most)
    records = open_records(prepared, split)
    if len(records):
        _check_crop(records[0]["frames"].shape, crop)
    source = _WindowBatches(records, where, crop=crop, batch=batch, part=process.share(batch), length=length)
    return iterate(source, start_batch)


def locate_windows(stored: Sequence[StoredSegment], *, length: int, stride: int, most: int = 0) -> WindowPlaces:
    """Record and frame of every window of `stored`, segments of one split, segment by segment; `most` of each, unless 0."""
    index = [spread(window_count(s.frames, length=length, stride=stride), most) for s in stored]
    records = [s.first_record + i // WINDOWS_PER_BLOCK for s, i in zip(stored, index)]
    starts = [i % WINDOWS_PER_BLOCK * stride for i in index]
    return WindowPlaces(*(np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64) for parts in (records, starts)))


class _WindowBatches:
    """Random access to batches of windows."""

    def __init__(self, records: Sequence[dict[str, Any]], where: WindowPlaces, *, crop: int, batch: int, part: range, length: int):
        self._where, self._batch, self._length = where, batch, length
        self._part = part  # the places of a batch that are wanted
        self._block = lru_cache(BLOCKS_KEPT)(lambda record: centre_crop(np.asarray(records[record]["frames"]), crop))

    def __len__(self) -> int:
        return -(-len(self._where.record) // self._batch)

    def __getitem__(self, index: int) -> WindowBatch:
        first, last = index * self._batch + self._part.start, len(self._where.record) - 1
        wanted = np.minimum(np.arange(first, first + len(self._part)), last)
        count = min(max(last + 1 - first, 0), len(self._part))
        places = zip(self._where.record[wanted].tolist(), self._where.start[wanted].tolist())
        return WindowBatch(np.stack([self._block(record)[start:start + self._length] for record, start in places]), count)


def centre_crop(frames: np.ndarray, crop: int) -> np.ndarray:
    """[T, H, W, 3] -> [T, crop, crop, 3]; odd pixels over are left at the bottom and right."""
    top, left = ((side - crop) // 2 for side in frames.shape[1:3])
    return frames[:, top:top + crop, left:left + crop]


def _check_crop(shape: tuple[int, ...], crop: int) -> None:
    if min(shape[1:3]) < crop:
        raise UsageError(f"config.encoder.crop is {crop}, but stored frames have a short side of {min(shape[1:3])} "
                         f"(config.data.short_side): choose a crop of at most that, or a larger short side")
