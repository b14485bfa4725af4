"""What `prepare` leaves for the other stages: the stored segments, the coverage, and random access to the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import Coverage, Segment, Skipped, StoredSegment

SEGMENTS = "segments.json"
RECORDS = "records"


class Windows(NamedTuple):
    """Frames of a window and from one to the next that the stored blocks were cut for."""

    length: int
    stride: int


def to_json(stored: Sequence[StoredSegment], coverage: Coverage, windows: Windows) -> dict[str, Any]:
    """The JSON value of SEGMENTS."""
    return {
        "windows": windows._asdict(),
        "coverage": coverage._asdict() | {"skipped": [s._asdict() for s in coverage.skipped]},
        "segments": [s._asdict() | {"segment": s.segment._asdict()} for s in stored],
    }


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
    """The records of a split by number, each as `builders.clips.Clips` describes (`video` as bytes); empty if it has none."""
    import tensorflow_datasets as tfds  # here, because it takes a second and not all who load segments read frames

    builder = tfds.builder_from_directory(next((prepared / RECORDS).glob("*/*/dataset_info.json")).parent)
    return builder.as_data_source(split=split) if split in builder.info.splits else ()


def _read(prepared: Path) -> dict[str, Any]:
    return json.loads((prepared / SEGMENTS).read_text(encoding="utf-8"))
