"""The feeds of adaptation and embedding: samples a second from records, beside the published way and what the machine reads and decodes at most."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from acx_jax.benchmark.outcome import OURS, Outcome, Row
from acx_jax.benchmark.timing import Program, interleave
from acx_jax.contracts import Coverage, Segment
from acx_jax.data import prepared
from acx_jax.data.builders import clips, records
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.reading import Reading
from acx_jax.data.decode import DecodeError, frames
from acx_jax.data.feeds import clips_feed
from acx_jax.data.media_files import VIDEO_SUFFIXES, image_files
from acx_jax.data.window_feed import windows_feed
from acx_jax.errors import UsageError
from acx_jax.runtime import workers
from acx_jax.runtime.files import write_json

SUMMARY = "Batches of anchors and negatives to adapt on, and of windows to embed, clips of 8 frames: from records, as the published code reads, the ceilings."
LENGTH, SIDE, CROP = 8, 128, 112
WIDTH, HEIGHT = 1280, 720  # of made frames: DoTA's
QUALITY = 90  # of JPEGs that are written here
BLOBS = (5, 30, 200)  # cells across of the textures that made frames are of: they compress as footage does


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--frames_of, --videos, --count, --length, --batch, --steps."""
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--frames_of", type=Path, help="folder of folders of JPEG frames, a video each; left out: made ones of 1280x720, as DoTA's are")
    given.add_argument("--videos", type=Path, help="folder of video files, whose frames are first written as JPEGs")
    parser.add_argument("--count", type=int, default=12, help="videos, at most (default 12)")
    parser.add_argument("--length", type=int, default=100, help="frames of a made video (default 100)")
    parser.add_argument("--batch", type=int, default=8, help="samples a step (default 8)")
    parser.add_argument("--steps", type=int, default=20, help="steps a measured call (default 20)")
    parser.add_argument("--memory", type=int, nargs="*", default=[10, 100, 1000], help="numbers of videos to show the feed's memory at")


def run(options: argparse.Namespace) -> Outcome:
    """Measures; see the package's docstring for what a suite is."""
    if min(options.count, options.batch, options.steps) < 1 or options.length < 3 * LENGTH:
        raise UsageError(f"--count, --batch and --steps are at least 1, --length at least {3 * LENGTH}")
    with tempfile.TemporaryDirectory() as temporary:
        folders = _folders(options, Path(temporary) / "frames")
        stored = {name: _prepared(folders, Path(temporary) / name, storage) for name, storage in
                  ((OURS, clips.RAW), (f"{OURS} jpeg", clips.Storage("jpeg", 95)))}
        programs: dict[str, Program] = {name: partial(_feed, folder, options.batch, options.steps, seed) for seed, (name, folder) in
                                        enumerate(stored.items())}
        samples = options.batch * options.steps
        programs |= {"published way": partial(_published, folders, samples),
                     "reading the same bytes": partial(_read, stored[OURS], samples),
                     "decoding the same JPEGs, all cores": partial(_decode, folders, 3 * samples)}
        timings = interleave(programs, repeats=options.repeats)
        windows = interleave({name: partial(_windows, folder, options.batch, options.steps) for name, folder in stored.items()}, repeats=options.repeats)
        real = _windows(stored[OURS], options.batch, options.steps)
        images = sum(len(image_files(folder)) for folder in folders)
        bytes_of = 2 * LENGTH * _frame_bytes(stored[OURS])
        memory = [_memory(folders[0], Path(temporary) / f"many{count}", count) for count in options.memory]
    rows = [Row("adaptation", name, timing, samples) for name, timing in timings.items()]
    rows += [Row("embedding", name, timing, real) for name, timing in windows.items()]
    notes = [f"{name}: {samples * bytes_of / timings[name].median / 1e6:.0f} MB/s of frames handed on" for name in stored]
    notes += [f"{count} videos: {peak:.0f} MB at most, the process that feeds" for count, peak in zip(options.memory, memory)]
    return Outcome("samples", {"videos": len(folders), "frames": images, "batch": options.batch, "steps": options.steps, "short side": SIDE}, rows, notes)


def _folders(options: argparse.Namespace, made: Path) -> list[Path]:
    """Folders of JPEG frames, a video each."""
    if options.videos is not None:
        _extract(options.videos, made, options.count)
    elif options.frames_of is None:
        for video in range(options.count):
            _make(made / f"{video:04}", options.length, video)
    root = options.frames_of or made
    found = [path for path in sorted(root.iterdir()) if path.is_dir() and len(image_files(path)) >= 3 * LENGTH] if root.is_dir() else []
    if not found:
        asked = f"--frames_of={options.frames_of}" if options.frames_of else f"--videos={options.videos}"
        raise UsageError(f"{asked}: no {'folder' if options.frames_of else 'video'} of at least {3 * LENGTH} frames in it")
    return found[:options.count]


def _extract(videos: Path, to: Path, count: int) -> None:
    """The frames of video files as JPEGs, as the published code wants them; what breaks off has fewer."""
    for number, path in enumerate(sorted(p for p in videos.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)[:count]):
        folder = to / f"{number:04}"
        folder.mkdir(parents=True)
        try:
            for index, frame in enumerate(frames(path)):
                Image.fromarray(frame).save(folder / f"{index:06}.jpg", quality=QUALITY)
        except DecodeError:
            continue


