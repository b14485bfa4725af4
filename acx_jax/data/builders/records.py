"""From a listing to the records of its videos: read in pieces by workers, merged into the files of one data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from acx_jax.contracts import SPLITS, Segment, Skipped, StoredSegment
from acx_jax.data.builders import parts
from acx_jax.data.builders.clips import RAW, ClipRecords, Storage
from acx_jax.data.builders.listing import Listing, absence
from acx_jax.data.builders.parts import Part, Task
from acx_jax.data.builders.reading import Reading, Video
from acx_jax.data.windows import block_ranges
from acx_jax.errors import WorkError

ADVICE = ("repair or annotate them, take them out of the lists that name them, leave them out with --config.data.exclude, or raise "
          "--config.data.max_bad_share")
FEW = 64  # parts of a split, at most, that become its record files as they are, so that nothing is copied
SHARD_BYTES = 512_000_000  # of a record file, about: few enough files to keep open, small enough to copy
Run = Callable[[Callable, Sequence[Task]], Iterable[tuple[int, Any]]]  # calls a function of task and beat; gives index and what came of it


class Built(NamedTuple):
    """stored: the segments of the first split, then those of the second, each in the order of its records."""

    stored: tuple[StoredSegment, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def serially(function: Callable, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    """Does the tasks one after the other in this process."""
    for index, task in enumerate(tasks):
        yield index, function(task, lambda: None)


def tasks_of(listing: Listing, reading: Reading, storage: Storage, folder: Path) -> list[Task]:
    """A task for every video of each split, in the listing's order. The segments must have their splits."""
    found: dict[tuple[str, str], list[Segment]] = {}
    for split in SPLITS:
        for segment in listing.segments:
            if segment.split == split:
                found.setdefault((split, segment.video), []).append(segment)
    return [parts.task(Video(name, listing.paths[name], listing.offsets.get(name, 0), tuple(segments)), reading, storage, folder)
            for (_, name), segments in found.items()]


def read_all(tasks: Sequence[Task], *, run: Run, refuse: Callable[[list[tuple[Task, Part]]], None],
             progress: Callable[[Task], None], merged: frozenset[str] = frozenset()) -> list[Part]:
    """The parts of all tasks, those that are not there read by `run`. refuse: raises when there are too many bad ones among the parts so far.

    progress(task): called when one is there, those first that were there before. merged: names of parts that `merge_all` has copied. What
    died is tried again, unless merging has begun.
    """
    found = {task.name: part for task in tasks if (part := parts.load(task)) is not None
             and (task.name in merged or parts.records_there(task, part)) and (merged or not part.died)}
    for task in (task for task in tasks if task.name in found):
        progress(task)
    missing = [task for task in tasks if task.name not in found]
    bad = [(task, found[task.name]) for task in tasks if task.name in found and found[task.name].outcome.broken]
    refuse(bad)
    for index, result in run(parts.write, missing):
        task = missing[index]
        if result is not None:
            parts.save(task, parts.dead(task, result.reason))
        found[task.name] = part = _loaded(task)
        if part.outcome.broken:
            bad.append((task, part))
            refuse(bad)
        progress(task)
    return [found[task.name] for task in tasks]


def _loaded(task: Task) -> Part:
    part = parts.load(task)
    if part is None:
        raise WorkError(f"{task.facts} was written and cannot be read: is something else at work in its folder?")
    return part


def merged_before(tasks: Sequence[Task], out: Path, *, storage: Storage = RAW) -> frozenset[str]:
    """Names of the parts that an interrupted `merge_all` has copied into files under `out`."""
    found = [parts.load(task) for task in tasks]
    if None in found:
        return frozenset()
    dataset = ClipRecords(data_dir=out, storage=storage)
    return frozenset(task.name for shard, file in _plan(tasks, found, dataset) if _is_merged(shard, file) for task, _ in shard)


def merge_all(tasks: Sequence[Task], found: Sequence[Part], out: Path, *, storage: Storage = RAW,
              progress: Callable[[int], None] = lambda count: None) -> None:
    """Makes the data set under `out` of the parts. What an interrupted merge has done is kept; a part goes when it is merged.

    progress(count): called after each file with the number of its videos.
    """
    dataset = ClipRecords(data_dir=out, storage=storage)
    dataset.folder.mkdir(parents=True, exist_ok=True)
    plan = list(_plan(tasks, found, dataset))
    for stale in {*dataset.folder.glob("*.array_record*")} - {file for _, file in plan}:  # of another number of files, or half written
        stale.unlink()
    for shard, file in plan:
        if all(parts.records_there(task, part) for task, part in shard) or not _is_merged(shard, file):  # a file of parts read in another way looks merged
            parts.merge([task for task, _ in shard], [part for _, part in shard], file)
        for task, _ in shard:
            task.records.unlink(missing_ok=True)
        progress(len(shard))
    lengths = {split: [_count(shard) for shard, _ in plan if shard[0][0].video.split == split] for split in SPLITS}
    dataset.describe(lengths, {split: sum(sum(p.sizes) for t, p in zip(tasks, found) if t.video.split == split) for split in SPLITS})


