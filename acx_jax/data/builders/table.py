"""segments.csv: from bytes to segments, each row either a segment or left out with a reason. Knows nothing of the disk."""

from __future__ import annotations

import csv
import difflib
import io
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from acx_jax.contracts import LABELS, SPLITS, Segment, Skipped
from acx_jax.errors import UsageError

REQUIRED = ("video", "start", "end", "label")
OPTIONAL = ("category", "ego_involved", "source", "split")
_END = "."  # a last line of its own, unless a quote before it is open


class Row(NamedTuple):
    """A row of the table by column name, with where it stands, e.g. 'segments.csv line 7'."""

    place: str
    cells: dict[str, str]


class Table(NamedTuple):
    """All rows that are not blank; `too_wide` are rows with more cells than the header; `extra`: columns of no meaning here."""

    rows: tuple[Row, ...]
    too_wide: tuple[Skipped, ...]
    extra: tuple[str, ...]


class Placed(NamedTuple):
    """A segment and where in the table it stands."""

    segment: Segment
    place: str


def read_table(path: Path) -> Table:
    """Reads UTF-8 text with or without BOM, any line ends, commas, semicolons or tabs between cells, columns in any order, spaces around cells.

    Raises UsageError when it is no such text, has no rows, lacks a required column or has one twice, or a quote in it is not closed.
    """
    lines = [(number, [cell.strip() for cell in cells]) for number, cells in csv_lines(path)]
    filled = [(number, cells) for number, cells in lines if any(cells)]
    columns = [name.lower() for name in filled[0][1]] if filled else []
    _check_columns(path, columns)
    rows, too_wide = [], []
    for number, cells in filled[1:]:
        place = f"{path.name} line {number}"
        if any(cells[len(columns):]):
            too_wide.append(Skipped(f"{place} ({cells[0]})", f"it has {len(cells)} cells, the header {len(columns)}: "
                                    "put a name that contains a comma in quotes"))
        else:
            row = Row(place, dict(zip(columns, cells)))
            check_quotes(path, number, [row.cells.get(name, "") for name in REQUIRED + OPTIONAL])
            rows.append(row)
    if not rows and not too_wide:
        raise UsageError(f"{path} has a header and no rows: write one row a segment, {','.join(REQUIRED)}")
    return Table(tuple(rows), tuple(too_wide), tuple(c for c in columns if c and c not in REQUIRED + OPTIONAL))


def csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file with the lines they end in. Its cells are parted as those of its header: by commas, else semicolons, else tabs.

    Raises UsageError when it is no UTF-8 text, or no CSV, or a quote in it takes in all lines down to its end.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        header = text.lstrip().partition("\n")[0]
        delimiter = next((mark for mark in ",;\t" if mark in header), ",")
        whole = text + ("" if text.endswith(("\n", "\r")) else "\n") + _END
        reader = csv.reader(io.StringIO(whole, newline=""), delimiter=delimiter, skipinitialspace=True)
        *rows, (number, last) = [(reader.line_num, cells) for cells in reader]
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None
    except (csv.Error, OSError) as error:
        raise UsageError(f"{path} cannot be read as CSV: {getattr(error, 'strerror', None) or error}") from None
    if last == [_END]:
        return rows
    last[-1] = last[-1].removesuffix(_END)
    check_quotes(path, number - 1, last)
    return [*rows, (number - 1, last)]


def check_quotes(path: Path, line: int, cells: Sequence[str]) -> None:
    """Raises UsageError for a cell of several lines: a quote that is not closed takes in all rows behind it. line: the last of the row."""
    parts = [cell.splitlines() for cell in cells if len(cell.splitlines()) > 1]
    if parts:
        first = line + 1 - max(map(len, parts))
        raise UsageError(f"{path}, line {first}: a cell that begins with {parts[0][0]!r} goes on over the next lines: is its quote (\") not closed?")


def parse_row(row: Row) -> Placed | Skipped:
    """The segment of a row, its video name in its shortest form, or why there is none."""
    cells = {name: row.cells.get(name, "") for name in REQUIRED + OPTIONAL}
    video, label, split = cells["video"], cells["label"].lower(), cells["split"].lower()
    problem = (name_problem(video) or _range_problem(cells["start"], cells["end"])
               or _choice_problem("label", cells["label"], LABELS)
               or (_choice_problem("split", cells["split"], SPLITS) if split else ""))
    if problem:
        return Skipped(f"{row.place} ({video or 'no video'} {cells['start']}..{cells['end']})", problem)
    start, end = _whole_number(cells["start"]), _whole_number(cells["end"])
    return Placed(Segment(short_name(video), start, end, LABELS.index(label), cells["category"], cells["ego_involved"].lower(),
                          cells["source"] or short_name(video), split), row.place)


