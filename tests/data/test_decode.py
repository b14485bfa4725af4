from __future__ import annotations

import contextlib
import gc
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media import grey_frames, textured, write_frames, write_video
from PIL import Image

from acx_jax.data.decode import DecodeError, declared, frames
from acx_jax.data.probe import look_closer, probe
from acx_jax.data.scaling import Small, resize

FASTSTART = {"movflags": "faststart"}
KINDS = [("a.mp4", "libx264", "yuv420p"), ("a.mp4", "mpeg4", "yuv420p"), ("a.webm", "libvpx-vp9", "yuv420p"),
         ("a.mkv", "libx264", "yuv420p"), ("a.avi", "mjpeg", "yuvj420p"), ("a.mov", "libx264", "yuv444p"), ("a.ts", "libx264", "yuv420p")]


def levels(path: Path, **options) -> list[int]:
    """The number of each frame, read off its grey level (step 5)."""
    return [round(frame.mean() / 5) for frame in frames(path, **options)]


def numbered(count: int) -> list[np.ndarray]:
    """Frames with eight bars, each a bit of the frame's number."""
    return [np.kron(np.array([[200 * (i >> bit & 1) for bit in range(8)]], np.uint8), np.ones((32, 8), np.uint8))[..., None].repeat(3, 2) for i in range(count)]


def numbers(images: Iterator[np.ndarray]) -> list[int]:
    """The number of each, up to where the file breaks off."""
    found = []
    with contextlib.suppress(DecodeError):
        for image in images:
            found.append(sum(1 << bit for bit in range(8) if image[:, 8 * bit + 2:8 * bit + 6].mean() > 100))
    return found


@pytest.mark.parametrize("name, codec, pix_fmt", KINDS)
def test_every_frame_in_order(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = write_video(tmp_path / name, grey_frames(30), codec=codec, pix_fmt=pix_fmt)
    assert levels(path) == list(range(30))
    first = next(frames(path))
    assert first.shape == (24, 32, 3) and first.dtype == np.uint8


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.mp4", grey_frames(5, (35, 27)), pix_fmt="yuv444p")
    assert {frame.shape for frame in frames(path)} == {(27, 35, 3)}


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8) + np.array([200, 30, 30], np.uint8)
    path = write_video(tmp_path / "red.mp4", [red] * 3)
    assert np.abs(next(frames(path)).mean((0, 1)) - [200, 30, 30]).max() < 12


@pytest.mark.parametrize("matrix, turn", [
    ((0, 1, -1, 0), lambda f: np.rot90(f, -1)), ((-1, 0, 0, -1), lambda f: np.rot90(f, 2)),
    ((0, -1, 1, 0), lambda f: np.rot90(f, 1)), ((-1, 0, 0, 1), lambda f: f[:, ::-1]), ((0, 1, 1, 0), lambda f: f.transpose(1, 0, 2)),
])
def test_display_matrix_is_applied(tmp_path: Path, matrix: tuple, turn) -> None:
    plain = write_video(tmp_path / "plain.mp4", textured(1, (32, 24)) * 3)
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd") + 44
    assert struct.unpack_from(">9i", data, at)[8] == 1 << 30
    a, b, c, d = (v << 16 for v in matrix)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    upright = turn(next(frames(plain)))
    np.testing.assert_array_equal(next(frames(tmp_path / "turned.mp4")), upright)
    scaled, wanted = next(frames(tmp_path / "turned.mp4", small=Small(12, "bilinear"))), resize(upright, short_side=12, resample="bilinear")
    assert scaled.shape == wanted.shape and np.abs(scaled.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate(tmp_path: Path, suffix: str) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.0, 1.04]
    path = write_video(tmp_path / f"v{suffix}", grey_frames(7), times=times)
    assert levels(path) == list(range(7))
    expected = [max(i for i, t in enumerate(times) if t <= k / 10 + 0.001) for k in range(11)]
    assert levels(path, fps=10)[:11] == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("fps, expected", [
    (25, list(range(20))), (12.5, list(range(0, 20, 2))), (50, [i // 2 for i in range(40)]), (5, [0, 5, 10, 15])])
def test_resampling_takes_the_latest_frame(tmp_path: Path, suffix: str, fps: float, expected: list[int]) -> None:
    assert levels(write_video(tmp_path / f"v{suffix}", grey_frames(20)), fps=fps) == expected


@pytest.mark.parametrize("name, codec, share", [("a.ts", "libx264", 1), ("a.mpg", "mpeg1video", 1), ("a.mpg", "mpeg2video", 1), ("a.mp4", "libx264", 1),
                                                ("a.mkv", "libx264", 1), ("cut.avi", "libx264", 0.8)])
@pytest.mark.parametrize("key_frames", [12, 250])
def test_frames_from_one_on_are_those_of_the_whole_video(tmp_path: Path, name: str, codec: str, share: float, key_frames: int) -> None:
    path = write_video(tmp_path / name, numbered(150), codec=codec, key_frames=key_frames)
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    for fps in (10, 25):
        whole = numbers(frames(path, fps=fps))
        assert len(set(whole)) > 0.6 * len(whole) > 25
        for first in (1, 5, 30, 46, 47, 75, 110):
            assert numbers(itertools.islice(frames(path, fps=fps, first=first), 12)) == whole[first:first + 12], (fps, first)


def test_millisecond_times_lose_no_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", grey_frames(30), rate=30)  # 33, 67, 100 ms
    assert levels(path, fps=30) == list(range(30))


def test_frames_come_one_at_a_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mp4", grey_frames(40), container=FASTSTART)
    path.write_bytes(path.read_bytes()[:-30])
    assert len(list(itertools.islice(frames(path), 3))) == 3  # what is wrong further on is not looked at


@pytest.mark.parametrize("name, codec, pix_fmt", [k for k in KINDS if k[0] != "a.ts" and k[0] != "a.mov"])
def test_cut_off_file_gives_what_there_is_then_an_error(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(50)]
    path = write_video(tmp_path / name, noise, codec=codec, pix_fmt=pix_fmt, container=FASTSTART if name == "a.mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count = 0
    with pytest.raises(DecodeError, match=f"{name}: (cut off|broken) after"):
        for _ in frames(path):
            count += 1
    assert 5 < count < 45


@pytest.mark.parametrize("name, content, problem", [
    ("zero.mp4", b"", "not a readable video: the file is empty"), ("text.mp4", b"this is no video\n" * 100, "not a readable video"),
    ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n", "not a readable video"),
    ("noise.avi", bytes(range(256)) * 20, "not a readable video")])
def test_what_is_no_video_is_named(tmp_path: Path, capfd, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DecodeError, match=name) as caught:
        list(frames(tmp_path / name))
    assert problem in caught.value.problem and str(tmp_path) not in caught.value.problem
    assert capfd.readouterr() == ("", "")


def test_missing_index_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(30))  # its index stands at the end
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DecodeError, match="v.mp4: not a readable video"):
        list(frames(path))


def test_sound_alone_is_an_error(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(8000), out.writeframes(bytes(8000))
    (tmp_path / "a.wav").rename(tmp_path / "a.mp4")
    with pytest.raises(DecodeError, match="no video stream"):
        list(frames(tmp_path / "a.mp4"))


@pytest.mark.parametrize("options", [{}, {"fps": 10, "first": 3}])
def test_unknown_codec_is_an_error(tmp_path: Path, options: dict) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(20))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz77"))
    with pytest.raises(DecodeError, match="v.mp4: the codec of its video is not known"):
        list(frames(path, **options))
    assert "codec" in declared(path) and "codec" in probe(path).problem and not len(look_closer(path))


def test_names_with_spaces_percent_and_other_letters(tmp_path: Path) -> None:
    path = write_video(tmp_path / "straße 5 %03d: ü.mp4", grey_frames(3))
    assert levels(path) == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".JPEG"])
def test_folder_in_natural_order_at_its_own_rate(tmp_path: Path, suffix: str) -> None:
    folder = write_frames(tmp_path / "f", grey_frames(12), suffix=suffix)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".hidden.png").write_bytes(b"x")
    assert levels(folder) == levels(folder, fps=5) == list(range(12))


