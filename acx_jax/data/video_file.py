"""One video file: its video stream, and every frame of it in the order they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av

from acx_jax.data.media_files import DecodeError, check_plain

_TAIL = 0.5  # seconds a video may end before the length it declares: encoders round, and audio may run on

av.logging.set_level(None)  # what FFmpeg has to say comes out as a DecodeError


def open_video(path: Path) -> av.container.InputContainer:
    """Opens a video file. Raises av.FFmpegError, OSError or ValueError where it is none."""
    check_plain(path)
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    # An absolute path is never taken for a URL, and a text file that poses as a playlist opens nothing else.
    return av.open(str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace")


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video stream that is not a cover picture. Raises DecodeError where there is none, or none that can be decoded."""
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise DecodeError(path, "no video stream in it")
    if streams[0].codec_context is None:
        raise DecodeError(path, "the codec of its video is not known: convert it, to H.264 for example")
    return streams[0]


def decoded(container: av.container.InputContainer, stream: av.VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    """Decoded frames; raises DecodeError behind the last one of a file whose tail is missing."""
    cut, count, last = False, 0, None
    try:
        for packet in container.demux(stream):
            cut = packet.is_corrupt or (cut and not packet.size)  # behind the last packet comes an empty one
            for frame in packet.decode():
                count, last = count + 1, frame
                yield frame
    except av.FFmpegError:
        yield from _held_back(stream)
        raise
    if cut or (last is not None and _missing(container, stream, last) > _TAIL):
        raise DecodeError(path, f"cut off after {count} frames, its tail is missing")


def _held_back(stream: av.VideoStream) -> list[av.VideoFrame]:
    """Frames the decoder still holds when its input breaks off."""
    try:
        return stream.decode(None)
    except av.FFmpegError:
        return []


def _missing(container: av.container.InputContainer, stream: av.VideoStream, last: av.VideoFrame) -> float:
    """Seconds from the end of the last frame to the end the file declares; 0 where it declares none."""
    if stream.duration is not None:
        start, declared = (stream.start_time or 0) * stream.time_base, stream.duration * stream.time_base
    elif container.duration is not None and len(container.streams) == 1:
        start, declared = (container.start_time or 0) / av.time_base, container.duration / av.time_base
    else:
        return 0.0
    if last.time is None:
        return 0.0
    lasts = max(float((last.duration or 0) * last.time_base), 1 / float(stream.average_rate or 25))
    return float(start + declared) - last.time - lasts
