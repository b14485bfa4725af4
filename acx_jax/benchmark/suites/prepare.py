"""Preparation: frames a second from videos to records, beside the decoding alone of the same videos with all cores."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from acx_jax.benchmark.outcome import OURS, Outcome, Row
from acx_jax.benchmark.timing import Program, interleave
from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.builders import clips, parts, records
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.reading import Reading
from acx_jax.data.builders.synthetic import write_videos
from acx_jax.data.media_files import VIDEO_SUFFIXES, image_files
from acx_jax.errors import UsageError
from acx_jax.runtime import workers

SUMMARY = "From videos to records, in as many processes as there are cores; the ceiling is decoding the same files, frames dropped."
_PREPARED = "prepared_"  # what the folder of a preparation is called, and something behind it
SIZE, FRAMES = (640, 360), (96, 96)  # of rendered videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--videos, --count, --short_side."""
    parser.add_argument("--videos", type=Path, help="folder of video files, or of folders of images; left out: rendered ones of 640x360")
    parser.add_argument("--count", type=int, default=16, help="videos to read, or to render (default 16)")
    parser.add_argument("--short_side", type=int, default=128, help="pixels of the shorter side of stored frames (default 128)")


def run(options: argparse.Namespace) -> Outcome:
    """Measures both storages and the ceiling; see the package's docstring for what a suite is."""
    with tempfile.TemporaryDirectory() as folder:
        paths = _videos(options, Path(folder))
        listing = Listing(tuple(Segment(str(p), 0, TO_THE_END, 0, split="evaluate") for p in paths), {str(p): p for p in paths}, (), len(paths), len(paths))
        reading = Reading(8, 4, 0.0, options.short_side, "bilinear", 0, 8, {"adapt": 0, "evaluate": 0}, reduced=True, threads=1)
        sizes: dict[str, int] = {}
        storages = {OURS: clips.RAW, f"{OURS} jpeg": clips.Storage("jpeg", 95)}
        programs: dict[str, Program] = {name: partial(_prepare, listing, reading, storage, Path(folder), sizes, name)
                                        for name, storage in storages.items()}
        programs |= {"decoding alone": partial(_decode, paths, _dropped), "decoding to RGB": partial(_decode, paths, _as_rgb)}
        timings = interleave(programs, repeats=options.repeats, before=partial(_clear, Path(folder)))
        frames = sum(s.frames for s in _prepare(listing, reading, clips.RAW, Path(folder), sizes, OURS).stored)
    rows = [Row("videos", name, timing, frames) for name, timing in timings.items()]
    stored = [f"{name}: {sizes[name] / 1e6:.1f} MB of records" for name in storages]
    return Outcome("frames", {"videos": len(paths), "frames": frames, "processes": workers.cores(), "short side": options.short_side},
                   rows, [*stored, f"the preparation reaches {timings['decoding alone'].median / timings[OURS].median:.0%} of the ceiling"])


def _videos(options: argparse.Namespace, folder: Path) -> list[Path]:
    if options.count < 1:
        raise UsageError(f"--count={options.count}: at least 1 video is needed")
    if options.videos is None:
        write_videos(root=folder / "rendered", seed=0, videos=max(options.count, 4), size=SIZE, frames=FRAMES, progress=lambda done, total: None)
    below = sorted((options.videos or folder / "rendered").rglob("*"))
    found = [p for p in below if p.suffix.lower() in VIDEO_SUFFIXES] or [p for p in below if p.is_dir() and image_files(p)]
    if not found:
        raise UsageError(f"--videos={options.videos}: no video file and no folder of images in it")
    return found[:options.count]


def _prepare(listing: Listing, reading: Reading, storage: clips.Storage, folder: Path, sizes: dict[str, int], name: str) -> records.Built:
    """One whole preparation."""
    out = Path(tempfile.mkdtemp(dir=folder, prefix=_PREPARED))
    built = records.build(listing, out / "records", reading, folder=out / "parts", max_bad_share=0.5, storage=storage, run=_pool)
    sizes[name] = sum(path.stat().st_size for path in (out / "records").rglob("*") if path.is_file())
    return built


def _clear(folder: Path) -> None:
    """Removes what preparations have written, which is no part of one."""
    for written in folder.glob(f"{_PREPARED}*"):
        shutil.rmtree(written)


def _pool(function: Callable, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    return workers.work(function, items, workers=workers.cores(), patience=120.0, preload=[parts.__name__])


def _decode(paths: list[Path], function: Callable) -> int:
    """Frames of all files."""
    return sum(count for _, count in _pool(function, paths))


def _dropped(path: Path, beat: Callable[[], None]) -> int:
    return sum(1 for _ in (_pictures(path) if path.is_dir() else _coded(path)))


def _as_rgb(path: Path, beat: Callable[[], None]) -> int:
    if path.is_dir():
        return sum(np.asarray(image.convert("RGB")).shape[0] > 0 for image in _pictures(path))
    scaler = VideoReformatter()
    return sum(scaler.reformat(frame, format="rgb24", threads=1).to_ndarray().shape[0] > 0 for frame in _coded(path))


def _coded(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        yield from container.decode(video=0)


def _pictures(folder: Path) -> Iterator[Image.Image]:
    for file in image_files(folder):
        with Image.open(file) as image:
            image.load()
            yield image
