"""What `prepare` leaves for the other stages: the stored segments, the coverage, and random access to the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import Coverage, Segment, Skipped, StoredSegment
from acx_jax.data.jpegs import JpegFrames, Jpegs
from acx_jax.errors import WorkError

SEGMENTS = "segments.json"
RECORDS = "records"


class Windows(NamedTuple):
    """Frames of a window and from one to the next that the stored blocks were cut for."""

    length: int
    stride: int


class _Records:
    """Records by number, with WorkError for one that is damaged. name: of a record, in words."""

    def __init__(self, records: Sequence[dict[str, Any]], prepared: Path, name: str):
        self._records, self._prepared, self._name = records, prepared, name

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = range(len(self))[index]
        try:
            return self._with_frames(dict(self._records[number]))
        except (RuntimeError, ValueError) as error:  # a checksum that is wrong, or what is none of the fields
            raise _damaged(self._prepared, f"{self._name} {number}", error) from None

    @staticmethod
    def _with_frames(record: dict[str, Any]) -> dict[str, Any]:
        if "jpeg" not in record:
            return record
        return record | {"frames": JpegFrames(Jpegs(record.pop("jpeg"), record.pop("ends"), record.pop("size")))}


def _damaged(prepared: Path, what: str, error: Exception) -> WorkError:
    reason = str(error).partition("\n")[0].partition(" (")[0]
    return WorkError(f"{what} in {prepared / RECORDS} is damaged ({reason}): delete {prepared}, and the next run prepares the videos anew")


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
    """What of the output is not as it was written, in words; "" where all is well. Of the records it looks at sizes alone."""
    there = record_files(prepared)
    try:
        value = _read(prepared)
        _stored(value), Windows(**value["windows"])
        files = value["files"].items()
    except FileNotFoundError:
        return f"{SEGMENTS} is gone"
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{SEGMENTS} is damaged ({type(error).__name__}: {error})"
    for name, size in files:
        if name not in there:
            return f"{name} is gone"
        if there[name] != size:
            return f"{name} has {there[name]} bytes, it was written with {size}"
    return ""


def load(prepared: Path) -> tuple[tuple[StoredSegment, ...], Coverage]:
    """The stored segments, those of split adapt first, each split in the order of its records; and the coverage."""
    return _stored(_read(prepared))


def _stored(value: dict[str, Any]) -> tuple[tuple[StoredSegment, ...], Coverage]:
    stored = tuple(StoredSegment(**item | {"segment": Segment(**item["segment"])}) for item in value["segments"])
    coverage = value["coverage"]
    skipped = tuple(Skipped(**item) for item in coverage["skipped"])
    return stored, Coverage(**coverage | {"skipped": skipped, "notes": tuple(coverage["notes"])})


def load_windows(prepared: Path) -> Windows:
    """What the blocks were cut for."""
    return Windows(**_read(prepared)["windows"])


def open_records(prepared: Path, split: str) -> Sequence[dict[str, Any]]:
    """The records of a split by number, each as `builders.clips.fields` describes (`video` as bytes); empty if it has none.

    Their `frames` are uint8 [T, H, W, 3], or JpegFrames where they are stored as JPEGs. Raises WorkError where what describes them is damaged, and
    for each that is.
    """
    import tensorflow_datasets as tfds  # here, because it takes a second and not all who load segments read frames

    try:
        builder = tfds.builder_from_directory(next((prepared / RECORDS).glob("*/*/dataset_info.json")).parent)
        records = builder.as_data_source(split=split) if split in builder.info.splits else ()
    except OSError:
        raise
    except Exception as error:  # each part of what is read there has errors of its own
        raise _damaged(prepared, "what describes the records", error) from None
    return _Records(records, prepared, f"{split} record")


def _read(prepared: Path) -> dict[str, Any]:
    return json.loads((prepared / SEGMENTS).read_text(encoding="utf-8"))
