"""From the frames of one video to its segments, in one pass that holds no more than the segments open at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from acx_jax.contracts import TO_THE_END, Segment, Skipped
from acx_jax.data.decode import DecodeError


class Cut(NamedTuple):
    """A segment, its end known, and its first frames, uint8 [T, H, W, 3]; T is less than its length where that was capped."""

    segment: Segment
    frames: np.ndarray


class Broken(NamedTuple):
    """The video could not be read to where its segments end."""

    problem: str


class _Open(NamedTuple):
    segment: Segment
    frames: list[np.ndarray]


def cut_segments(images: Iterable[np.ndarray], segments: Iterable[Segment], *, keep: int, min_frames: int,
                 shrink: Callable[[np.ndarray], np.ndarray]) -> Iterator[Cut | Skipped | Broken]:
    """Yields each segment once, as soon as its last frame has passed: cut out, or skipped with the reason.

    Of a segment the first `keep` frames (0: all) are kept, passed through `shrink`. Where `images` raises DecodeError, the
    segments still open are skipped, and Broken comes last. No frame behind the last segment's end is asked for.
    """
    open_, count = [_Open(segment, []) for segment in segments], 0
    try:
        for count, image in enumerate(images, start=1):
            _collect(image, [o for o in open_ if o.segment.start < count and (not keep or len(o.frames) < keep)], shrink)
            for ended in [o for o in open_ if o.segment.end == count - 1]:
                yield _close(ended, min_frames)
            open_ = [o for o in open_ if o.segment.end != count - 1]
            if not open_:
                return
    except DecodeError as error:
        yield from (Skipped(str(o.segment), error.problem) for o in open_)
        yield Broken(error.problem)
        return
    for left in open_:
        yield _close_at_end(left, count, min_frames)


def _collect(image: np.ndarray, wanting: list[_Open], shrink: Callable[[np.ndarray], np.ndarray]) -> None:
    if wanting:
        small = shrink(image)
        for open_ in wanting:
            open_.frames.append(small)


def _close_at_end(left: _Open, count: int, min_frames: int) -> Cut | Skipped:
    """What becomes of a segment that is open when a video of `count` frames is over."""
    if left.segment.start >= count:
        return Skipped(str(left.segment), f"it starts beyond the video's last frame, {count - 1}")
    if left.segment.end != TO_THE_END:
        return Skipped(str(left.segment), f"it ends beyond the video's last frame, {count - 1}")
    return _close(left._replace(segment=left.segment._replace(end=count - 1)), min_frames)


def _close(ended: _Open, min_frames: int) -> Cut | Skipped:
    length = ended.segment.end - ended.segment.start + 1
    if length < min_frames:
        return Skipped(str(ended.segment), f"it has {length} frames, fewer than the {min_frames} it needs")
    sizes = sorted({frame.shape[1::-1] for frame in ended.frames})
    if len(sizes) > 1:
        return Skipped(str(ended.segment), "its frames differ in shape, e.g. " + " and ".join("%dx%d" % s for s in sizes[:2]))
    return Cut(ended.segment, np.stack(ended.frames))
