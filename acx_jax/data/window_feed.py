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


class WholeWindows(NamedTuple):
    """A batch of windows of whole frames.

    frames: uint8 [batch, T, H, W, 3], black below and right of frames that are smaller than the canvas. size: int32 [batch, 2],
    height and width of each one's frames. segment: int32 [batch], which of the segments it is of. count: how many are windows, from the
    first; the rest is padding.
    """

    frames: np.ndarray
    size: np.ndarray
    segment: np.ndarray
    count: int


class WindowPlaces(NamedTuple):
    """Where each window of a split lies: int64 [V], the record that holds it, its first frame there, and which segment it is of."""

    record: np.ndarray
    start: np.ndarray
    segment: np.ndarray


def windows_feed(prepared: Path, stored: Sequence[StoredSegment], split: str, *, crop: int, batch: int, length: int,
                 stride: int, most: int = 0, start_batch: int = 0, process: Process = ALONE) -> Iterator[WindowBatch]:
    """Yields the windows of all segments of `split`, in the order of `stored`, centre-cropped, from batch `start_batch` on.

    Of several processes each reads and yields its part of every batch. length, stride: as the records were prepared for. most: windows of a
    segment at most, spread evenly; 0 for all. The last batch is filled up by repeating its last window. Holds a few blocks and batches in
    memory. Raises UsageError when `crop` is larger than the stored frames, ValueError where the processes cannot share `batch` equally.
    """
    _check_windows(prepared, length, stride)
    where = locate_windows([s for s in stored if s.segment.split == split], length=length, stride=stride, most=most)
    records = open_records(prepared, split)
    if len(records):
        _check_crop(records[0]["frames"].shape, crop)
    source = _WindowBatches(records, where, crop=crop, batch=batch, part=process.share(batch), length=length)
    return iterate(source, start_batch)


def whole_windows_feed(prepared: Path, stored: Sequence[StoredSegment], split: str, *, canvas: tuple[int, int], batch: int, length: int,
                       stride: int, start_batch: int = 0) -> Iterator[WholeWindows]:
    """Yields the windows of all segments of `split` as `windows_feed` does, of whole frames, on a canvas that `largest_frame` gives."""
    _check_windows(prepared, length, stride)
    where = locate_windows([s for s in stored if s.segment.split == split], length=length, stride=stride)
    return iterate(_WholeBatches(open_records(prepared, split), where, canvas=canvas, batch=batch, length=length), start_batch)


def largest_frame(prepared: Path, stored: Sequence[StoredSegment], split: str) -> tuple[int, int]:
    """Height and width that hold the frames of all segments of `split`; reads a record of each video, whose frames are of one size."""
    records = open_records(prepared, split)
    of_videos = {s.segment.video: s.first_record for s in stored if s.segment.split == split}
    sizes = [records[number]["frames"].shape[1:3] for number in of_videos.values()]
    return max((height for height, _ in sizes), default=0), max((width for _, width in sizes), default=0)


def locate_windows(stored: Sequence[StoredSegment], *, length: int, stride: int, most: int = 0) -> WindowPlaces:
    """Record and frame of every window of `stored`, segments of one split, segment by segment; `most` of each, unless 0."""
    index = [spread(window_count(s.frames, length=length, stride=stride), most) for s in stored]
    records = [s.first_record + i // WINDOWS_PER_BLOCK for s, i in zip(stored, index)]
    starts = [i % WINDOWS_PER_BLOCK * stride for i in index]
    segments = [np.full(len(i), number) for number, i in enumerate(index)]
    return WindowPlaces(*(np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64) for parts in (records, starts, segments)))


class _WindowBatches:
    """Random access to batches of windows."""

    def __init__(self, records: Sequence[dict[str, Any]], where: WindowPlaces, *, crop: int = 0, batch: int, part: range, length: int):
        self._where, self._batch, self._length = where, batch, length
        self._part = part  # the places of a batch that are wanted
        cut = (lambda frames: centre_crop(frames, crop)) if crop else (lambda frames: frames)
        self._block = lru_cache(BLOCKS_KEPT)(lambda record: cut(np.asarray(records[record]["frames"])))

    def __len__(self) -> int:
        return -(-len(self._where.record) // self._batch)

    def __getitem__(self, index: int) -> Any:
        wanted, count = self._wanted(index)
        return WindowBatch(np.stack(self._frames(wanted)), count)

    def _wanted(self, index: int) -> tuple[np.ndarray, int]:
        """Which windows a batch holds, the last one again and again behind the end, and how many of them count."""
        first, last = index * self._batch + self._part.start, len(self._where.record) - 1
        return np.minimum(np.arange(first, first + len(self._part)), last), min(max(last + 1 - first, 0), len(self._part))

    def _frames(self, wanted: np.ndarray) -> list[np.ndarray]:
        places = zip(self._where.record[wanted].tolist(), self._where.start[wanted].tolist())
        return [self._block(record)[start:start + self._length] for record, start in places]


class _WholeBatches(_WindowBatches):
    """The same of whole frames, on a canvas (height, width) that holds the largest."""

    def __init__(self, records: Sequence[dict[str, Any]], where: WindowPlaces, *, canvas: tuple[int, int], batch: int, length: int):
        super().__init__(records, where, batch=batch, part=range(batch), length=length)
        self._canvas = canvas

    def __getitem__(self, index: int) -> WholeWindows:
        wanted, count = self._wanted(index)
        windows = self._frames(wanted)
        frames = np.zeros((len(windows), self._length, *self._canvas, 3), np.uint8)
        for place, window in zip(frames, windows):
            place[:, :window.shape[1], :window.shape[2]] = window
        sizes = np.array([window.shape[1:3] for window in windows], np.int32)
        return WholeWindows(frames, sizes, self._where.segment[wanted].astype(np.int32), count)


def centre_crop(frames: np.ndarray, crop: int) -> np.ndarray:
    """[T, H, W, 3] -> [T, crop, crop, 3]; odd pixels over are left at the bottom and right."""
    top, left = ((side - crop) // 2 for side in frames.shape[1:3])
    return frames[:, top:top + crop, left:left + crop]


def _check_windows(prepared: Path, length: int, stride: int) -> None:
    if (length, stride) != load_windows(prepared):
        raise ValueError(f"windows of {length} frames, stride {stride}, asked of records prepared for {load_windows(prepared)}")


def _check_crop(shape: tuple[int, ...], crop: int) -> None:
    if min(shape[1:3]) < crop:
        raise UsageError(f"config.encoder.crop is {crop}, but stored frames have a short side of {min(shape[1:3])} "
                         f"(config.data.short_side): choose a crop of at most that, or a larger short side")
