"""Frames in the size that they are wanted in: of arrays, of images, and of decoded video frames on their way to RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

_RESAMPLE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Colours that are stored at a lower resolution become as large as the rest, in the same range: FFmpeg turns small frames of this kind into RGB
# in half the time that it takes from large ones, and nearer to what scaling RGB gives, for it would leave out colours before it smooths.
_FULL_COLOURS = dict.fromkeys(["yuv420p", "yuv422p", "yuv440p", "yuv411p", "yuva420p", "nv12", "nv21", "yuyv422", "uyvy422",
                               "yuv420p10le", "yuv422p10le", "p010le"], "yuv444p") | dict.fromkeys(["yuvj420p", "yuvj422p", "yuvj440p"], "yuvj444p")


class Small(NamedTuple):
    """A size that keeps the aspect: pixels of the shorter side, and the filter, 'bilinear' or 'bicubic'."""

    short_side: int
    resample: str


def fitted(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height in pixels of a frame whose shorter side is made `short_side`, its aspect kept."""
    shorter = min(width, height)
    return max(short_side, round(width * short_side / shorter)), max(short_side, round(height * short_side / shorter))


def resize(frame: np.ndarray, *, short_side: int, resample: str, width: int = 0) -> np.ndarray:
    """Scales uint8 [H, W, 3] so that its shorter side has `short_side` pixels; the aspect is kept.

    resample: 'nearest', 'bilinear' or 'bicubic' (the last two smooth when they shrink). width: pixels to stretch the frame to, its
    height being `short_side`, whatever its aspect; 0 keeps it. The published evaluation stretches to 340 x 256, nearest.
    """
    height, old_width = frame.shape[:2]
    size = (width, short_side) if width else fitted(old_width, height, short_side)
    if size == (old_width, height):
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, _RESAMPLE[resample]))


def scaled(image: Image.Image, small: Small | None) -> Image.Image:
    """An image in the size that is wanted, without the copies that an array in between costs."""
    size = fitted(*image.size, small.short_side) if small else image.size
    return image if size == image.size else image.resize(size, _RESAMPLE[small.resample])


def rgb_maker(small: Small | None, threads: int) -> Callable[[av.VideoFrame], np.ndarray]:
    """What gives a video frame's RGB, uint8 [H, W, 3], scaled. It is for all frames of a video: to set one up takes longer than to scale a frame."""
    scaler, painter = VideoReformatter(), VideoReformatter()

    def rgb_of(frame: av.VideoFrame) -> np.ndarray:
        width, height = fitted(frame.width, frame.height, small.short_side) if small else (frame.width, frame.height)
        if (width, height) != (frame.width, frame.height):
            planes = _FULL_COLOURS.get(frame.format.name, "rgb24")
            frame = scaler.reformat(frame, width=width, height=height, format=planes, interpolation=small.resample.upper(), threads=threads)
        return painter.reformat(frame, format="rgb24", threads=threads).to_ndarray()

    return rgb_of
