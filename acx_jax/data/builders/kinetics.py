"""Kinetics (Kay et al., arXiv 1705.06950): short videos of human actions by class, the source domain of meta-training.

    <class>/<video>.mp4, or train/<class>/<video>.mp4 and val/<class>/<video>.mp4
    or *.csv with the columns label, youtube_id, time_start, time_end, split, as they come with the data, or video, label
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from acx_jax.contracts import NORMAL, TO_THE_END, Segment, Skipped
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.tree import INNER, Media, also_lost, check_root, find_files, media_below, printable, read_text, unlisted, unusable
from acx_jax.data.media_files import VIDEO_SUFFIXES
from acx_jax.errors import UsageError

SPLITS = {"train": "adapt", "training": "adapt", "": "adapt"} | dict.fromkeys(("val", "validate", "validation", "test"), "evaluate")
_EXPECTED = "<class>/<video>.mp4 (in train/ and val/, if you like), or a csv with the columns video (or youtube_id) and label"


class _Labelled(NamedTuple):
    """One video, its class, and its split as the data name it; path is None where it is not there, or `doubt` says why it is not known which of
    `files` it is."""

    name: str
    category: str
    split: str
    path: Path | None
    doubt: str = ""
    files: tuple[Path, ...] = ()


class _Meant(NamedTuple):
    """A row of a table, as it stands there, and the file that it means, as far as there is one; close: how well its words fit the file's place."""

    row: _Labelled
    close: tuple[int, int]


def list_kinetics(root: Path) -> Listing:
    """Every video as one segment with its class as category: those of train adapt (are trained on), others evaluate.

    Classes come from the csv files in `root` or `root`/annotations, else from the folders. Many videos of such lists are gone
    from the web: every listed video and every one on disk is a segment or skipped by name. Raises UsageError when nothing
    tells the classes.
    """
    check_root(root, _EXPECTED)
    lost: list[Skipped] = []
    media = list(media_below(root, lost.append))
    tables = find_files(root, (".", "annotations"), "*.csv")
    labelled, bad = _from_tables(root, tables, media) if tables else _from_folders(root, media)
    if not labelled and not bad:
        raise UsageError(f"data root {root} holds no labelled video{also_lost(lost)}. Expected {_EXPECTED}")
    reasons = [(one, _problem(one)) for one in labelled]
    usable = [one for one, reason in reasons if not reason]
    segments = tuple(Segment(one.name, 0, TO_THE_END, NORMAL, one.category, source=one.name, split=SPLITS[one.split]) for one in usable)
    skipped = tuple(Skipped(one.name, reason) for one, reason in reasons if reason)
    rest = _rest(root, media, labelled) if tables else []
    return Listing(segments=segments, paths={one.name: one.path for one in usable if one.path}, skipped=(*lost, *bad, *skipped, *rest),
                   videos_listed=len(labelled) + len(bad), segments_listed=len(labelled) + len(bad),
                   notes=(f"{len({s.category for s in segments})} classes",), missing=tuple(item for item, _ in skipped))


def _rest(root: Path, media: Iterable[Media], labelled: Iterable[_Labelled]) -> list[Skipped]:
    """Names the files on disk that no row of a table means, or none for certain."""
    used = {one.path for one in labelled}
    doubted = {file for one in labelled if one.doubt for file in one.files} - used
    others = [one for one in media if one.path in doubted]
    return [*unlisted(root, media, used | doubted, "no csv names it and its class"), *unlisted(root, others, [], "a csv names it, but not for certain")]


def _problem(one: _Labelled) -> str:
    if one.split not in SPLITS:
        return f"unknown split {one.split!r}, expected train, val or test"
    return one.doubt or ("it is not there" if one.path is None else unusable(one.path))


def _from_folders(root: Path, media: Iterable[Media]) -> tuple[list[_Labelled], list[Skipped]]:
    """The folder right above a video names its class, one of the name of a split above that its split."""
    labelled, bad = [], []
    for one in media:
        *above, last = one.path.relative_to(root).parts
        above = above[:-1] if last == INNER else above
        name = printable(one.path.relative_to(root))
        if not above or above[-1].lower() in SPLITS:
            bad.append(Skipped(name, "it lies in no folder of a class"))
            continue
        named = [part.lower() for part in above[:-1] if part.lower() in SPLITS]
        labelled.append(_Labelled(name, printable(Path(above[-1])), named[-1] if named else "", one.path))
    return labelled, bad


