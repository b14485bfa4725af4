"""From one video to its records: what a worker of `prepare` does. Imports no jax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple


from acx_jax.contracts import Segment, Skipped
from acx_jax.data.builders.cutting import Broken, Cut, cut_segments
from acx_jax.data.decode import frames
from acx_jax.data.scaling import Small, resize
from acx_jax.data.windows import block_ranges


class Reading(NamedTuple):
    """How videos are read and cut.

    length, stride: frames of a window and from one to the next. fps: 0 for each video's own. short_side, resample, width: of
    stored frames, as `scaling.resize` takes them. min_frames: shorter segments are skipped. keep: frames to keep of a segment
    by split, 0 for all. reduced: frames are scaled while they are decoded, see `decode.frames`; only where they keep their aspect and resample
    is not "nearest". threads: of a decoder, 0 for as many as there are cores.
    """

    length: int
    stride: int
    fps: float
    short_side: int
    resample: str
    width: int
    min_frames: int
    keep: dict[str, int]
    reduced: bool = False
    threads: int = 0


class Video(NamedTuple):
    """The segments of one split in one video. first: the frame of the file that is frame 0 of the video."""

    name: str
    path: Path
    first: int
    segments: tuple[Segment, ...]

    @property
    def split(self) -> str:
        return self.segments[0].split


class Outcome(NamedTuple):
    """What came of a video: segments with their ends and how many frames are kept of each, in the order of their records; what was
    skipped; why it broke off, or ""; segments of which not all frames are kept."""

    stored: list[tuple[Segment, int]]
    skipped: list[Skipped]
    broken: str
    shortened: int


def read(video: Video, reading: Reading, beat: Callable[[], None], folder: Path) -> Iterator[dict[str, Any] | Outcome]:
    """Yields the records of a video (`clips.FIELDS`, with `frames`), block by block, and its Outcome last.

    Decodes the video once; memory holds 64 MB of each segment open at a time, and `folder`, while it is open, the rest of a longer one. beat: called
    with every frame, those before the first wanted one among them.
    """
    stored, skipped, broken, shortened = [], [], "", 0
    for event in _cuts(video, reading, beat, folder):
        if isinstance(event, Cut):
            stored.append((event.segment, len(event.frames)))
            shortened += len(event.frames) <= event.segment.end - event.segment.start
            yield from _blocks(event, reading)
        elif isinstance(event, Broken):
            broken = event.problem
        else:
            skipped.append(event)
    yield Outcome(stored, skipped, broken, shortened)


def _cuts(video: Video, reading: Reading, beat: Callable[[], None], folder: Path) -> Iterator[Cut | Skipped | Broken]:
    shrink = partial(resize, short_side=reading.short_side, resample=reading.resample, width=reading.width)
    images = frames(video.path, fps=reading.fps, first=video.first, threads=reading.threads, beat=beat,
                    small=Small(reading.short_side, reading.resample) if reading.reduced else None)
    return cut_segments(images, video.segments, keep=reading.keep[video.split], min_frames=reading.min_frames, shrink=shrink,
                        folder=folder)


def _blocks(cut: Cut, reading: Reading) -> Iterator[dict[str, Any]]:
    ranges = block_ranges(len(cut.frames), length=reading.length, stride=reading.stride)
    for block, (start, stop) in enumerate(ranges):
        yield {"frames": cut.frames[start:stop], "block": block, "first_frame": start, "start": cut.segment.start,
               "label": cut.segment.label, "video": cut.segment.video}
