"""Frames in the size that they are wanted in: scaled while they are decoded, and nearly those that are scaled afterwards."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media import textured, write_video
from PIL import Image

from acx_jax.data import decode
from acx_jax.data.decode import Small, frames, resize
from acx_jax.data.image_folder import image_frames


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_frames_scaled_while_they_are_decoded_are_nearly_those_scaled_after(tmp_path: Path, resample: str) -> None:
    path = write_video(tmp_path / "a.mp4", textured(6, (320, 180)))
    for side in (48, 90, 180, 200):
        wanted = [resize(frame, short_side=side, resample=resample) for frame in frames(path)]
        scaled = list(frames(path, small=Small(side, resample)))
        assert [f.shape for f in scaled] == [f.shape for f in wanted]
        off = np.abs(np.stack(scaled).astype(int) - np.stack(wanted))
        assert off.mean() < 4 and np.percentile(off, 99) <= 20 and (side != 180 or not off.max()), side  # colours are stored at half size


@pytest.mark.parametrize("small", [None, Small(48, "bilinear"), Small(30, "bicubic")])
def test_one_scaler_a_video_gives_what_one_a_frame_gives_also_where_the_size_changes(tmp_path: Path, monkeypatch, small: Small | None) -> None:
    pieces = [write_video(tmp_path / f"{width}.ts", textured(4, (width, 48))).read_bytes() for width in (96, 64)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(pieces))
    made, new = [], decode.VideoReformatter
    monkeypatch.setattr(decode, "VideoReformatter", lambda: made.append(new()) or made[-1])
    given = list(frames(path, small=small))
    with av.open(str(path)) as container:
        for one, frame in zip(given, container.decode(video=0), strict=True):
            width, height = decode.fitted(frame.width, frame.height, small.short_side) if small else (frame.width, frame.height)
            assert np.array_equal(one, frame.to_ndarray(width=width, height=height, format="rgb24", interpolation=small and small.resample.upper()))
    assert len(made) == 1 and len({one.shape for one in given}) == 2


def test_large_jpegs_are_decoded_at_a_reduced_scale_and_nearly_the_same(tmp_path: Path) -> None:
    for i, image in enumerate(textured(3, (640, 360))):
        Image.fromarray(image).save(tmp_path / f"{i}.jpg", quality=95)
    reduced = list(frames(tmp_path, small=Small(45, "bilinear")))
    for least, shape in ((90, (90, 160, 3)), (200, (360, 640, 3))):
        assert {frame.shape for frame in image_frames(tmp_path, 0, least, lambda image: image, lambda: None)} == {shape}
    for one, whole in zip(reduced, frames(tmp_path), strict=True):
        off = np.abs(one.astype(int) - resize(whole, short_side=45, resample="bilinear"))
        assert one.shape == (45, 80, 3) and off.mean() < 1 and off.max() <= 8


@pytest.mark.parametrize("side, scale", [(32, 8), (33, 4), (64, 4), (65, 2), (128, 2), (129, 1)])
def test_jpegs_are_decoded_at_the_smallest_scale_of_at_least_1_4_times_the_side(tmp_path: Path, monkeypatch, side: int, scale: int) -> None:
    Image.fromarray(textured(1, (640, 360))[0]).save(tmp_path / "0.jpg")
    seen = []
    monkeypatch.setattr(decode, "_scaled", lambda image, small: seen.append(image.size) or image)
    list(frames(tmp_path, small=Small(side, "bilinear")))
    assert seen == [(640 // scale, 360 // scale)]


def test_a_turned_jpeg_is_upright_at_a_reduced_scale(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(textured(1, (640, 360))[0]).save(tmp_path / "0.jpg", quality=95, exif=exif)
    (one,), (whole,) = frames(tmp_path, small=Small(45, "bilinear")), frames(tmp_path)
    off = np.abs(one.astype(int) - resize(whole, short_side=45, resample="bilinear"))
    assert whole.shape == (640, 360, 3) and one.shape == (80, 45, 3) and off.mean() < 1


@pytest.mark.parametrize("mode, tag", [("RGB", 1), ("RGB", 6), ("L", 8), ("RGBA", 3), ("I;16", 1), ("P", 1)])
def test_images_scaled_while_they_are_read_are_those_scaled_after(tmp_path: Path, mode: str, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag  # orientation
    image = Image.fromarray(np.arange(90 * 160, dtype=np.uint16).reshape(90, 160) * 4) if mode == "I;16" else Image.fromarray(textured(1, (160, 90))[0]).convert(mode)
    image.save(tmp_path / "0.png", exif=exif)
    for side in (30, 90, 120):
        (one,), (whole,) = frames(tmp_path, small=Small(side, "bilinear")), frames(tmp_path)
        assert np.array_equal(one, resize(whole, short_side=side, resample="bilinear")) and one.dtype == np.uint8
        assert whole.shape == ((160, 90, 3) if tag in (6, 8) else (90, 160, 3))