def _make(folder: Path, length: int, seed: int) -> None:
    """A texture that moves: a window over a larger picture."""
    folder.mkdir(parents=True)
    rng, picture = np.random.default_rng(seed), np.zeros((HEIGHT + 64, WIDTH + 64, 3))
    for cells in BLOBS:
        grid = Image.fromarray(rng.integers(0, 255, (cells, cells, 3), np.uint8))
        picture += np.asarray(grid.resize(picture.shape[1::-1], Image.Resampling.BICUBIC), float) / len(BLOBS)
    for frame in range(length):
        top, left = (int(32 + 31 * np.sin(frame / speed)) for speed in rng.uniform(5, 20, 2))
        Image.fromarray(picture[top:top + HEIGHT, left:left + WIDTH].astype(np.uint8)).save(folder / f"{frame:06}.jpg", quality=QUALITY)


def _prepared(folders: Sequence[Path], out: Path, storage: clips.Storage) -> Path:
    """The videos as `prepare` leaves them."""
    segments = tuple(Segment(f.name, 0, len(image_files(f)) - 1, 0, split="adapt") for f in folders)
    listing = Listing(segments, {f.name: f for f in folders}, (), len(folders), len(folders))
    reading = Reading(LENGTH, 4, 0.0, SIDE, "bilinear", 0, LENGTH, {"adapt": 0, "evaluate": 0}, reduced=True, threads=1)
    built = records.build(listing, out / prepared.RECORDS, reading, folder=out / "parts", max_bad_share=0.0, storage=storage, run=_pool)
    coverage = Coverage(len(folders), len(folders), len(folders), len(folders), (), ())
    write_json(out / prepared.SEGMENTS, prepared.to_json(built.stored, coverage, prepared.Windows(LENGTH, 4), prepared.record_files(out)))
    return out


def _pool(function: Callable, items: Sequence) -> list:
    return list(workers.work(function, items, workers=workers.cores(), patience=120.0, preload=[__name__]))


def _feed(folder: Path, batch: int, steps: int, seed: int) -> int:
    """Takes `steps` batches off the feed."""
    feed = clips_feed(folder, prepared.load(folder)[0], length=LENGTH, batch=batch, steps=10**6, seed=seed, negative="apart", square="random")
    return sum(len(batch.video) for batch in islice(feed, steps))


def _windows(folder: Path, batch: int, steps: int) -> int:
    """Takes `steps` batches of windows off the feed of the embedding, which begins anew where it ends. Gives how many windows, without padding."""
    stored, counts = prepared.load(folder)[0], []
    while len(counts) < steps:
        feed = windows_feed(folder, stored, "adapt", crop=CROP, batch=batch, length=LENGTH, stride=4)
        counts += [count for _, count in islice(feed, steps - len(counts))]
    return sum(counts)


def _published(folders: Sequence[Path], samples: int) -> int:
    """Each sample opens the JPEGs of three clips (anchor, positive, negative) one by one, and resizes every frame on the CPU."""
    rng = np.random.default_rng(0)
    for _ in range(samples):
        files = image_files(folders[rng.integers(len(folders))])
        for start in rng.integers(0, len(files) - LENGTH + 1, 3):
            np.stack([_resized(file) for file in files[start:start + LENGTH]])
    return samples


def _resized(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST))


def _read(folder: Path, samples: int) -> int:
    """As many bytes as the samples have, off the record files from their first byte on, again and again."""
    left = samples * 2 * LENGTH * _frame_bytes(folder)
    while left > 0:
        for name in prepared.record_files(folder):
            with (folder / name).open("rb", buffering=0) as file:
                while left > 0 and (block := file.read(1 << 20)):
                    left -= len(block)
    return samples


def _frame_bytes(folder: Path) -> int:
    return int(np.prod(prepared.open_records(folder, "adapt")[0]["frames"].shape[1:]))


def _decode(folders: Sequence[Path], clips_wanted: int) -> int:
    """Decodes as many frames as the published way does, in as many processes as there are cores, and does nothing with them."""
    each = -(-clips_wanted * LENGTH // workers.cores())
    return sum(count for _, count in _pool(_decoded, [(folders, each, seed) for seed in range(workers.cores())]))


def _decoded(task: tuple[Sequence[Path], int, int], beat: Callable[[], None]) -> int:
    folders, count, seed = task
    rng = np.random.default_rng(seed)
    files = [file for i in rng.permutation(len(folders))[:10] for file in image_files(folders[i])]
    for i in range(count):
        with Image.open(files[i % len(files)]) as image:
            image.load()
    return count


def _memory(video: Path, out: Path, count: int) -> float:
    """MB at most of a process that feeds 20 batches from `count` videos, all with the frames of one."""
    frames = out / "frames"
    frames.mkdir(parents=True)
    for i in range(count):
        (frames / f"{i:05}").symlink_to(video.absolute())
    _prepared(sorted(frames.iterdir()), out, clips.Storage("jpeg", 95))
    code = (f"from pathlib import Path; from acx_jax.benchmark.suites import feed; feed._feed(Path({str(out)!r}), 8, 20, 0); "
            "print(feed.peak())")
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def peak() -> float:
    """MB of memory that this process held at most, on Linux. Not getrusage: a child's begins at what its parent held when it was started."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
