"""A data set to try everything on: procedural traffic at many junctions, half of the videos with an event.

Each video begins with ordinary traffic, labelled normal. In half of them an event follows at once, labelled abnormal; in the
others the traffic goes on, unlabelled. Scenes, lights and lengths are drawn alike for both.
"""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes.draw import pictures
from acx_jax.data.builders.scenes.encode import write_mp4
from acx_jax.data.builders.scenes.events import EVENTS
from acx_jax.data.builders.scenes.script import Clip, draw_clip

COLUMNS = ("video", "start", "end", "label", "category", "ego_involved", "source")
_GENERATION = 2  # to be raised with every change that alters a frame: videos of another generation are not kept
_VIDEOS_A_WORKER = 8  # fewer are not worth the start of a process


class _Task(NamedTuple):
    """One video to be written."""

    root: Path
    seed: int
    index: int
    event: str
    size: tuple[int, int]
    frames: tuple[int, int]

    @property
    def path(self) -> Path:
        return self.root / "videos" / f"scene_{self.index:04d}.mp4"


def write_videos(
    root: Path,
    *,
    seed: int,
    videos: int,
    size: tuple[int, int] = (176, 128),
    frames: tuple[int, int] = (24, 40),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `videos` mp4 files of `size` (W, H) pixels under root/videos and their segments to root/segments.csv.

    A segment has frames[0] to frames[1] frames. `progress(done, total)` is called for every video. Stopped at any moment and
    called again, it keeps the finished files and ends with the same bytes; files of other settings are replaced.
    """
    (root / "videos").mkdir(parents=True, exist_ok=True)
    _discard_others(root, {"generation": _GENERATION, "seed": seed, "size": list(size), "frames": list(frames), "videos": videos})
    tasks = [_Task(root, seed, i, event, size, frames) for i, event in enumerate(event_kinds(seed, videos))]
    table, rows = root / "segments.csv", []
    if table.exists() and all(task.path.exists() for task in tasks):
        return
    for done, segments in enumerate(_all(tasks), 1):
        rows += segments
        if progress:
            progress(done, videos)
    for leftover in (root / "videos").glob(".scene_*.part"):
        leftover.unlink(missing_ok=True)
    _replace(table, _as_csv(sorted(rows)))


def event_kinds(seed: int, videos: int) -> list[str]:
    """For every video one of EVENTS or "": exactly half have one, the kinds as even as can be, in an order of the seed's."""
    count = round(videos / 2)
    kinds = [EVENTS[i % len(EVENTS)] for i in range(count)] + [""] * (videos - count)
    return [kinds[i] for i in np.random.default_rng([seed, videos]).permutation(videos)]


def draw_video(
    seed: int, index: int, *, event: str, size: tuple[int, int], frames: tuple[int, int]
) -> tuple[Clip, Iterator[np.ndarray]]:
    """What happens in a video, and its pictures uint8 [H, W, 3], drawn as they are asked for."""
    script, look = (np.random.default_rng([seed, index, part]) for part in range(2))
    clip = draw_clip(script, frames=frames, event=event)
    return clip, pictures(look, clip, size)


def _all(tasks: list[_Task]) -> Iterator[list[tuple]]:
    """The segments of every video as it is finished, in any order."""
    workers = min(os.cpu_count() or 1, len(tasks) // _VIDEOS_A_WORKER)
    if workers < 2:
        yield from map(_write, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        for future in as_completed([pool.submit(_write, task) for task in tasks]):
            yield future.result()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed: the pool's own workers would wait for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(task: _Task) -> list[tuple]:
    """Writes a video unless it is there, and returns its rows of the table."""
    clip, frames = draw_video(task.seed, task.index, event=task.event, size=task.size, frames=task.frames)
    if not task.path.exists():
        write_mp4(task.path, frames, task.size)
    video, kind, source = f"videos/{task.path.name}", task.event or "none", f"junction_{task.index:04d}"
    rows = [(video, 0, clip.first - 1, "normal", kind, "", source)]
    if task.event:
        rows.append((video, clip.first, clip.first + clip.second - 1, "abnormal", kind, "", source))
    return rows


def _discard_others(root: Path, settings: dict[str, object]) -> None:
    """Removes what other settings left; the stamp is written last, so that a stop in between only removes again."""
    stamp, text = root / "scene.json", json.dumps(settings, sort_keys=True)
    if stamp.exists() and stamp.read_text() == text:
        return
    for path in [root / "segments.csv", *(root / "videos").glob("scene_*.mp4")]:
        path.unlink(missing_ok=True)
    _replace(stamp, text)


def _as_csv(rows: list[tuple]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def _replace(path: Path, text: str) -> None:
    """Writes a file under another name first, so that it is never seen unfinished."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text)
    os.replace(unfinished, path)
