"""UCF-Crime's two annotations of events: the official one in frames of the original videos, and VIA projects in seconds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import Skipped
from acx_jax.data.builders.tree import find_files, read_json, read_text
from acx_jax.errors import UsageError

FOLDERS = (".", "annotations", "ucf_crime")
NORMAL_CLASS = "Normal"
RATE = 30  # frames a second of the original videos, where a frame folder does not say


class Event(NamedTuple):
    """Something abnormal in a video, from `start` to `end`, in frames of the original or in seconds. place: where it stands."""

    start: float
    end: float
    seconds: bool
    place: str


class Annotated(NamedTuple):
    """A video that is to be evaluated: its name without suffix, its class, and its events (none in a normal one)."""

    name: str
    category: str
    events: tuple[Event, ...]


def read_annotations(root: Path, *, via: bool) -> tuple[dict[str, Annotated], list[Skipped]]:
    """The videos to evaluate by `key`; those that VIA projects annotate have their events from there, if `via`.

    Raises UsageError when there is no annotation.
    """
    official, bad = _official(root)
    projects = _projects(root) if via else {}
    if not official and not projects:
        raise UsageError(f"{root} has no annotation of UCF-Crime: expected Temporal_Anomaly_Annotation_for_Testing_Videos.txt, "
                         "or VIA projects in via/*.json")
    return official | projects, bad


def key(name: str) -> str:
    """What the names of one video have in common: 'Abuse028_x264' and 'Abuse_028_x264' give 'abuse028'."""
    return re.sub(r"_|x264|\.mp4$", "", name.lower())


def frames_of(event: Event, *, rate: Fraction, original: Fraction) -> tuple[int, int]:
    """First and last frame of an event, counted from 0, of a video read at `rate` frames a second, `original` its own.

    The published lists count from 1: a frame n of the original is max(1, floor(n rate / original)), a second s is
    max(1, floor(s rate)).
    """
    scale = rate if event.seconds else rate / original
    exact = (Fraction(str(time)) * scale for time in (event.start, event.end))
    start, end = (int(time) for time in exact)
    return max(1, start) - 1, max(1, end) - 1


def _official(root: Path) -> tuple[dict[str, Annotated], list[Skipped]]:
    found, bad = {}, []
    for file in find_files(root, FOLDERS, "Temporal_Anomaly_Annotation*.txt"):
        for number, line in enumerate(read_text(file).splitlines(), 1):
            place = f"{file.name} line {number}"
            parsed = _parse_line(line, place) if line.strip() else None
            if isinstance(parsed, Skipped):
                bad.append(parsed)
            elif parsed is not None and key(parsed.name) in found:
                bad.append(Skipped(f"{place} ({parsed.name})", "it is annotated twice: the first is used"))
            elif parsed is not None:
                found[key(parsed.name)] = parsed
    return found, bad


def _parse_line(line: str, place: str) -> Annotated | Skipped:
    """'Abuse028_x264.mp4  Abuse  165  240  -1  -1': a class, then pairs of frames, -1 where there is none."""
    cells = line.split()
    numbers = cells[2:]
    if len(cells) < 4 or len(numbers) % 2 or not all(re.fullmatch(r"-?\d{1,9}", cell) for cell in numbers):
        return Skipped(f"{place} ({cells[0]})", f"expected a video, its class and pairs of frame numbers, found {' '.join(cells[1:])!r}")
    pairs = [(int(a), int(b)) for a, b in zip(numbers[::2], numbers[1::2]) if (a, b) != ("-1", "-1")]
    wrong = [pair for pair in pairs if not 0 <= pair[0] <= pair[1]]
    if wrong:
        return Skipped(f"{place} ({cells[0]})", f"its event {wrong[0][0]}..{wrong[0][1]} is no stretch of frames")
    if bool(pairs) == (cells[1] == NORMAL_CLASS):
        return Skipped(f"{place} ({cells[0]})", "it is normal and has an event" if pairs else "it is abnormal and has no event")
    return Annotated(cells[0].removesuffix(".mp4"), cells[1], tuple(Event(a, b, False, place) for a, b in pairs))


def _projects(root: Path) -> dict[str, Annotated]:
    """The annotated videos of all VIA projects; a video with no event says nothing."""
    found: dict[str, Annotated] = {}
    for file in find_files(root, [f"{folder}/via" for folder in FOLDERS], "*.json"):
        try:
            events = list(_via_events(read_json(file), file.name))
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise UsageError(f"{file} is no VIA project ({type(error).__name__}: {error}): expected file, view and metadata with "
                             "temporal segments z = [start, end] in seconds") from None
        for name, event in events:
            known = found.get(key(name), Annotated(name, re.split(r"_?\d", name)[0].strip("_"), ()))
            found[key(name)] = known._replace(events=(*known.events, event))
    return found


def _via_events(project: dict[str, Any], place: str) -> Iterator[tuple[str, Event]]:
    """(video, event) of each temporal segment of a project (VIA 3: metadata -> view -> file)."""
    for item in project["metadata"].values():
        file = project["view"][item["vid"]]["fid_list"][0]
        name = project["file"][file]["fname"]
        start, end = (float(time) for time in item["z"])
        if not 0 <= start <= end < math.inf:
            raise ValueError(f"segment {start}..{end} of {name}")
        yield Path(name).stem, Event(start, end, True, place)
