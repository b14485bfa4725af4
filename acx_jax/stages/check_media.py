"""What the check finds out from the videos themselves: copies, shared cameras, sizes, the disk they will take."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import Segment
from acx_jax.data.builders import folder, size, sources
from acx_jax.data.builders.listing import Listing
from acx_jax.data.check import cameras, copies
from acx_jax.data.probe import Probe
from acx_jax.runtime.files import write_text
from acx_jax.stages import check_words, looks
from acx_jax.stages.job import Job
from acx_jax.stages.videos import reading, storage

SOURCES = sources.FILE


class Videos(NamedTuple):
    """The videos of a listing that are on disk, in the listing's order: names, places, what a look at each told, sources."""

    names: list[str]
    paths: list[Path]
    probes: list[Probe]
    sources: list[str]


class _File(NamedTuple):
    """What is compared with its like: a video by its name, or a file, by its name, and the `videos` that are cut from it."""

    name: str
    path: Path
    probe: Probe
    videos: set[str]


class Found(NamedTuple):
    """The findings: JSON values by heading; problems make results wrong or stop a run, warnings drop nothing."""

    report: dict[str, Any]
    problems: list[str]
    warnings: list[str]


def media(job: Job, listed: Listing, split: tuple[Segment, ...], videos: Videos) -> Found:
    """What the videos themselves tell."""
    same = _copies(job, videos, listed, split)
    shared = _cameras(job, videos)
    disk, full = _disk(job, split, videos)
    return Found({"media": _spread(videos), "disk": disk} | same.report | shared.report, same.problems + full, same.warnings + shared.warnings)


def look(job: Job, listed: Listing) -> Videos:
    """A look at every video of a listing; at a file that several are cut from, one."""
    names = list(dict.fromkeys(s.video for s in listed.segments))
    sources = {s.video: s.source or s.video for s in listed.segments}
    paths = [listed.paths[name] for name in names]
    files = list(dict.fromkeys(paths))
    how = {} if len(files) <= cameras.MOST else {"look": copies.probe_small}
    with job.log.progress("check: look at", len(files), unit="video") as advance:
        of_file = dict(zip(files, looks.probe_all(files, job.config, advance=advance, **how), strict=True))
    return Videos(names, paths, [of_file[path] for path in paths], [sources[name] for name in names])


def _copies(job: Job, videos: Videos, listed: Listing, split: tuple[Segment, ...]) -> Found:
    """Copies; those that are labelled differently, or lie in adaptation and in evaluation, make results wrong; not so empty scenes of one camera, nor
    of source classes."""
    files = _files(videos, listed)
    paths, probes = [one.path for one in files], [one.probe for one in files]
    size, looked, frames, rates = ([getattr(p, field) for p in probes] for field in ("bytes", "looks", "frames", "fps"))
    unseen: dict[str, str] = {}
    closer = partial(looks.closer_looks, config=job.config, lost=lambda path, reason: unseen.update({files[paths.index(path)].name: reason}))
    groups = copies.find_copies(paths, size, looked, frames, rates, closer=closer)
    of_classes = job.config.data.builder == "kinetics"  # to train on: a few doubtful labels among many, and nothing is evaluated on them
    fps, problems, report = reading(job.config).fps, [], []
    warnings = [f"{name} could not be compared with other videos closely, so that copies of it may not be found: {unseen[name]}" for name in sorted(unseen)]
    for group in groups:
        same = [files[index] for index in group.videos]
        names = [one.name for one in same]
        what = f"{check_words.listed(names)} are {'the same bytes' if group.same_bytes else 'the same pictures'}{', in which nothing moves' * group.still}"
        against = copies.contradictions([[s for s in listed.segments if s.video in one.videos] for one in same],
                                        _rates([one.probe for one in same], fps), listed.offsets, of_classes=of_classes)
        report.append({"videos": names, "same_bytes": group.same_bytes, "contradictions": against})
        crossing = not group.still and len({frozenset(s.split for s in split if s.video in one.videos) for one in same}) > 1
        wrong = f", labelled differently: {against[0]}" if against else ", one in adaptation and one in evaluation" if crossing else ""
        if wrong and not of_classes:
            problems.append(f"{what}{wrong}: take the wrong ones away, or leave them out with --config.data.exclude")
        else:
            warnings.append(what + wrong)
    return Found({"copies": report}, problems, warnings)


def _files(videos: Videos, listed: Listing) -> list[_File]:
    """What may be copies: videos, and files that videos are cut from; the videos of one file are none of each other."""
    found: dict[Path | str, _File] = {}
    for name, path, probe in zip(videos.names, videos.paths, videos.probes):
        key = path if name in listed.offsets else name
        found.setdefault(key, _File(path.name if name in listed.offsets else name, path, probe, set())).videos.add(name)
    return list(found.values())


def _rates(probes: Sequence[Probe], fps: float) -> list[float]:
    """Frames a second that copies are read at; 0 for those of as many frames, which are the same ones."""
    frames = [probe.frames for probe in probes]
    return [0.0 if max(frames) <= 1.05 * min(frames) else fps or probe.fps for probe in probes]


def _cameras(job: Job, videos: Videos) -> Found:
    """Videos of one camera that the sources keep apart: only a warning, since a camera is no fault."""
    if len(videos.names) > cameras.MOST:
        return Found({"cameras": None}, [], [f"shared cameras are not looked for in more than {cameras.MOST} videos: there are {len(videos.names)}"])
    with job.log.progress("check: cameras of", len(videos.names), unit="video") as advance:
        pairs = cameras.shared_cameras([p.looks for p in videos.probes], videos.sources, advance=advance)
    report = [{"videos": [videos.names[p.one], videos.names[p.other]], "matches": p.matches} for p in pairs]
    if not pairs:
        return Found({"cameras": report}, [], [])
    joined = check_words.joined(videos.names, videos.sources, report)
    write_text(job.out / SOURCES, _csv([("video", "source"), *joined.items()]))
    advice = f"what one camera filmed may be on both sides of an episode{_how_to_part(job)}"
    return Found({"cameras": report}, [], [*check_words.cameras(report, joined), advice])


def _how_to_part(job: Job) -> str:
    """What a user can do about shared cameras, where the layout of the data has a place for it."""
    if job.config.data.builder != "folder":
        return ""
    root = Path(job.config.data.root)
    what = (f"take the column source of check/{SOURCES} into your table" if folder.has_table(root)
            else f"copy {job.workdir / 'check' / SOURCES} into {root}")
    return f": to keep it apart, {what}"


def _csv(rows: list[tuple[str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _spread(videos: Videos) -> dict[str, Any]:
    """Least and most of the sizes, rates and lengths of what can be read."""
    good = [p for p in dict(zip(videos.paths, videos.probes)).values() if not p.problem]
    return {name: [min(values), max(values)] if (values := [getattr(p, name) for p in good]) else []
            for name in ("width", "height", "fps", "frames")} | {"bytes": sum(p.bytes for p in good)}


def _disk(job: Job, split: tuple[Segment, ...], videos: Videos) -> tuple[dict[str, int], list[str]]:
    """Bytes that the records will take, at most, against those that are free."""
    probes = dict(zip(videos.names, videos.probes))
    needed, free = size.bytes_of(split, probes, reading(job.config), storage(job.config)), shutil.disk_usage(job.out).free
    problem = [f"the records need up to {size.words(needed)}, and {size.words(free)} are free: {size.ADVICE}"] if needed > free else []
    return {"needed": needed, "free": free}, problem
