"""Random clips to adapt on, as a Grain pipeline over the records; and what all such pipelines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np

from acx_jax.contracts import NORMAL, Clips, StoredSegment
from acx_jax.data.prepared import Windows, load_windows, open_records
from acx_jax.data.splits import ADAPT
from acx_jax.data.windows import block_ranges
from acx_jax.errors import UsageError
from acx_jax.randomness import numpy_stream

_THREADS = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
BLOCKS_KEPT = 8  # decoded blocks in memory: neighbouring windows share one


class Process(NamedTuple):
    """Process `index`, from 0, of the `count` that share every batch."""

    index: int
    count: int

    def share(self, batch: int) -> range:
        """The places of its samples in a batch. Raises ValueError where the batch cannot be shared equally."""
        if batch % self.count:
            raise ValueError(f"a batch of {batch} cannot be shared equally by {self.count} processes")
        own = batch // self.count
        return range(self.index * own, (self.index + 1) * own)


ALONE = Process(0, 1)


def clips_feed(prepared: Path, stored: Sequence[StoredSegment], *, length: int, batch: int, steps: int, seed: int,
               negative: str, square: str, start_step: int = 0, process: Process = ALONE) -> Iterator[Clips]:
    """Yields batches start_step .. steps - 1 of random clips of `length` frames from the adaptation split.

    Of several processes each yields its part of every batch, in order, as equal as the parts of `batch` must be.

    Each epoch takes every video once, in a new order; with fewer videos than `batch` a batch holds several clips of one.
    Sample n follows from (seed, n) alone, whatever was fed before. negative: "apart" (`draw_clips`) or "wrapping"
    (`draw_wrapping_clips`). square: how frames become square, "random" (`square_crop`) or "squeeze" (`square_squeeze`). Raises UsageError when there is no clip to draw.
    """
    videos = _videos(stored, length)
    if not videos:
        raise UsageError(f"no normal segment of {length} frames is left to adapt on: raise --config.data.adapt_share, mark "
                         "videos with split=adapt, or skip adaptation with --config.adapt.steps=0")
    clips = ClipReader(open_records(prepared, ADAPT), load_windows(prepared))
    return iterate(_ClipBatches(clips, videos, length=length, numbers=process.share(batch), batch=batch, steps=steps, seed=seed,
                                 draw=DRAWS[negative], square=SQUARES[square]), start_step)


def draw_clips(segments: Sequence[StoredSegment], length: int,
               rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Draws (segment, first stored frame) of an anchor and of a negative from the segments of one video.

    The anchor is uniform over all runs of `length` frames; the negative over those that share no frame of the video with
    it, None if there are none. Every segment must have `length` frames.
    """
    counts = np.array([s.frames - length + 1 for s in segments])
    choices = np.repeat(np.arange(len(segments)), counts), np.concatenate([np.arange(count) for count in counts])
    in_video = choices[1] + np.array([s.segment.start for s in segments])[choices[0]]
    by_frames = np.repeat([s.frames for s in segments] / counts, counts)
    anchor = rng.choice(len(in_video), p=by_frames / by_frames.sum())
    apart = np.flatnonzero(np.abs(in_video - in_video[anchor]) >= length)
    negative = rng.choice(apart) if apart.size else None
    pick = [None if i is None else (int(choices[0][i]), int(choices[1][i])) for i in (anchor, negative)]
    return pick[0], pick[1]


