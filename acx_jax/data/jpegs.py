"""Frames stored each as a JPEG."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Jpegs(NamedTuple):
    """Frames as they are stored.

    data: uint8 [bytes], the JPEGs one after the other. ends: int64 [T], where each ends. size: int64 [2], height and width.
    """

    data: np.ndarray
    ends: np.ndarray
    size: np.ndarray


def encode(frames: np.ndarray, quality: int) -> Jpegs:
    """Of uint8 [T, H, W, 3], colours at full size."""
    pictures = [_jpeg(frame, quality) for frame in frames]
    return Jpegs(np.frombuffer(b"".join(pictures), np.uint8), np.cumsum([len(p) for p in pictures]), np.array(frames.shape[1:3]))


def _jpeg(frame: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


class JpegFrames:
    """Frames stored as JPEGs, decoded when they are asked for: `frames[3]`, `frames[3:11]` or `np.asarray(frames)`, uint8."""

    def __init__(self, stored: Jpegs):
        self._data, self._ends = stored.data, [0, *stored.ends.tolist()]
        self.shape = (len(stored.ends), *stored.size.tolist(), 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if not isinstance(index, slice):
            return self._decoded(range(len(self))[index])
        wanted = range(len(self))[index]
        return np.stack([self._decoded(i) for i in wanted]) if wanted else np.zeros((0, *self.shape[1:]), np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def _decoded(self, index: int) -> np.ndarray:
        with Image.open(io.BytesIO(self._data[self._ends[index]:self._ends[index + 1]].tobytes())) as image:
            return np.array(image)
