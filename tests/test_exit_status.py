"""What a user gets who types something wrong: one clear line and an exit status, never a traceback.

In processes of their own: what is refused at once, once JAX is there, and as failed work. The others run in this one.
"""

import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

TINY = "--config=configs/tiny.py"
FOLDER = "--config=configs/folder.py"
SMALL = ("--config.encoder.arch=r2plus1d_tiny", "--config.encoder.weights=random", "--config.encoder.stage=", "--config.adapt.freeze=",
         "--config.data.short_side=32", "--config.encoder.crop=32")


def refused(done, status: int, *said: str) -> None:
    """Asserts that a run ended with `status` and one line of complaint that holds all of `said`."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("acx_jax: "), done.stderr
    for part in said:
        assert part in lines[0]


def test_nothing_asked_for(acx):
    refused(acx(), 2, "--config=configs/demo.py", "--help")


def test_help(acx):
    done = acx("--help")
    assert done.returncode == 0 and "--config.episodes.shot" in done.stdout and not done.stderr


def test_misspelt_stage(acx):
    refused(acx(TINY, "--stage=evalute"), 2, "evalute", "evaluate")


def test_unknown_key_and_missing_config_leave_nothing_behind(acx_here, tmp_path):
    refused(acx_here(TINY, f"--workdir={tmp_path}/w", "--config.episodes.shots=1"), 2, "config.episodes.shots", "config.episodes.shot?")
    refused(acx_here("--config=configs/demos.py", f"--workdir={tmp_path}/w"), 2, "configs/demo.py")
    refused(acx_here(f"--workdir={tmp_path}/w"), 2, "remembers no config")
    assert not list(tmp_path.iterdir())


def test_config_file_that_raises(acx_here, tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    1 / 0\n")
    refused(acx_here(f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/w"), 2, "line 2", "ZeroDivisionError")


def test_workdir_that_is_a_file(acx_here, tmp_path):
    (tmp_path / "w").write_text("")
    refused(acx_here(TINY, f"--workdir={tmp_path}/w"), 2, "is a file")
    refused(acx_here(TINY, f"--workdir={tmp_path}/w/deeper"), 2, "is a file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, where nobody can write")
def test_workdir_that_nobody_can_make(acx_here):
    refused(acx_here(TINY, "--workdir=/proc/acx_jax"), 1, "/proc/acx_jax")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_read_only_workdir(acx_here, tmp_path):
    tmp_path.chmod(0o500)
    refused(acx_here(TINY, f"--workdir={tmp_path}"), 1, "no permission")
    refused(acx_here(TINY, f"--workdir={tmp_path}/w"), 1, "no permission")


@pytest.mark.parametrize("root, said", [("none", "none"), ("empty", "empty")])
def test_root_without_videos(acx_here, tmp_path, root, said):
    (tmp_path / "empty").mkdir()
    refused(acx_here(FOLDER, f"--workdir={tmp_path}/w", f"--config.data.root={tmp_path}/{root}"), 2, said)


def test_folder_config_without_root(acx_here, tmp_path):
    refused(acx_here(FOLDER, f"--workdir={tmp_path}/w"), 2, "--config.data.root=FOLDER")


def write_video(path: Path, frames: int = 12, left: int = 0) -> None:
    """Grey that grows lighter, but for a bright bar at `left`, which tells videos apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for i in range(frames):
            image = np.full((40, 48, 3), 20 * i, np.uint8)
            image[:, left:left + 8] = 250
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def few_videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("few") / "vidéos de la rue"
    for i, name in enumerate(("normal/a.mp4", "normal/b b.mp4", "normal/c.mp4", "normal/d.mp4", "abnormal/é.mp4", "abnormal/f.mp4")):
        write_video(root / name, left=8 * i)
    return root


def test_too_few_segments_for_the_shots(acx, tmp_path, few_videos):
    done = acx(FOLDER, f"--workdir={tmp_path}/w ü", f"--config.data.root={few_videos}", *SMALL)
    refused(done, 2, "too few segments", "config.episodes.shot=5", "2 abnormal", "--config.episodes.shot=1 would fit")


def test_shots_that_the_data_do_not_allow_are_not_remembered(acx_here, tmp_path, few_videos):
    first = acx_here(FOLDER, f"--workdir={tmp_path}/w", f"--config.data.root={few_videos}", *SMALL, "--config.episodes.shot=1", "--stage=prepare")
    assert first.returncode == 0, first.stderr
    refused(acx_here(f"--workdir={tmp_path}/w", "--config.episodes.shot=9", "--stage=evaluate"), 2, "too few segments", "config.episodes.shot=9")
    again = acx_here(f"--workdir={tmp_path}/w", "--stage=prepare")
    assert again.returncode == 0 and "prepare: up to date" in again.stdout, again.stderr
    assert json.loads((tmp_path / "w" / "config.json").read_text())["values"]["episodes.shot"] == 1


def test_no_usable_video_is_failed_work(acx, tmp_path, few_videos):
    broken = tmp_path / "broken"
    shutil.copytree(few_videos, broken)
    for path in broken.rglob("*.mp4"):
        path.write_text("not a video")
    done = acx(FOLDER, f"--workdir={tmp_path}/w", f"--config.data.root={broken}", *SMALL)
    refused(done, 1, ".mp4")


def test_a_relative_root_from_another_folder(acx_here, tmp_path, few_videos):
    config = Path("configs/folder.py").resolve()
    options = (f"--workdir={tmp_path}/w", "--stage=prepare")
    done = acx_here(f"--config={config}", f"--config.data.root={few_videos.name}", *SMALL, *options, cwd=few_videos.parent)
    assert done.returncode == 0, done.stderr
    done = acx_here(*options, cwd=tmp_path)
    assert done.returncode == 0 and "prepare: up to date" in done.stdout, done.stderr


def test_refused_weights_and_learners_are_not_remembered(acx_here, tmp_path):
    (tmp_path / "w.pth").write_text("no weights")
    refused(acx_here(TINY, f"--workdir={tmp_path}/w", f"--config.encoder.weights={tmp_path}/w.pth"), 2, "w.pth")
    refused(acx_here(TINY, f"--workdir={tmp_path}/w", "--config.learners.names=('no_such.module',)"), 2, "no_such")
    refused(acx_here(f"--workdir={tmp_path}/w"), 2, "remembers no config")