def _from_tables(root: Path, tables: Iterable[Path], media: Iterable[Media]) -> tuple[list[_Labelled], list[Skipped]]:
    on_disk: dict[str, list[Path]] = {}
    for one in media:
        on_disk.setdefault(one.name, []).append(one.path)
    meant: dict[str, _Meant] = {}
    bad = []
    for table in tables:
        for place, row in _rows(table):
            one = _of_row(root, row, on_disk)
            if one is None:
                bad.append(Skipped(place, "it names no video or no class"))
            elif one.row.name in meant:
                bad.append(Skipped(f"{place} ({one.row.name})", "the video is named twice: the first is used"))
            else:
                meant[one.row.name] = one
    return _one_row_a_file(root, meant.values()), bad


def _one_row_a_file(root: Path, meant: Iterable[_Meant]) -> list[_Labelled]:
    """Of the rows that mean one file the one that fits it best; the others, all of them where none fits best, have none."""
    of_file: dict[Path, list[_Meant]] = {}
    for one in meant:
        if one.row.path is not None:
            of_file.setdefault(one.row.path, []).append(one)
    best = {path: max(one.close for one in rows) for path, rows in of_file.items()}
    return [_doubtful(root, one, of_file[one.row.path], best[one.row.path]) if one.row.path else one.row for one in meant]


def _doubtful(root: Path, one: _Meant, rows: list[_Meant], best: tuple[int, int]) -> _Labelled:
    if len(rows) == 1 or (one.close == best and [other.close for other in rows].count(best) == 1):
        return one.row
    other = next(other.row.name for other in rows if other is not one and other.close == best)
    doubt = f"{_shown(root, one.row.path)} is not known to be it: the csv names {other} too, which may mean that file"
    return one.row._replace(path=None, doubt=doubt)


def _rows(table: Path) -> list[tuple[str, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(table), newline=""), skipinitialspace=True, restval="")
        rows = [(f"{table.name} line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{table} cannot be read as CSV: {error}") from None
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    if "label" not in columns or not {"video", "youtube_id"} & set(columns):
        raise UsageError(f"{table} has the columns {', '.join(columns) or 'none'}: expected label, and video or youtube_id")
    return [(place, {k.strip().lower(): v.strip() for k, v in row.items() if k and isinstance(v, str)}) for place, row in rows]


def _of_row(root: Path, row: dict[str, str], on_disk: dict[str, list[Path]]) -> _Meant | None:
    """Files are named after the video alone, or after it and its seconds: <youtube_id>_000010_000020."""
    video, label = row.get("video") or row.get("youtube_id", ""), row.get("label", "")
    if not video or not label:
        return None
    times = [row.get(name, "").split(".")[0] for name in ("time_start", "time_end")]
    place = PurePosixPath(video if row.get("video") else f"./{video}")
    stem = place.stem if place.suffix.lower() in VIDEO_SUFFIXES else place.name
    names = [f"{stem}_{int(times[0]):06d}_{int(times[1]):06d}"] if all(time.isdecimal() for time in times) else []
    files = next((on_disk[name] for name in (*names, stem) if name in on_disk), [])
    fits = [_closeness(place, file.relative_to(root)) for file in files]
    best = [file for file, fit in zip(files, fits) if fit == max(fits)]
    doubt = f"{len(best)} files may be it, such as {_shown(root, best[0])} and {_shown(root, best[1])}: name its folder" if len(best) > 1 else ""
    found = _Labelled(next(iter([*names, video])), label, row.get("split", "").lower(), best[0] if len(best) == 1 else None, doubt, tuple(best))
    return _Meant(found, max(fits, default=(0, 0)))


def _closeness(said: PurePosixPath, place: Path) -> tuple[int, int]:
    """Folders that a row and a file's place have in common, from the last on, and whether the name is the file's, suffix and all."""
    place = place.parent if place.name == INNER else place
    common = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(said.parts[:-1]), reversed(place.parts[:-1])))
    return len(list(common)), int(said.name == place.name)


def _shown(root: Path, file: Path) -> str:
    return printable(file.relative_to(root))
