"""sources.csv: which videos are of one camera, drive or uploader, for data whose layout says nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from acx_jax.data.builders.table import check_quotes, csv_lines, short_name
from acx_jax.errors import UsageError

FILE = "sources.csv"
_COLUMNS = ["video", "source"]


class _Said(NamedTuple):
    """A video's source and the line that says it."""

    source: str
    line: int


def read_sources(path: Path) -> dict[str, str]:
    """video -> source of a table with these two columns; videos without a source are left out. {} where there is no such file.

    Raises UsageError for another table or row, and for a video with two sources.
    """
    if not path.is_file():
        return {}
    lines = [(number, [cell.strip() for cell in cells]) for number, cells in csv_lines(path)]
    filled = [(number, cells) for number, cells in lines if any(cells)]
    columns = [name.lower() for name in filled[0][1]] if filled else []
    if sorted(columns) != sorted(_COLUMNS):
        raise UsageError(f"{path} has the columns {', '.join(columns) or 'none'}: expected {','.join(_COLUMNS)}, one row a video")
    said: dict[str, _Said] = {}
    for number, cells in filled[1:]:
        check_quotes(path, number, cells)
        row = dict(zip(columns, [*cells, ""]))
        if any(cells[2:]) or not row["video"]:
            raise UsageError(f"{path}, line {number} is {','.join(cells)!r}: expected a video and its source, in quotes where they have commas")
        video, here = short_name(row["video"]), _Said(row["source"], number)
        first = said.setdefault(video, here)
        if first.source != here.source:
            raise UsageError(f"{path} gives {video} two sources, {first.source!r} (line {first.line}) and {here.source!r} (line {here.line}): leave one")
    return {video: one.source for video, one in said.items() if one.source}


def unknown(sources: Mapping[str, str], videos: set[str]) -> list[str]:
    """What a table names that is not among the videos."""
    return sorted(sources.keys() - videos)


def in_words(unknown: Sequence[str]) -> Iterator[str]:
    """A note on videos that a table names and that are not there."""
    if unknown:
        yield f"{FILE}: {len(unknown)} of the videos it names are not there, e.g. {unknown[0]}"
