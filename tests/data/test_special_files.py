"""What looks like a video or an image by its name and must not be opened: a named pipe waits for ever, a device never ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media import grey_frames, write_frames, write_table, write_video

from acx_jax.data.builders.feature_arrays import BadArray, members, read_vectors
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.tree import unusable
from acx_jax.data.check.copies import digest, find_copies
from acx_jax.data.decode import DecodeError, facts, frames
from acx_jax.data.probe import look_closer, probe


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "named pipe"), "socket": (bound_socket, "socket"), "zero": (lambda path: path.symlink_to("/dev/zero"), "device"),
    "folder": (Path.mkdir, "holds no images"), "nothing": (lambda path: path.symlink_to("gone.mp4"), "No such file"),
}


def make(folder: Path, suffix: str = ".mp4") -> dict[Path, str]:
    """One of each kind in a folder; what is to be said of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (maker, _) in MAKERS.items():
        maker(folder / f"{name}{suffix}")
    return {folder / f"{name}{suffix}": said for name, (_, said) in MAKERS.items()}


def test_none_is_opened(tmp_path: Path) -> None:
    for path, said in make(tmp_path).items():
        assert said in unusable(path) and said in probe(path).problem and not len(look_closer(path))
        with pytest.raises(DecodeError, match=said):
            next(frames(path))
        if not path.is_dir():
            with pytest.raises(DecodeError, match=said):
                facts(path)
    paths = list(make(tmp_path / "more")) + list(tmp_path.glob("*.mp4"))
    probes = [probe(path) for path in paths]
    assert find_copies(paths, [p.bytes for p in probes], [p.looks for p in probes], [p.frames for p in probes], [p.fps for p in probes],
                       closer=lambda asked: enumerate(map(look_closer, asked))) == []


def test_class_folders_name_them(tmp_path: Path) -> None:
    expected = make(tmp_path / "normal")
    write_video(tmp_path / "abnormal" / "good.mp4", grey_frames(9))
    listed = list_folder(tmp_path)
    assert [s.video for s in listed.segments] == ["abnormal/good.mp4"]
    assert {tmp_path / item: reason for item, reason in listed.skipped}.keys() == expected.keys()
    assert all(expected[tmp_path / item] in reason for item, reason in listed.skipped)


def test_a_table_names_them(tmp_path: Path) -> None:
    expected = make(tmp_path / "frames")
    write_table(tmp_path, *(f"{path.name},0,9,normal" for path in expected), "gone.mp4,0,9,normal")
    listed = list_folder(tmp_path)
    assert not listed.segments and set(listed.missing) == {"gone.mp4", *(path.name for path in expected)}
    said = {item.split("(")[1].split()[0]: reason for item, reason in listed.skipped}
    assert all(reason in said[path.name] for path, reason in expected.items()) and "no video file and no folder" in said["gone.mp4"]


@pytest.mark.parametrize("kind", ["pipe", "zero"])
def test_a_frame_that_is_none_ends_its_video(tmp_path: Path, kind: str) -> None:
    write_frames(tmp_path, grey_frames(8))
    for number in (5, 8):
        (tmp_path / f"{number}.png").unlink()
        MAKERS[kind][0](tmp_path / f"{number}.png")
    read = frames(tmp_path)
    assert [int(next(read).mean()) for _ in range(4)] == [0, 5, 10, 15]
    with pytest.raises(DecodeError, match=rf"frame 4 \(5.png\) cannot be read: it is a {MAKERS[kind][1]}"):
        next(read)
    assert MAKERS[kind][1] in probe(tmp_path).problem
    assert np.array_equal(look_closer(tmp_path), look_closer(tmp_path / "absent"))


@pytest.mark.parametrize("kind", ["pipe", "socket", "zero"])
def test_no_array_and_no_image_that_is_compared_is_opened(tmp_path: Path, kind: str) -> None:
    maker, said = MAKERS[kind]
    for name in ("0.npy", "1.npz", "2.png"):
        maker(tmp_path / name)
    with pytest.raises(BadArray, match=f"cannot be read: it is a {said} and no file of a disk$"):
        read_vectors(tmp_path / "0.npy")
    with pytest.raises(BadArray, match=f"no .npz archive: it is a {said}"):
        members(tmp_path / "1.npz")
    with pytest.raises(OSError, match=said):
        digest(tmp_path)