def _plan(tasks: Sequence[Task], found: Sequence[Part], dataset: ClipRecords) -> Iterator[tuple[list[tuple[Task, Part]], Path]]:
    """Which parts go into which file."""
    for split in SPLITS:
        shards = list(_shards([(task, part) for task, part in zip(tasks, found, strict=True) if task.video.split == split]))
        yield from ((shard, dataset.file(split, number, len(shards))) for number, shard in enumerate(shards))


def _is_merged(shard: list[tuple[Task, Part]], file: Path) -> bool:
    return file.exists() and parts.ends(file) == (_count(shard), shard[0][0].video.name, shard[-1][0].video.name)


def _count(shard: list[tuple[Task, Part]]) -> int:
    return sum(len(part.sizes) for _, part in shard)


def _shards(mine: list[tuple[Task, Part]]) -> Iterator[list[tuple[Task, Part]]]:
    """Runs of parts of about SHARD_BYTES, none without a record; of few parts each alone."""
    filled = [(task, part) for task, part in mine if part.sizes]
    shard, size = [], 0
    for task, part in filled:
        shard.append((task, part))
        size += sum(part.sizes)
        if size >= SHARD_BYTES or len(filled) <= FEW:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def summary(listing: Listing, tasks: Sequence[Task], found: Sequence[Part]) -> Built:
    """What came of all videos."""
    stored, first = [], dict.fromkeys(SPLITS, 0)
    for task, part in zip(tasks, found, strict=True):
        for segment, frames in part.outcome.stored:
            count = len(block_ranges(frames, length=task.reading.length, stride=task.reading.stride))
            stored.append(StoredSegment(segment, frames, first[task.video.split], count))
            first[task.video.split] += count
    skipped = tuple(item for part in found for item in part.outcome.skipped)
    return Built(tuple(stored), skipped, tuple(_notes(listing, tasks, found)))


def _notes(listing: Listing, tasks: Sequence[Task], found: Sequence[Part]) -> Iterator[str]:
    bad = unusable(listing, [(task, part) for task, part in zip(tasks, found, strict=True) if part.outcome.broken])
    shortened = sum(part.outcome.shortened for part in found)
    if bad:
        yield f"{len(bad)} of {listing.videos_listed} listed videos are missing or cannot be read"
    if shortened:
        keep = tasks[0].reading.keep
        yield (f"{shortened} segments are longer than what is kept of them: the first {keep['evaluate'] or 'all'} "
               f"frames in evaluation, {keep['adapt'] or 'all'} in adaptation")
    folders, fps = sum(path.is_dir() for path in listing.paths.values()), tasks[0].reading.fps if tasks else 0
    if fps and folders and listing.folder_fps != fps:
        yield f"{folders} videos are folders of images: they have no times, so {fps:g} frames a second does not apply"


def unusable(listing: Listing, bad: Sequence[tuple[Task, Part]]) -> list[str]:
    """Videos that are not there, or broke off before any of their segments had passed."""
    return [*listing.missing, *dict.fromkeys(task.video.name for task, part in bad if not part.outcome.stored)]


def check_share(listing: Listing, bad: Sequence[tuple[Task, Part]], max_bad_share: float) -> None:
    """Raises WorkError once more than `max_bad_share` of the listed videos are missing or cannot be read."""
    names, listed = unusable(listing, bad), listing.videos_listed
    if len(names) > max_bad_share * listed:
        reasons = [f"{item}: {reason}" for _, part in bad[-1:] for item, reason in part.outcome.skipped[-1:]]
        reasons += [absence(listing, name) for name in listing.missing[:1]]
        first = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise WorkError(f"{len(names)} of {listed} listed videos ({len(names) / listed:.0%}) are missing or cannot be read, more than "
                        f"{max_bad_share:.0%}: {first}" + "".join(f" ({r})" for r in reasons) + f": {ADVICE}")


def build(listing: Listing, out: Path, reading: Reading, *, folder: Path, max_bad_share: float, storage: Storage = RAW, run: Run = serially) -> Built:
    """Reads all videos and merges their records under `out`, with no more to say: `stages.prepare` does the same in the open."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = tasks_of(listing, reading, storage, folder)
    found = read_all(tasks, run=run, refuse=lambda bad: check_share(listing, bad, max_bad_share), progress=lambda task: None,
                     merged=merged_before(tasks, out, storage=storage))
    merge_all(tasks, found, out, storage=storage)
    return summary(listing, tasks, found)
