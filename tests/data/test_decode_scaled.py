"""Frames in the size that they are wanted in: scaled while they are decoded, and nearly those that are scaled afterwards."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media import textured, write_video
from PIL import Image

from acx_jax.data import decode, scaling
from acx_jax.data.decode import frames
from acx_jax.data.image_folder import image_frames
from acx_jax.data.scaling import Small, fitted, resize


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_frames_scaled_while_they_are_decoded_are_nearly_those_scaled_after(tmp_path: Path, resample: str) -> None:
    path = write_video(tmp_path / "a.mp4", textured(6, (320, 180)))
    for side in (48, 90, 180, 200):
        wanted = [resize(frame, short_side=side, resample=resample) for frame in frames(path)]
        scaled = list(frames(path, small=Small(side, resample)))
        assert [f.shape for f in scaled] == [f.shape for f in wanted]
        off = np.abs(np.stack(scaled).astype(int) - np.stack(wanted))
        assert off.mean() < 4 and np.percentile(off, 99) <= 20 and (side != 180 or not off.max()), side  # colours are stored at half size


def decoded(path: Path, **options: str) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.options = options
        return list(container.decode(video=0))


def made_small(frame: av.VideoFrame, small: Small | None) -> np.ndarray:
    """A frame's RGB by scalers of its own."""
    if small:
        width, height = fitted(frame.width, frame.height, small.short_side)
        frame = frame.reformat(width, height, "yuv444p", interpolation=small.resample.upper())
    return frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize("small", [None, Small(47, "bilinear"), Small(30, "bicubic")])
def test_one_scaler_a_video_gives_what_one_a_frame_gives_also_where_the_size_changes(tmp_path: Path, monkeypatch, small: Small | None) -> None:
    pieces = [write_video(tmp_path / f"{width}.ts", textured(4, (width, 48))).read_bytes() for width in (96, 64)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(pieces))
    made, new = [], scaling.VideoReformatter
    monkeypatch.setattr(scaling, "VideoReformatter", lambda: made.append(new()) or made[-1])
    given = list(frames(path, small=small))
    assert all(np.array_equal(one, made_small(frame, small)) for one, frame in zip(given, decoded(path), strict=True))
    assert len(made) == 2 and len({one.shape for one in given}) == 2


@pytest.mark.parametrize("pix_fmt, range_", [(kind, 1) for kind in ("yuv420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le", "gray")] +
                         [(kind, 2) for kind in ("yuv420p", "yuvj420p", "yuvj422p", "yuv422p", "nv12")])
def test_scaling_keeps_the_range_and_the_colours_of_every_kind_of_frame(pix_fmt: str, range_: int) -> None:
    frame = av.VideoFrame.from_ndarray(textured(1, (320, 180))[0], "rgb24").reformat(format=pix_fmt, dst_color_range=range_)
    frame.color_range = range_
    wanted = resize(frame.to_ndarray(format="rgb24"), short_side=48, resample="bilinear").astype(int)
    off = scaling.rgb_maker(Small(48, "bilinear"), 1)(frame) - wanted
    assert np.abs(off).mean() < 2 and np.abs(off.mean((0, 1))).max() < 2 and wanted.std() > 20  # the other range: 3.6 and more off in the mean


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv440p", "yuv411p", "yuva420p", "nv12", "nv21", "yuyv422", "uyvy422", "yuv420p10le", "yuv422p10le", "p010le",
                                     "yuvj420p", "yuvj440p", "yuv444p"])
def test_sharp_colours_are_smoothed_and_not_left_out(pix_fmt: str) -> None:
    stripes = np.where((np.arange(640) // 15) % 2, 255, 0).astype(np.uint8) * np.ones((360, 1), np.uint8)
    frame = av.VideoFrame.from_ndarray(np.stack([stripes, 0 * stripes, 255 - stripes], -1), "rgb24").reformat(format=pix_fmt)
    wanted = resize(frame.to_ndarray(format="rgb24"), short_side=64, resample="bilinear").astype(int)
    off = np.abs(scaling.rgb_maker(Small(64, "bilinear"), 1)(frame) - wanted)
    assert off.mean() < (6 if pix_fmt == "yuv411p" else 4) and wanted.std() > 60  # large frames made RGB at once: 30 and more


def test_the_loop_filter_is_left_out_of_what_no_frame_is_made_from_where_frames_become_half_as_large(tmp_path: Path) -> None:
    scene = textured(1, (400, 240))[0]
    path = write_video(tmp_path / "a.mp4", [scene[2 * i:2 * i + 180, 3 * i:3 * i + 320] for i in range(12)], bit_rate=100_000)
    whole, bare = decoded(path), decoded(path, skip_loop_filter="noref")
    for side, same, other in ((90, bare, whole), (91, whole, bare)):
        small = Small(side, "bilinear")
        given, same, other = (np.stack(list(f)).astype(int) for f in (frames(path, small=small), (made_small(f, small) for f in same), (made_small(f, small) for f in other)))
        off = np.abs(given - other)
        assert np.array_equal(given, same) and off.any() and off.mean() < 1 and not off[0].any()


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
    monkeypatch.setattr(decode, "scaled", lambda image, small: seen.append(image.size) or image)
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
