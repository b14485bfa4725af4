"""Frames to an mp4 file, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 10
# The same bytes every time: one thread, and no macroblock tree, whose AVX-512 code gives now these bytes, now others.
_OPTIONS = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}


def write_mp4(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int]) -> None:
    """Writes uint8 [H, W, 3] frames of `size` (W, H), both even, as H.264 at FPS; the file appears under its name when finished.

    Until then it has a name of this process, since one whose parent was killed may still be at the same video.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=_OPTIONS)
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, FPS)
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    os.replace(unfinished, path)
