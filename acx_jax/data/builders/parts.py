"""What has been read of each video, on disk: a run that is killed goes on with the next one, and machines can share the reading."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from array_record.python import array_record_module

from acx_jax.contracts import Segment, Skipped
from acx_jax.data.builders import clips
from acx_jax.data.builders.listing import file_facts
from acx_jax.data.builders.reading import Outcome, Reading, Video, read
from acx_jax.errors import WorkError
from acx_jax.runtime.files import write_json

_SCALED = 3  # how frames are scaled while they are decoded: parts of another way of doing it are not gone on with
_TOGETHER = 16  # records of a part in memory at once, while it is merged


class Task(NamedTuple):
    """A video to read into `folder`. name: its part there is called so, after all that the part depends on."""

    video: Video
    reading: Reading
    storage: clips.Storage
    folder: Path
    name: str

    @property
    def records(self) -> Path:
        """The file of its records; there is none where there are no records."""
        return self.folder / f"{self.name}.array_record"

    @property
    def facts(self) -> Path:
        """The file that says what came of it, written last."""
        return self.folder / f"{self.name}.json"


class Part(NamedTuple):
    """What came of a task. sizes: bytes of its serialised records, in order. died: the process that read it did not live to its end."""

    outcome: Outcome
    sizes: list[int]
    died: bool = False


def task(video: Video, reading: Reading, storage: clips.Storage, folder: Path) -> Task:
    """The task of reading a video, named by a digest of the video's files, its segments and how they are read."""
    depends = [video.first, video.segments, file_facts(video.path), reading._replace(threads=0), storage, *([_SCALED] if reading.reduced else [])]
    return Task(video, reading, storage, folder, hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:24])


def write(task: Task, beat: Callable[[], None]) -> None:
    """Reads the video of a task and writes its part, whole. Raises WorkError where it cannot be written."""
    fields, sizes, outcome = clips.fields(task.storage), [], Outcome([], [], "", 0)
    temporary = task.records.with_name(f".{task.name}.{os.getpid()}.tmp")
    try:
        with clips.record_file(temporary) as add:
            for record in read(task.video, task.reading, beat, task.folder):
                if isinstance(record, Outcome):
                    outcome = record
                else:
                    data = clips.serialised(record, fields, task.storage)
                    sizes.append(len(data))
                    add(data)
        if sizes:
            temporary.replace(task.records)
        save(task, Part(outcome, sizes))
    finally:
        temporary.unlink(missing_ok=True)


def save(task: Task, part: Part) -> None:
    """Writes what came of a task."""
    value = {"video": task.video.name, "sizes": part.sizes, "died": part.died, **part.outcome._asdict()}
    value["stored"] = [[segment._asdict(), frames] for segment, frames in part.outcome.stored]
    write_json(task.facts, value)


def load(task: Task) -> Part | None:
    """What came of a task; None where it has not been done, or its file cannot be read."""
    try:
        value = json.loads(task.facts.read_text(encoding="utf-8"))
        stored = [(Segment(**segment), frames) for segment, frames in value["stored"]]
        outcome = Outcome(stored, [Skipped(*item) for item in value["skipped"]], value["broken"], value["shortened"])
        return Part(outcome, value["sizes"], value["died"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def dead(task: Task, reason: str) -> Part:
    """The part of a video whose reader died."""
    return Part(Outcome([], [Skipped(str(segment), reason) for segment in task.video.segments], reason, 0), [], died=True)


def records_there(task: Task, part: Part) -> bool:
    """Whether the file of a part holds all its records."""
    if not part.sizes:
        return True
    return task.records.is_file() and count(task.records) == len(part.sizes)


def count(path: Path) -> int:
    """Records of a file; 0 for one that is damaged or not there."""
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        try:
            return reader.num_records()
        finally:
            reader.close()
    except (RuntimeError, ValueError, OSError):
        return 0


def ends(path: Path) -> tuple[int, str, str]:
    """How many records a file has, and of which videos the first and the last are; 0, "", "" for one that is damaged or not there."""
    number = count(path)
    if not number:
        return 0, "", ""
    try:
        first, last = _read_at(path, [0, number - 1])
        return number, clips.video_of(first), clips.video_of(last)
    except (RuntimeError, ValueError, OSError):
        return 0, "", ""


def merge(tasks: Sequence[Task], parts: Sequence[Part], file: Path) -> None:
    """Makes the records of parts, in order, one file, whole: a part alone becomes it, several are copied, and what lies on another disk.

    Raises WorkError for a part that is not as its facts say. Of one that becomes the file it looks at the number of records and the size: what is
    damaged between them is found when it is read, by its checksum.
    """
    if len(tasks) == 1 and tasks[0].records.stat().st_dev == file.parent.stat().st_dev:
        found = count(tasks[0].records)
        if found != len(parts[0].sizes) or tasks[0].records.stat().st_size < sum(parts[0].sizes):
            raise _unlike(tasks[0], found, len(parts[0].sizes))
        tasks[0].records.replace(file)
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with clips.record_file(temporary) as add:
            for task, part in zip(tasks, parts, strict=True):
                for data in _records(task, part):
                    add(data)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _unlike(task: Task, found: int, expected: int) -> WorkError:
    return WorkError(f"{task.records} holds {found} records, expected {expected}: delete it and run the same command again")


def _records(task: Task, part: Part) -> Iterator[bytes]:
    for size, data in zip(part.sizes, _read(task, len(part.sizes)), strict=True):
        if len(data) != size:
            raise WorkError(f"{task.records}: a record has {len(data)} bytes, expected {size}: delete the file and run the same command again")
        yield data


def _read(task: Task, expected: int) -> Iterator[bytes]:
    if not expected:
        return
    found = count(task.records)
    if found != expected:
        raise _unlike(task, found, expected)
    for start in range(0, expected, _TOGETHER):
        yield from _read_at(task.records, range(start, min(start + _TOGETHER, expected)))


def _read_at(path: Path, numbers: Sequence[int]) -> list[bytes]:
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return reader.read(numbers)
    finally:
        reader.close()