def test_images_become_rgb(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "1.png")
    Image.fromarray(ramp.astype(np.uint16) * 256).save(tmp_path / "2.png")
    Image.fromarray(np.dstack([ramp] * 3 + [ramp])).save(tmp_path / "3.png")
    Image.fromarray(ramp).convert("P").save(tmp_path / "4.png")
    for frame in frames(tmp_path):
        np.testing.assert_array_equal(frame, np.dstack([ramp] * 3))


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "1.png", exif=exif)
    np.testing.assert_array_equal(next(frames(tmp_path)), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_names_folder_and_frame(tmp_path: Path, content: bytes | None) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    folder = write_frames(tmp_path / "f", [noise] * 3, suffix=".jpg")
    (folder / "2.jpg").write_bytes(content if content is not None else (folder / "2.jpg").read_bytes()[:900])
    with pytest.raises(DecodeError, match=r"f: frame 1 \(2.jpg\) cannot be read") as caught:
        list(frames(folder))
    assert str(tmp_path) not in caught.value.problem


@pytest.mark.parametrize("tag, text", [(0x011A, "not a number"), (0x0100, "wide")])  # a rational and an integer by their tags: Pillow's TypeError, struct.error
def test_broken_exif_names_folder_and_frame(tmp_path: Path, tag: int, text: str) -> None:
    image = Image.fromarray(np.zeros((6, 9, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, text
    block = exif.tobytes()
    order = "<" if block[6:8] == b"II" else ">"
    assert block.count(struct.pack(order + "H", 0x010F)) == 1
    image.save(tmp_path / "1.jpg", exif=block.replace(struct.pack(order + "H", 0x010F), struct.pack(order + "H", tag)))
    with pytest.raises(DecodeError, match=r"frame 0 \(1.jpg\) cannot be read"):
        list(frames(tmp_path))
    assert not probe(tmp_path).problem  # which asks no EXIF block


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no images"):
        list(frames(tmp_path))


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape, expected", [
    ((240, 320), (128, 171)), ((320, 240), (171, 128)), ((64, 64), (128, 128)), ((128, 500), (128, 500)),
    ((1, 50), (128, 6400)), ((129, 128), (129, 128))])
def test_resize_makes_the_short_side_exact(shape, expected, resample: str) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    out = resize(frame, short_side=128, resample=resample)
    assert out.shape == (*expected, 3) and out.dtype == np.uint8


@pytest.mark.parametrize("shape", [(240, 320), (1280, 720), (256, 340)])
def test_resize_to_a_width_stretches_as_pillow_does(shape) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    out = resize(frame, short_side=256, width=340, resample="nearest")
    expected = Image.fromarray(frame).resize((340, 256), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(out, np.asarray(expected))


def test_decoded_frames_are_freed_as_they_pass(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(40))
    gc.collect()
    gc.disable()
    try:
        list(frames(path))
        assert gc.collect() < 40  # none of the frames waited for the collector
    finally:
        gc.enable()


def test_every_image_of_a_folder_is_a_sign_of_life(tmp_path: Path) -> None:
    beats = []
    assert len(list(frames(write_frames(tmp_path / "a", grey_frames(5)), first=2, beat=lambda: beats.append(0)))) == len(beats) == 3
