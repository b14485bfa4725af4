"""UCF-Crime (Sultani, Chen, Shah, CVPR 2018): surveillance videos of 13 kinds of crime and accident, and normal ones.

    any folders with Abuse028_x264.mp4, ... or with frames in Abuse_028_x264/000001.jpg, ...
    Temporal_Anomaly_Annotation_for_Testing_Videos.txt, and, if wanted, VIA projects in via/*.json
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from acx_jax.contracts import ABNORMAL, NORMAL, TO_THE_END, Segment, Skipped
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.tree import Media, check_root, find_files, media_below, printable, read_names, unlisted, unusable
from acx_jax.data.builders.ucf_crime_annotations import FOLDERS, NORMAL_CLASS, RATE, Annotated, frames_of, key, read_annotations
from acx_jax.data.decode import Facts, declared
from acx_jax.data.media_files import image_files

_EXPECTED = "Temporal_Anomaly_Annotation_for_Testing_Videos.txt and the videos, or folders of their frames"
Look = Callable[[Sequence[Path]], Sequence[Facts | str]]  # what each of some video files declares, or why it cannot be opened


class _Clock(NamedTuple):
    """Frames a second that a video is read at and that it has of its own, and how many frames it gives, where that is known."""

    rate: Fraction
    original: Fraction
    frames: int | None


class _Opened(NamedTuple):
    """media: the copy in use of each video, by `key`. clocks: of these; or why the first one cannot be used, where none can. failed: why other copies
    cannot."""

    media: dict[str, Media]
    clocks: dict[str, _Clock | str]
    failed: dict[Path, str]


def serially(paths: Sequence[Path]) -> list[Facts | str]:
    """A `Look` in this process."""
    return [declared(path) for path in paths]


def list_ucf_crime(root: Path, *, fps: float, via: bool, look: Look = serially, unopened: Collection[str] = ()) -> Listing:
    """Lists the events of the annotated videos, whole normal test videos, and all other normal videos, to adapt on.

    Several events of a video are several segments; one that runs past the video ends with it. fps: the rate that videos are
    read at, and that frame folders have; 0 for their own, 30 for folders. via: take events from VIA projects where there are
    any. look: opens the videos whose events need their rate, and those that there are copies of, the first copy that can be opened being used; but
    not those named in `unopened`, which are taken to have the 30 of most. Every annotated video and every video on disk is listed or skipped by name.
    """
    check_root(root, _EXPECTED)
    annotated, bad = read_annotations(root, via=via)
    misread = _misread(annotated, bad)
    lost: list[Skipped] = []
    found = list(media_below(root, lost.append))
    copies = _by_key(found)
    adapting = _adapting(root, annotated.keys() | misread.keys(), copies)
    wanted = {k: one.name for k, one in annotated.items()} | adapting
    timed = {k for k in wanted if wanted[k] not in unopened and (k in annotated and annotated[k].events or len(copies.get(k, ())) > 1)}
    opened = _opened({k: copies[k] for k in wanted if k in copies}, fps, timed, look)
    clocks = {k: "no video file and no folder of frames has its name" for k in wanted} | opened.clocks
    usable = {k: clock for k, clock in clocks.items() if isinstance(clock, _Clock)}
    segments = [s for k, clock in usable.items() for s in _segments(annotated.get(k) or Annotated(adapting[k], NORMAL_CLASS, ()),
                                                                    clock, "adapt" if k in adapting else "evaluate")]
    distinct = tuple(dict.fromkeys(segments))
    media = {k: each[0] for k, each in copies.items()} | opened.media
    of_no_use = unlisted(root, [one for k, one in media.items() if k not in wanted and k not in misread], [], "it has no annotation of its events")
    useless = unlisted(root, [one for k, one in media.items() if k in misread], [], "it has no annotation that can be used")
    skipped = [Skipped(wanted[k], clock) for k, clock in clocks.items() if isinstance(clock, str)]
    absent = {wanted[k]: (wanted[k], max(1, len(annotated[k].events) if k in annotated else 0)) for k in wanted if k not in usable}
    return Listing(
        segments=distinct, paths={wanted[k]: media[k].path for k in usable},
        skipped=(*lost, *bad, *skipped, *_copies(root, found, media, opened.failed), *useless, *of_no_use),
        videos_listed=len(wanted) + len(misread),
        segments_listed=len(adapting) + len(misread) + sum(max(1, len(one.events)) for one in annotated.values()),
        notes=tuple(_notes(len(of_no_use), len(segments) - len(distinct))), missing=(*misread.values(), *(item for item, _ in skipped)),
        absent=absent, folder_fps=fps or RATE)


def _by_key(found: Iterable[Media]) -> dict[str, list[Media]]:
    """The copies of each video, by `key`; where there are several, the usable ones first."""
    copies: dict[str, list[Media]] = {}
    for one in found:
        copies.setdefault(key(one.name), []).append(one)
    return {k: sorted(each, key=lambda one: bool(unusable(one.path))) if len(each) > 1 else each for k, each in copies.items()}


def _opened(copies: dict[str, list[Media]], fps: float, timed: set[str], look: Look) -> _Opened:
    """Opens the first copy of each video, and of those where that cannot be used the next."""
    media = {k: each[0] for k, each in copies.items()}
    clocks, failed = _clocks({k: one.path for k, one in media.items()}, fps, timed, look), {}
    for number in range(1, max(map(len, copies.values()), default=0)):
        further = {k: each[number] for k, each in copies.items() if isinstance(clocks[k], str) and number < len(each)}
        for k, clock in _clocks({k: one.path for k, one in further.items()}, fps, timed, look).items():
            if isinstance(clock, str):
                failed[further[k].path] = clock
            else:
                failed[media[k].path], media[k], clocks[k] = f"{clocks[k]}; another copy of this video is used", further[k], clock
    return _Opened(media, clocks, failed)


def _copies(root: Path, found: Iterable[Media], used: dict[str, Media], failed: dict[Path, str]) -> list[Skipped]:
    """Names the copies that are not used, with what is wrong with them, if it is known."""
    return [Skipped(printable(one.path.relative_to(root)), failed.get(one.path, "another copy of this video is used"))
            for one in found if one is not used[key(one.name)]]


def _misread(annotated: Mapping[str, Annotated], bad: Iterable[Skipped]) -> dict[str, str]:
    """Names, by `key`, of videos of which nothing is known but a line of the annotation that cannot be used: 'FILE line 3 (NAME)'."""
    names = [found[1].removesuffix(".mp4") for item, _ in bad if (found := re.search(r" line \d+ \((.*)\)$", item))]
    return {key(name): name for name in names if key(name) not in annotated}


def _adapting(root: Path, annotated: Collection[str], copies: dict[str, list[Media]]) -> dict[str, str]:
    """Normal videos that are not evaluated: those on disk, and those of the official training list where it is there. annotated: keys of others."""
    lists = find_files(root, FOLDERS, "Anomaly_Train.txt")
    named = {key(Path(line).stem): Path(line).stem for file in lists for line in read_names(file)}
    normal = named | {k: each[0].name for k, each in copies.items()}
    return {k: name for k, name in normal.items() if k.startswith("normal") and k not in annotated}


def _clocks(paths: dict[str, Path], fps: float, timed: set[str], look: Look) -> dict[str, _Clock | str]:
    """How the frames of each video are counted, or why it cannot be used. timed: those whose events need to be placed."""
    problems = {k: unusable(path) for k, path in paths.items()}
    files = [k for k, path in paths.items() if k in timed and not problems[k] and not path.is_dir()]
    told = dict(zip(files, look([paths[k] for k in files]), strict=True))
    plain = _Clock(Fraction(fps or RATE), Fraction(RATE), None)
    return {k: problems[k] or (_clock(path, fps, told.get(k)) if k in timed else plain) for k, path in paths.items()}


def _clock(path: Path, fps: float, told: Facts | str | None) -> _Clock | str:
    """Of one whose events need to be placed. told: what a video file declares, or why it cannot be opened; None for a folder."""
    if isinstance(told, str):
        return told
    if told is None:
        return _Clock(Fraction(fps or RATE), Fraction(RATE), len(image_files(path)))
    rate = Fraction(fps or told.rate)
    return _Clock(rate, told.rate, None if told.seconds is None else int(told.seconds * rate))


def _segments(one: Annotated, clock: _Clock, split: str) -> list[Segment]:
    if not one.events:
        return [Segment(one.name, 0, TO_THE_END, NORMAL, one.category, source=one.name, split=split)]
    places = [frames_of(event, rate=clock.rate, original=clock.original) for event in one.events]
    return [Segment(one.name, start, _capped(end, clock), ABNORMAL, one.category, source=one.name, split=split) for start, end in places]


def _capped(end: int, clock: _Clock) -> int:
    return TO_THE_END if clock.frames is not None and end >= clock.frames - 1 else end


def _notes(of_no_use: int, repeats: int) -> list[str]:
    return [*([f"{of_no_use} videos on disk are abnormal without an annotation of when, or have no known name"] if of_no_use else []),
            *([f"{repeats} events are annotated twice"] if repeats else [])]
