"""A csv of labels beside arrays of clip vectors: one row a video, or one row a vector."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from acx_jax.contracts import ABNORMAL, LABELS, NORMAL
from acx_jax.data.builders.tree import read_text
from acx_jax.errors import UsageError

LABEL_COLUMNS = ("label", "abnormal", "abnormal_any")
INDEX_COLUMNS = ("index", "segment", "clip")
CATEGORY_COLUMNS = ("category", "class")
_VALUES = {"0": NORMAL, "1": ABNORMAL, "false": NORMAL, "true": ABNORMAL} | {name: i for i, name in enumerate(LABELS)}


class Labels(NamedTuple):
    """What a table says of one video. labels: one for the whole array, or one a vector, in order. place: of its first row."""

    labels: tuple[int, ...]
    category: str
    ego_involved: str
    source: str
    place: str


class Run(NamedTuple):
    """Vectors start .. stop - 1 have one label."""

    start: int
    stop: int
    label: int


def read_labels(path: Path) -> dict[str, Labels]:
    """The labels of every video that the table names. Raises UsageError for the first row that cannot be understood."""
    of_video: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for place, row in _rows(path):
        if not row["video"]:
            raise UsageError(f"{path}: {place} names no video")
        of_video.setdefault(row["video"], []).append((place, row))
    return {video: _labels_of(path, video, rows) for video, rows in of_video.items()}


def runs(labels: Sequence[int]) -> list[Run]:
    """Stretches of equal labels, in order."""
    found, start = [], 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        found.append(Run(start, stop, label))
        start = stop
    return found


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, restval="")
        rows = [(f"line {reader.line_num}", {k.strip().lower(): (v or "").strip() for k, v in row.items() if isinstance(k, str)})
                for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from None
    columns = {name.strip().lower() for name in reader.fieldnames or []}
    if "video" not in columns or not columns & set(LABEL_COLUMNS):
        raise UsageError(f"{path} has the columns {', '.join(sorted(columns)) or 'none'}: expected video and label (normal or "
                         f"abnormal), and, if you like, {INDEX_COLUMNS[0]}, category, ego_involved, source")
    return rows


def _labels_of(path: Path, video: str, rows: list[tuple[str, dict[str, str]]]) -> Labels:
    indices = [_first(row, INDEX_COLUMNS) for _, row in rows]
    if any(indices):
        rows = _in_order(path, video, rows, indices)
    place, first = rows[0]
    return Labels(tuple(_label(path, *row) for row in rows), _first(first, CATEGORY_COLUMNS), first.get("ego_involved", "").lower(),
                  first.get("source") or video, f"{path.name} {place}")


def _in_order(path: Path, video: str, rows: list[tuple[str, dict[str, str]]], indices: list[str]) -> list[tuple[str, dict[str, str]]]:
    wrong = [text for text in indices if not text.isdecimal()]
    if wrong:
        raise UsageError(f"{path}: video {video} has the {INDEX_COLUMNS[0]} {wrong[0]!r}, expected a whole number")
    numbered = sorted(zip(map(int, indices), rows), key=lambda item: item[0])
    numbers = [number for number, _ in numbered]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise UsageError(f"{path}: the rows of video {video} are numbered {numbers[0]} to {numbers[-1]} with gaps or repeats, or not "
                         "from 0 or 1: give every vector one row")
    return [row for _, row in numbered]


def _label(path: Path, place: str, row: dict[str, str]) -> int:
    text = _first(row, LABEL_COLUMNS)
    if text.lower() not in _VALUES:
        raise UsageError(f"{path} {place} ({row['video']}): unknown label {text!r}, expected normal or abnormal, 0 or 1")
    return _VALUES[text.lower()]


def _first(row: dict[str, str], names: Sequence[str]) -> str:
    return next((row[name] for name in names if row.get(name)), "")
