"""Small real videos and frame folders, written where a test wants them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def grey_frames(count: int, size: tuple[int, int] = (32, 24), step: int = 5) -> list[np.ndarray]:
    """Frame i is grey of level step * i, so that a decoded frame tells its number; size is (width, height)."""
    return [np.full((size[1], size[0], 3), step * i % 256, np.uint8) for i in range(count)]


def textured(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames of smooth blobs of many sizes: what footage looks like to a filter, unlike noise."""
    rng, sums = np.random.default_rng(0), np.zeros((count, size[1], size[0], 3))
    for cells in (4, 12, 40):
        grid = rng.uniform(0, 1, (count, cells, cells, 3))
        sums += [np.asarray(Image.fromarray((g * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC), float) for g in grid]
    return list((sums / 3).astype(np.uint8))


def write_video(path: Path, frames: Sequence[np.ndarray], *, codec: str = "libx264", rate: int = 25, pix_fmt: str = "yuv420p",
                times: Sequence[float] | None = None, container: dict[str, str] | None = None, bit_rate: int = 4_000_000,
                key_frames: int = 12) -> Path:
    """Encodes RGB frames; `times` in seconds makes the rate variable. key_frames: from one to the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=1000 if times else rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.bit_rate = bit_rate
        stream.codec_context.gop_size = key_frames
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if times:
                frame.pts, frame.time_base = round(times[i] * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def write_frames(folder: Path, frames: Sequence[np.ndarray], *, suffix: str = ".png") -> Path:
    """Writes images 1.png, 2.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(frames, 1):
        Image.fromarray(image).save(folder / f"{i}{suffix}")
    return folder


def write_table(root: Path, *rows: str, header: str = "video,start,end,label") -> Path:
    """Writes root/segments.csv and returns root."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "segments.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


def touch(root: Path, *names: str) -> Path:
    """Writes files that are no videos, for what looks at names alone, and returns root."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not looked into while listing")
    return root
