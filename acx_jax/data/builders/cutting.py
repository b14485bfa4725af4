"""From the frames of one video to its segments, in one pass; what a long segment has above `HELD` bytes waits for its end on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from acx_jax.contracts import TO_THE_END, Segment, Skipped
from acx_jax.data.decode import DecodeError


HELD = 64 << 20  # bytes of a segment's frames that are held in memory


class Cut(NamedTuple):
    """A segment, its end known, and its first frames, uint8 [T, H, W, 3], mapped from a file where they are many; T is less than its length where
    that was capped."""

    segment: Segment
    frames: np.ndarray


class Broken(NamedTuple):
    """The video could not be read to where its segments end."""

    problem: str


class _Frames:
    """Frames that are kept of a segment, as long as they are of one size; folder: where those wait that are too many for memory."""

    def __init__(self, folder: Path | None):
        self.sizes: set[tuple[int, int]] = set()  # widths and heights
        self.count = 0
        self._folder, self._held = folder, []
        self._file: IO[bytes] | None = None  # unnamed: gone with the process

    def append(self, frame: np.ndarray) -> None:
        self.sizes.add(frame.shape[1::-1])
        self.count += 1
        if len(self.sizes) == 1:
            self._held.append(frame)
            if len(self._held) * frame.nbytes >= HELD:
                self._put_away()

    def whole(self) -> np.ndarray:
        """uint8 [count, H, W, 3]."""
        if self._file is None:
            return np.stack(self._held)
        self._put_away()
        width, height = next(iter(self.sizes))
        return np.memmap(self._file, np.uint8, "r", shape=(self.count, height, width, 3))

    def close(self) -> None:
        """Lets go of all; the file is gone once nothing maps it."""
        self._held.clear()
        if self._file is not None:
            self._file.close()

    def _put_away(self) -> None:
        self._file = self._file or tempfile.TemporaryFile(dir=self._folder)
        for frame in self._held:
            self._file.write(frame.tobytes())
        self._file.flush()
        self._held.clear()


class _Open(NamedTuple):
    segment: Segment
    frames: _Frames


def cut_segments(images: Iterable[np.ndarray], segments: Iterable[Segment], *, keep: int, min_frames: int,
                 shrink: Callable[[np.ndarray], np.ndarray], folder: Path | None = None) -> Iterator[Cut | Skipped | Broken]:
    """Yields each segment once, as soon as its last frame has passed: cut out, or skipped with the reason.

    Of a segment the first `keep` frames (0: all) are kept, passed through `shrink`. Where `images` raises DecodeError, the
    segments still open are skipped, and Broken comes last. No frame behind the last segment's end is asked for. folder: where frames of long
    segments wait; that of temporary files if there is none.
    """
    all_, count = [_Open(segment, _Frames(folder)) for segment in segments], 0
    open_ = all_
    try:
        for count, image in enumerate(images, start=1):
            _collect(image, [o for o in open_ if o.segment.start < count and (not keep or o.frames.count < keep)], shrink)
            for ended in [o for o in open_ if o.segment.end == count - 1]:
                yield _close(ended, min_frames)
                ended.frames.close()
            open_ = [o for o in open_ if o.segment.end != count - 1]
            if not open_:
                return
    except DecodeError as error:
        yield from (Skipped(str(o.segment), error.problem) for o in open_)
        yield Broken(error.problem)
    else:
        for left in open_:
            yield _close_at_end(left, count, min_frames)
    finally:
        for one in all_:
            one.frames.close()


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
    sizes = sorted(ended.frames.sizes)
    if len(sizes) > 1:
        return Skipped(str(ended.segment), "its frames differ in shape, e.g. " + " and ".join("%dx%d" % s for s in sizes[:2]))
    return Cut(ended.segment, ended.frames.whole())
