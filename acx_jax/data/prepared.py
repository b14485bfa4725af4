"""What `prepare` leaves for the other stages: the stored segments, the coverage, and random access to the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import Coverage, Segment, Skipped, StoredSegment
from acx_jax.data.jpegs import JpegFrames, Jpegs

SEGMENTS = "segments.json"
RECORDS = "records"


class Windows(NamedTuple):
    """Frames of a window and from one to the next that the stored blocks were cut for."""

    length: int
    stride: int


class _JpegRecords:
    """Records whose `frames` are JpegFrames."""

    def __init__(self, records: Sequence[dict[str, Any]]):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = dict(self._records[index])
        return record | {"frames": JpegFrames(Jpegs(record.pop("jpeg"), record.pop("ends"), record.pop("size")))}


def to_json(stored: Sequence[StoredSegment], coverage: Coverage, windows: Windows, files: dict[str, int]) -> dict[str, Any]:
    """The JSON value of SEGMENTS. files: of the records, with their bytes, as `record_files` gives them."""
    return {
        "windows": windows._asdict(),
        "files": files,
        "coverage": coverage._asdict() | {"skipped": [s._asdict() for s in coverage.skipped]},
        "segments": [s._asdict() | {"segment": s.segment._asdict()} for s in stored],
    }


def record_files(prepared: Path) -> dict[str, int]:
    """Bytes of every file of the records, by its path in `prepared`."""
    files = [path for path in (prepared / RECORDS).rglob("*") if path.is_file()]
    return {path.relative_to(prepared).as_posix(): path.stat().st_size for path in sorted(files)}


def damage(prepared: Path) -> str:
    """What of the records is not as it was written, in words; "" where all is well. Looks at sizes alone."""
    there = record_files(prepared)
    for name, size in _read(prepared)["files"].items():
        if name not in there:
            return f"{name} is gone"
        if there[name] != size:
            return f"{name} has {there[name]} bytes, it was written with {size}"
    return ""


def load(prepared: Path) -> tuple[tuple[StoredSegment, ...], Coverage]:
    """The stored segments, those of split adapt first, each split in the order of its records; and the coverage."""
    value = _read(prepared)
    stored = tuple(StoredSegment(**item | {"segment": Segment(**item["segment"])}) for item in value["segments"])
    coverage = value["coverage"]
    skipped = tuple(Skipped(**item) for item in coverage["skipped"])
    return stored, Coverage(**coverage | {"skipped": skipped, "notes": tuple(coverage["notes"])})


def load_windows(prepared: Path) -> Windows:
    """What the blocks were cut for."""
    return Windows(**_read(prepared)["windows"])


def open_records(prepared: Path, split: str) -> Sequence[dict[str, Any]]:
    """The records of a split by number, each as `builders.clips.fields` describes (`video` as bytes); empty if it has none.

    Their `frames` are uint8 [T, H, W, 3], or JpegFrames where they are stored as JPEGs.
    """
    import tensorflow_datasets as tfds  # here, because it takes a second and not all who load segments read frames

    builder = tfds.builder_from_directory(next((prepared / RECORDS).glob("*/*/dataset_info.json")).parent)
    if split not in builder.info.splits:
        return ()
    records = builder.as_data_source(split=split)
    return _JpegRecords(records) if "jpeg" in builder.info.features else records


def _read(prepared: Path) -> dict[str, Any]:
    return json.loads((prepared / SEGMENTS).read_text(encoding="utf-8"))