def draw_wrapping_clips(segments: Sequence[StoredSegment], length: int, rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """The published draw: two uniform starts in one segment of L frames, one for the anchor and one for the negative.

    Where they are less than 2 frames apart, the negative moves on by L // 3, modulo L: a clip may wrap round the end, and the two
    may share frames. The segment is drawn by its frames.
    """
    frames = np.array([s.frames for s in segments])
    which = int(rng.choice(len(segments), p=frames / frames.sum()))
    total = int(frames[which])
    anchor, negative = (int(start) for start in rng.integers(0, total - length + 1, 2))
    if abs(negative - anchor) < 2:
        negative = (negative + total // 3) % total
    return (which, anchor), (which, negative)


DRAWS = {"apart": draw_clips, "wrapping": draw_wrapping_clips}


class ClipReader:
    """Reads any run of consecutive frames of a stored segment."""

    def __init__(self, records: Sequence[dict[str, Any]], windows: Windows):
        self._windows = windows
        self._block = lru_cache(BLOCKS_KEPT)(lambda record: records[record]["frames"])

    def read(self, segment: StoredSegment, start: int, length: int) -> np.ndarray:
        """Frames start .. start + length - 1 of the segment's stored ones, after its last from the first again; uint8 [length, H, W, 3]."""
        if start + length > segment.frames:  # wraps round the end
            kept = segment.frames - start
            return np.concatenate([self.read(segment, start, kept), self.read(segment, 0, length - kept)])
        ranges = block_ranges(segment.frames, length=self._windows.length, stride=self._windows.stride)
        parts, at = [], start
        for i, (first, stop) in enumerate(ranges):
            if first <= at < min(stop, start + length):
                parts.append(self._block(segment.first_record + i)[at - first:start + length - first])
                at += len(parts[-1])
        return np.concatenate(parts)


class _ClipBatches:
    """Random access to the batches of `clips_feed`."""

    def __init__(self, clips: ClipReader, videos: list[list[StoredSegment]], *, length: int, numbers: range, batch: int, steps: int,
                 seed: int, draw: Callable, square: Callable):
        self._numbers = numbers  # of the samples of a batch that are wanted
        self._draw, self._square = draw, square
        self._clips, self._videos, self._length = clips, videos, length
        self._batch, self._steps, self._seed = batch, steps, seed
        self._order = lru_cache(2)(lambda epoch: numpy_stream(seed, "adaptation order", epoch).permutation(len(videos)))

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Clips:
        samples = [self._sample(step * self._batch + i) for i in self._numbers]
        anchors, negatives, has_negative, videos = zip(*samples)
        return Clips(np.stack(anchors), np.stack(negatives), np.array(has_negative), np.array(videos, np.int32))

    def _sample(self, number: int) -> tuple[np.ndarray, np.ndarray, bool, int]:
        epoch, position = divmod(number, len(self._videos))
        video = int(self._order(epoch)[position])
        rng = numpy_stream(self._seed, "adaptation clip", number)
        segments = self._videos[video]
        anchor, negative = self._draw(segments, self._length, rng)
        share = rng.random()
        clips = [self._square(self._clips.read(segments[i], start, self._length), share)
                 for i, start in (anchor, negative or anchor)]
        return clips[0], clips[1], negative is not None, video


def square_crop(frames: np.ndarray, share: float) -> np.ndarray:
    """[T, H, W, 3] -> [T, S, S, 3], S the shorter side; `share` in [0, 1) of the way along the longer one."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (int(share * (length - side + 1)) for length in (height, width))
    return frames[:, top:top + side, left:left + side]


def square_squeeze(frames: np.ndarray, share: float) -> np.ndarray:
    """[T, H, W, 3] -> [T, S, S, 3], S the shorter side: all of the frame, its longer side squeezed by the nearest pixels (published)."""
    del share
    side = min(frames.shape[1:3])
    rows, columns = (((2 * np.arange(side) + 1) * length) // (2 * side) for length in frames.shape[1:3])
    return frames[:, rows][:, :, columns]


SQUARES = {"random": square_crop, "squeeze": square_squeeze}


def video_names(stored: Sequence[StoredSegment], length: int) -> list[str]:
    """The names behind `Clips.video` of `clips_feed`."""
    return [segments[0].segment.video for segments in _videos(stored, length)]


def videos_of_one_moment(stored: Sequence[StoredSegment], length: int) -> list[str]:
    """The names of the videos too short for two clips of `length` frames that share none: `draw_clips` finds a negative for no clip of theirs."""
    return [segments[0].segment.video for segments in _videos(stored, length)
            if max(s.segment.start + s.frames for s in segments) - min(s.segment.start for s in segments) < 2 * length]


def _videos(stored: Sequence[StoredSegment], length: int) -> list[list[StoredSegment]]:
    """The normal adaptation segments that hold a clip, by video."""
    videos: dict[str, list[StoredSegment]] = {}
    for s in stored:
        if s.segment.split == ADAPT and s.segment.label == NORMAL and s.frames >= length:
            videos.setdefault(s.segment.video, []).append(s)
    return list(videos.values())


def iterate(batches: Any, start: int) -> Iterator[Any]:
    """Batches from `start` on, read ahead by threads, in order."""
    if start >= len(batches):
        return iter(())
    return iter(grain.MapDataset.source(batches)[start:].to_iter_dataset(_THREADS))