def short_name(video: str) -> str:
    """'./a//b.mp4' and 'a\\b.mp4' -> 'a/b.mp4'."""
    return posixpath.normpath(video.replace("\\", "/")) if video else ""


def name_problem(video: str) -> str:
    """Why a name cannot be of a video under the root; "" when it can."""
    short = short_name(video)
    if short in ("", "."):
        return "it names no video"
    if short.startswith("/") or short[1:3] == ":/" or short.split("/")[0] == ".." or "\0" in short:
        return "its video lies outside the data folder: write names relative to it"
    return ""


def without_repeats(placed: Iterable[Placed]) -> tuple[list[Placed], list[Skipped]]:
    """Keeps the first of rows with the same video, frames and label."""
    kept, skipped = {}, []
    for item in placed:
        first = kept.setdefault(item.segment[:4], item)
        if first is not item:
            skipped.append(Skipped(_name(item), f"the same as {first.place}"))
    return list(kept.values()), skipped


def without_contradictions(placed: Iterable[Placed]) -> tuple[list[Placed], list[Skipped]]:
    """Leaves out every segment that shares frames with one of the other label in the same video."""
    items, kept, skipped = list(placed), [], []
    of_video: dict[str, list[Placed]] = {}
    for item in items:
        of_video.setdefault(item.segment.video, []).append(item)
    for item in items:
        other = next((o for o in of_video[item.segment.video] if _contradict(o.segment, item.segment)), None)
        if other is None:
            kept.append(item)
        else:
            skipped.append(Skipped(_name(item), f"overlaps with the {other.segment} ({other.place})"))
    return kept, skipped


def with_video_splits(placed: Sequence[Placed]) -> list[Placed]:
    """Gives every segment the split of its video. Raises UsageError for a video with two splits."""
    said: dict[str, Placed] = {}
    for item in placed:
        first = said.setdefault(item.segment.video, item) if item.segment.split else item
        if first.segment.split != item.segment.split:
            raise UsageError(f"{item.segment.video} has two splits, {first.segment.split!r} ({first.place}) and "
                             f"{item.segment.split!r} ({item.place}): give every row of a video the same")
    return [item._replace(segment=item.segment._replace(split=said[item.segment.video].segment.split if item.segment.video in said else ""))
            for item in placed]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    found = ", ".join(columns) or "none"
    missing = [name for name in REQUIRED if name not in columns]
    twice = [name for name in REQUIRED + OPTIONAL if columns.count(name) > 1]
    if missing:
        raise UsageError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; its first line has: {found}. "
                         f"Expected {','.join(REQUIRED)} and, if you like, {','.join(OPTIONAL)}")
    if twice:
        raise UsageError(f"{path} has the column {twice[0]} twice; its first line has: {found}")


def _range_problem(start: str, end: str) -> str:
    numbers = {name: _whole_number(text) for name, text in (("start", start), ("end", end))}
    for (name, number), text in zip(numbers.items(), (start, end)):
        if number is None:
            return f"{name} is {text!r}, expected a frame number"
        if number < 0:
            return f"{name} is {text}, expected 0 or more"
    if numbers["start"] > numbers["end"]:
        return f"it is reversed: start {start} is behind end {end}"
    return ""


def _choice_problem(what: str, text: str, choices: Sequence[str]) -> str:
    if text.lower() in choices:
        return ""
    nearest = difflib.get_close_matches(text.lower(), choices, n=1, cutoff=0.5)
    return f"unknown {what} {text!r}, expected {' or '.join(choices)}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _whole_number(text: str) -> int | None:
    return int(text.split(".")[0]) if re.fullmatch(r"[+-]?[0-9]{1,12}(\.0+)?", text) else None


def _contradict(a: Segment, b: Segment) -> bool:
    return a.label != b.label and a.start <= b.end and b.start <= a.end


def _name(item: Placed) -> str:
    return f"{item.place} ({item.segment.video} {item.segment.start}..{item.segment.end})"
