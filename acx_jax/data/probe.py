"""A look at a video without decoding all of it: its size, rate and length, and a few frames from all over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from acx_jax.data.image_folder import open_image
from acx_jax.data.media_files import DecodeError, image_files
from acx_jax.data.video_file import open_video, video_stream

LOOK_WIDTH = 320  # pixels of the frames looked at
_PLACES = (0.125, 0.5, 0.875)  # of them, as shares of the video
_CLOSER = tuple((i + 0.5) / 16 for i in range(16))  # of those of a closer look
_RUN = 3  # frames at each place of a closer look: containers round times, so that the same place may be the next frame
Beat = Callable[[], None]
_SEEK = 10.0  # seconds from which on it takes less to jump than to decode what lies between


class Probe(NamedTuple):
    """What a look at a video tells.

    frames: as its container or folder declares. fps: 0 for images. width, height: pixels. bytes: of its files. problem: why
    it cannot be read, or "". looks: uint8 [3, h, LOOK_WIDTH], grey frames, fewer where the video has fewer; empty with a problem.
    """

    frames: int
    fps: float
    width: int
    height: int
    bytes: int
    problem: str
    looks: np.ndarray


_NOTHING = np.zeros((0, 1, LOOK_WIDTH), np.uint8)
_ERRORS = (av.FFmpegError, OSError, ValueError)


def probe(path: Path, beat: Beat = lambda: None) -> Probe:
    """Looks at a video file or a folder of images. Never raises for what is wrong with them: `problem` says it. beat: called at every frame."""
    try:
        return _folder(path, beat) if path.is_dir() else _file(path, beat)
    except DecodeError as error:
        return unread(error.problem)
    except _ERRORS as error:
        return unread(f"cannot be read: {getattr(error, 'strerror', None) or error}")


def unread(problem: str) -> Probe:
    """What is told of a video that cannot be read."""
    return Probe(0, 0.0, 0, 0, 0, problem, _NOTHING)


def look_closer(path: Path, beat: Beat = lambda: None) -> np.ndarray:
    """uint8 [16, 3, h, LOOK_WIDTH]: grey frames from all over a video, at each place three that follow one another; none where it cannot be read.
    beat: called at every frame."""
    try:
        return _closer_folder(path, beat) if path.is_dir() else _closer_file(path, beat)
    except (DecodeError, *_ERRORS):
        return _NOTHING[:, None]


def _folder(path: Path, beat: Beat) -> Probe:
    files = image_files(path)
    if not files:
        return unread("the folder holds no images")
    looks = []
    for index in sorted({int(place * len(files)) for place in _PLACES}):
        beat()
        look, size = _image(files[index])
        looks.append(look)
    total = sum(file.stat().st_size for file in files)
    return Probe(len(files), 0.0, *size, total, "", _stack(looks))


def _image(file: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """The look of an image, and its width and height."""
    with open_image(file) as image:
        size = image.size
        image.draft("L", (LOOK_WIDTH, LOOK_WIDTH))
        return _small(image.convert("L")), size


def _closer_folder(path: Path, beat: Beat) -> np.ndarray:
    files = image_files(path)
    if not files:
        return _NOTHING[:, None]
    indices = [min(int(place * len(files)) + k, len(files) - 1) for place in _CLOSER for k in range(_RUN)]
    looks = {}
    for index in sorted(set(indices)):
        beat()
        looks[index] = _image(files[index])[0]
    return _in_runs([looks[index] for index in indices])


def _closer_file(path: Path, beat: Beat) -> np.ndarray:
    with open_video(path) as container:
        stream = video_stream(container, path)
        looks = [_small(frame.to_image().convert("L")) for frame in _runs(container, stream, _seconds(container, stream), beat)]
        return _in_runs(looks) if looks else _NOTHING[:, None]


def _runs(container: av.container.InputContainer, stream: av.VideoStream, seconds: float, beat: Beat) -> list[av.VideoFrame]:
    """`_RUN` frames from each of `_CLOSER` on; the last ones again where there are no more."""
    start, decoded = float((stream.start_time or 0) * stream.time_base), container.decode(stream)
    found, held = [], []  # held: the last frames, with their times
    for wanted in (place * seconds for place in _CLOSER):
        if wanted - (held[-1][1] if held else 0.0) > _SEEK:
            container.seek(int((start + wanted) / stream.time_base), stream=stream)
            decoded, held = container.decode(stream), []
        while (len(held) < _RUN or held[0][1] < wanted) and (frame := next(decoded, None)) is not None:
            beat()
            held = [*held[1 - _RUN:], (frame, wanted if frame.time is None else frame.time - start)]
        found += [held[min(k, len(held) - 1)][0] for k in range(_RUN if held else 0)]
    return found


def _in_runs(looks: list[np.ndarray]) -> np.ndarray:
    return np.stack(looks).reshape(-1, _RUN, *looks[0].shape)


def _seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    return float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / av.time_base


def _file(path: Path, beat: Beat) -> Probe:
    with open_video(path) as container:
        stream = video_stream(container, path)
        rate, seconds = float(stream.average_rate or 0), _seconds(container, stream)
        looks = [_small(frame.to_image().convert("L")) for frame in _frames(container, stream, seconds, beat)]
        problem = "" if looks else "no frame can be decoded"
        return Probe(stream.frames or round(seconds * rate), rate, stream.width, stream.height, path.stat().st_size, problem,
                     _stack(looks) if looks else _NOTHING)


def _frames(container: av.container.InputContainer, stream: av.VideoStream, seconds: float, beat: Beat) -> list[av.VideoFrame]:
    """One frame near each of `_PLACES`, as near as the file lets one jump."""
    found = []
    for place in _PLACES:
        try:
            container.seek(int((stream.start_time or 0) + place * seconds / stream.time_base), stream=stream)
            found.append(next(_after(container, stream, place * seconds, beat)))
        except (av.FFmpegError, StopIteration):
            continue
    return found


def _after(container: av.container.InputContainer, stream: av.VideoStream, seconds: float, beat: Beat) -> Iterator[av.VideoFrame]:
    """Decoded frames from `seconds` on; the last one where there is none."""
    frame, start = None, float((stream.start_time or 0) * stream.time_base)
    for frame in container.decode(stream):
        beat()
        if frame.time is None or frame.time - start >= seconds:
            yield frame
    if frame is not None:
        yield frame


def _small(image: Image.Image) -> np.ndarray:
    height = max(1, round(LOOK_WIDTH * image.height / image.width))
    return np.asarray(image.resize((LOOK_WIDTH, height), Image.Resampling.BILINEAR))


def _stack(looks: list[np.ndarray]) -> np.ndarray:
    """Frames of the size of the first."""
    return np.stack([look for look in looks if look.shape == looks[0].shape])
