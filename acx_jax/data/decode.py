"""From a video file or a folder of images to RGB frames, at a rate and from a frame on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from acx_jax.data.image_folder import image_frames
from acx_jax.data.media_files import DecodeError
from acx_jax.data.scaling import Small, rgb_maker, scaled
from acx_jax.data.video_file import decoded, open_video, video_stream

_MARGIN = 1.4  # times the wanted side that a JPEG is decoded at: at 2 the levels are 0.2 off instead of 0.8, in 1.4 times as long
_ROUNDING = 0.001  # seconds: some containers keep times in whole milliseconds
_BEFORE = 1.0  # seconds before a wanted frame that decoding begins, at the latest: times of packets and frames may differ
Beat = Callable[[], None]


class Facts(NamedTuple):
    """What a video file says of itself: frames a second, and its length in seconds (None where it does not say)."""

    rate: Fraction
    seconds: float | None


class _Decoder(NamedTuple):
    """threads: 0 for as many as there are cores. short_side: pixels that frames will be scaled to, 0 where they are not."""

    threads: int
    short_side: int


class _Timed(NamedTuple):
    """A decoded frame, when it is shown and for how long, in seconds."""

    frame: av.VideoFrame
    time: float
    lasts: float


def frames(path: Path, *, fps: float = 0.0, first: int = 0, threads: int = 0, small: Small | None = None,
           beat: Beat = lambda: None) -> Iterator[np.ndarray]:
    """Yields uint8 RGB frames [H, W, 3] of a video file or of a folder of images, upright, one at a time.

    With fps = 0 every frame in presentation order; else, of a video file, the latest frame shown at 0, 1/fps, 2/fps, ...
    seconds. Images have no times: they come all, in natural order (frame 9 before frame 10). `first` frames are left out at
    the start; of a video file read at a rate, what lies well before them is not decoded where its container tells where they are (MPEG
    program and transport streams do not). threads: of a video's decoder, 0 for as many as there are cores. small: the size that frames are
    wanted in; frames come in it, those of video files scaled before they become RGB, and JPEG files are decoded at the smallest of the scales 1, 1/2,
    1/4, 1/8 that leaves 1.4 times its side. Both are up to twice as fast as `resize` alone; on footage of a dashboard camera (1280x720 to a side of 128,
    'bilinear') they differed from it by 0.6 and 0.8 of 255 levels in the mean. Where a video's frames become half as large or smaller, those that no
    other is made from are decoded without their loop filter (0.01 levels there).
    beat: called with every frame that is decoded, those of a video file before `first` among them.

    Raises DecodeError when the video cannot be opened, or after the last good frame of one that is damaged or cut off.
    """
    if path.is_dir():
        return image_frames(path, first, math.ceil(_MARGIN * small.short_side) if small else 0, lambda image: scaled(image, small), beat)
    return _video_frames(path, fps, first, threads, small, beat)


def facts(path: Path) -> Facts:
    """Reads what a video file declares, without decoding it. Raises DecodeError when it cannot be opened."""
    try:
        with open_video(path) as container:
            stream = video_stream(container, path)
            if stream.duration is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = None if container.duration is None else container.duration / av.time_base
            return Facts(stream.average_rate or Fraction(25), seconds)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(path, f"not a readable video: {getattr(error, 'strerror', None) or error}") from None


def declared(path: Path, beat: Beat = lambda: None) -> Facts | str:
    """`facts`, or why the file cannot be opened: what a process of its own can hand back. beat: not called, for nothing is decoded."""
    try:
        return facts(path)
    except DecodeError as error:
        return error.problem


def _video_frames(path: Path, fps: float, first: int, threads: int, small: Small | None, beat: Beat) -> Iterator[np.ndarray]:
    done, turn, rgb_of = 0, None, rgb_maker(small, threads)
    try:
        for frame in _wanted(path, fps, first, _Decoder(threads, small.short_side if small else 0), beat):
            turn = turn or _turn(frame)  # once: a frame asked for its side data is freed by the garbage collector alone
            yield turn(rgb_of(frame))
            done += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        where = f"broken after {done} frames" if done else "not a readable video"
        raise DecodeError(path, f"{where}: {getattr(error, 'strerror', None) or error}") from None
    if not done:
        raise DecodeError(path, f"it ends before frame {first}" if first else "no frame can be decoded")


def _wanted(path: Path, fps: float, first: int, decoder: _Decoder, beat: Beat) -> Iterator[av.VideoFrame]:
    """The frames to give, from number `first` on."""
    if first and fps:
        with open_video(path) as container:
            behind = _behind_a_seek(container, _stream(container, path, decoder), path, fps, first, beat)
            if behind is not None:
                yield from behind
                return
    with open_video(path) as container:
        timed = _timed(decoded(container, _stream(container, path, decoder), path), beat)
        yield from islice(_at_rate(timed, fps) if fps else (t.frame for t in timed), first, None)


def _behind_a_seek(container: av.container.InputContainer, stream: av.VideoStream, path: Path, fps: float, first: int,
                   beat: Beat) -> Iterator[av.VideoFrame] | None:
    """The frames from number `first` on, found without decoding what lies well before them; None where the file does not allow that."""
    if container.format.flags & av.format.Flags.ts_discont.value:  # MPEG streams: no index, times that start anew, and frames without one
        return None
    start = next(_timed(decoded(container, stream, path), beat), None)
    if start is None or start.frame.pts is None:
        return None
    container.seek(int((start.time + max(0.0, first / fps - _BEFORE)) / stream.time_base), stream=stream)
    timed = _timed(decoded(container, stream, path), beat)
    nearest = next(timed, None)
    if nearest is None or nearest.frame.pts is None or nearest.time > start.time + first / fps + _ROUNDING:  # an index that is lost, as of a cut AVI file
        return None
    return _at_rate(chain([nearest], timed), fps, start=start.time, first=first)


def _stream(container: av.container.InputContainer, path: Path, decoder: _Decoder) -> av.VideoStream:
    stream = video_stream(container, path)
    stream.thread_type, stream.codec_context.thread_count = "AUTO", decoder.threads
    if 0 < 2 * decoder.short_side <= min(stream.width, stream.height):
        stream.codec_context.options = {"skip_loop_filter": "noref"}  # of frames that no other is made from, so that nothing adds up
    return stream


def _timed(decoded: Iterable[av.VideoFrame], beat: Beat) -> Iterator[_Timed]:
    """Gives every frame a time; one without a time stamp follows the frame before it as that one followed its own. beat: called with each."""
    time, gap = 0.0, 0.04
    for index, frame in enumerate(decoded):
        beat()
        shown = time + gap if frame.time is None and index else frame.time or 0.0
        gap = shown - time if index and shown > time else float((frame.duration or 0) * (frame.time_base or 0)) or gap
        time = shown
        yield _Timed(frame, time, gap)


def _at_rate(timed: Iterable[_Timed], fps: float, *, start: float | None = None, first: int = 0) -> Iterator[av.VideoFrame]:
    """The latest frame shown at start + first/fps, start + (first + 1)/fps, ..., until the last frame's time is over.

    start: seconds; None for the first frame's own time.
    """
    due, held = first, None
    for now in timed:
        start, held = now.time if start is None else start, held or now
        while due / fps < now.time - start - _ROUNDING:
            yield held.frame
            due += 1
        held = now
    while held is not None and (due == 0 or due / fps < held.time - start + held.lasts - _ROUNDING):
        yield held.frame
        due += 1


def _turn(frame: av.VideoFrame) -> Callable[[np.ndarray], np.ndarray]:
    """What turns and mirrors images [H, W, 3] of the frame's video upright, as its display matrix says."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return lambda image: image
    matrix = np.frombuffer(side_data, np.int32).reshape(3, 3)[:2, :2].astype(np.int64)
    crossed = abs(matrix[0, 0]) < abs(matrix[0, 1])  # x and y change places
    columns, rows = (slice(None, None, -1 if m < 0 else 1) for m in np.diag(matrix[::-1] if crossed else matrix))
    return lambda image: np.ascontiguousarray((image.transpose(1, 0, 2) if crossed else image)[rows, columns])
