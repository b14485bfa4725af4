"""The check's findings as lines for the terminal, and sources that join what one camera filmed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from acx_jax.contracts import in_words
from acx_jax.data.builders.size import words

SHOWN = 5  # names of one kind that are shown; all are in check.json


def table(report: dict[str, Any]) -> Iterator[str]:
    """The findings but for problems and warnings."""
    cover = report["coverage"]
    yield (f"coverage: {cover['videos_present']} of {cover['videos_listed']} listed videos, {cover['segments_usable']} of "
           f"{cover['segments_listed']} segments")
    yield from _named("missing", cover["missing"])
    yield from _named("unreadable", [f"{name}: {reason}" for name, reason in report["unreadable"].items()])
    yield from _named("left out", [f"{item}: {reason}" for item, reason in cover["skipped"]])
    yield from _named("too short", report["short"])
    yield from _named("beyond the end of their video", report["beyond"])
    yield from _named("no part of the data", cover["extra"])
    yield from (f"note: {note}" for note in cover["notes"])
    if report.get("media", {}).get("width"):
        yield _media(report["media"])
    if "disk" in report:
        yield f"disk: records take up to {words(report['disk']['needed'])}, {words(report['disk']['free'])} are free"
    leaks = report["leaks"]
    yield f"leakage: {len(leaks['videos'])} videos and {len(leaks['sources'])} sources are in adaptation and in evaluation"
    yield from _episodes(report["episodes"])


def joined(names: Sequence[str], sources: Sequence[str], cameras: Sequence[dict[str, Any]]) -> dict[str, str]:
    """video -> source, the sources of videos of one camera being one: the first of them by name."""
    leader = {source: source for source in sources}

    def first(source: str) -> str:
        while leader[source] != source:
            source = leader[source]
        return source

    of_video = dict(zip(names, sources))
    for pair in cameras:
        ends = sorted(first(of_video[name]) for name in pair["videos"])
        leader[ends[1]] = ends[0]
    return {name: first(source) for name, source in of_video.items()}


def listed(names: Sequence[str]) -> str:
    """'a, b and c'; of many names the first few."""
    names = [*names[:SHOWN], f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [*names]
    return " and ".join([", ".join(names[:-1]), names[-1]])


def cameras(pairs: Sequence[dict[str, Any]], joined: dict[str, str]) -> Iterator[str]:
    """One line for the videos of each camera that several sources share."""
    accused = {name for pair in pairs for name in pair["videos"]}
    for source in sorted({joined[name] for name in accused}):
        names = [name for name in joined if name in accused and joined[name] == source]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{', '.join(names[:SHOWN])}{more} seem to be of one camera"


def _named(what: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"{what}: {len(items)}"
        yield from (f"  {item}" for item in items[:SHOWN])
        if len(items) > SHOWN:
            yield f"  ... and {len(items) - SHOWN} more, all in check.json"


def _media(media: dict[str, Any]) -> str:
    parts = [f"{name} {_range(media[name])}" for name in ("width", "height", "frames")]
    fps = f"{_range(media['fps'])} frames a second, " if media["fps"][1] else ""
    return f"media: {', '.join(parts)}, {fps}{words(media['bytes'])}"


def _range(ends: Sequence[float]) -> str:
    low, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _episodes(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How many queries a class are left beside each number of shots, as in "15", or "15+3" where they were to be fewer of abnormal."""
    if not rows[0]["segments"]:
        yield "episodes: none, no segment to evaluate is labelled abnormal"
        return
    wide = max(len("abnormal category"), *(len(row["category"]) for row in rows))
    shots = list(rows[0]["queries"])
    yield f"{'abnormal category':{wide}} segments sources  queries a class at " + ", ".join(f"{shot} shot" for shot in shots)
    for row in rows:
        queries = ", ".join(in_words(q) if q[0] else "none" for q in row["queries"].values())
        yield f"{row['category']:{wide}} {row['segments']:8} {row['sources']:7}  {queries}"
