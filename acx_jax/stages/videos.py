"""How a config wants videos read, and the reading of them in many processes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from acx_jax.contracts import ABNORMAL, NORMAL, SPLITS, Skipped
from acx_jax.data.builders import clips, folder, named, parts, records, size
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.parts import Part, Task
from acx_jax.data.builders.reading import Reading
from acx_jax.data.prepared import RECORDS
from acx_jax.data.splits import assign_splits
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime import workers
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import looks
from acx_jax.stages.job import Job

SHOWN = 3  # rows of a refused table
SAMPLED = 12  # videos looked at to judge the size of all


def parts_folder(workdir: Path) -> Path:
    """Where videos lie that are read and not merged yet; it outlives a change of settings, since each part is named after its own."""
    return workdir / "prepare.parts"


def divided(listed: Listing, config: ConfigDict) -> Listing:
    """The listing with the split of every segment; abnormal segments of adaptation videos are left out."""
    split = assign_splits(listed.segments, adapt_share=config.data.adapt_share, seed=config.seed, how=config.data.split)
    return listed._replace(segments=split)


def misplaced(listed: Listing, config: ConfigDict) -> list[Skipped]:
    """The abnormal segments that the table itself gives to adaptation, which are not trained on; none where sources decide who adapts."""
    adapting = frozenset(listed.adapting if config.data.split != "source" else ())
    return [Skipped(str(s), "it is abnormal, and the table gives its video to adaptation, which learns from normal segments alone")
            for s in listed.segments if s.label == ABNORMAL and s.video in adapting]


def reading(config: ConfigDict) -> Reading:
    """How the config wants videos read."""
    data = config.data
    return Reading(data.clip_frames, data.clip_stride, data.fps, data.short_side, data.resample, data.width, max(data.min_frames, data.clip_frames),
                   dict(zip(SPLITS, (data.max_adapt_frames, data.max_frames))), reduced=data.reduced and data.resample != "nearest" and not data.width)


def storage(config: ConfigDict) -> clips.Storage:
    """How the config wants frames stored."""
    return clips.Storage("jpeg", config.data.jpeg_quality) if config.data.storage == "jpeg" else clips.RAW


def tasks(split: Listing, job: Job) -> list[Task]:
    """What there is to read, of each split its videos in the listing's order."""
    return records.tasks_of(split, reading(job.config), storage(job.config), parts_folder(job.workdir))


def read(tasks: Sequence[Task], listed: Listing, job: Job, merged: frozenset[str] = frozenset()) -> list[Part]:
    """Reads what of the tasks is not read yet, in as many processes as config.data.workers says. merged: as `records.read_all` has it."""
    data, folder = job.config.data, parts_folder(job.workdir)
    count = min(data.workers or workers.cores(), max(len(tasks), 1))
    folder.mkdir(parents=True, exist_ok=True)
    _check_size([task for task in tasks if task.name not in merged and not task.facts.exists()], job, count)
    if len(tasks) >= 2 * count:  # a core a video; of a few long ones each may have all cores
        tasks = [task._replace(reading=task.reading._replace(threads=1)) for task in tasks]
    run = partial(workers.work, workers=count, patience=data.patience, preload=[parts.__name__])
    with job.log.progress("decode", len(tasks), unit="video") as advance:
        return records.read_all(tasks, run=run, refuse=lambda bad: records.check_share(listed, bad, data.max_bad_share),
                                progress=lambda task: advance(1, task.video.name), merged=merged)


def read_shard(index: int, count: int, *, config: ConfigDict, workdir: Path, log: RunLog) -> None:
    """Reads every `count`-th video from number `index` on into the workdir; a run of `prepare` there merges what all shards have read.

    Raises UsageError where the config's data are not read from videos, WorkError as `read`.
    """
    if config.data.builder in ("synthetic", "features"):
        raise UsageError(f"--shard={index}/{count}: config.data.builder={config.data.builder!r} has no videos to divide")
    job = Job(config, workdir, workdir, log)
    split = divided(list_data(config), config)
    log.info(f"prepare: shard {index} of {count}, workdir {workdir}")
    every = tasks(split, job)
    mine = every[index::count]
    merged = records.merged_before(every, workdir / "prepare.partial" / RECORDS, storage=storage(config))  # from then on no part may change
    bad = sum(bool(part.outcome.broken) for part in read(mine, split, job, merged))
    log.info(f"prepare: shard {index} of {count}: {len(mine)} videos are read, {bad} of them broken or unreadable; when all shards are done, the "
             "same command without --shard puts them together")


def list_data(config: ConfigDict) -> Listing:
    """The user's data set, as far as its tables and folders tell, before its videos are split or read.

    Raises UsageError where a table gives videos to adaptation, and no normal segment of them.
    """
    data = config.data
    listed = named.list_data(data.builder, Path(data.root), split=data.split, fps=data.fps, annotations=data.annotations,
                             exclude=data.exclude, events=data.events, look=partial(looks.declared_all, config=config))
    if data.split == "official" and adapts(config):
        _check_adapting(listed, Path(data.root))
    return listed


def adapts(config: ConfigDict) -> bool:
    """Whether a run is to adapt an encoder to the videos of its adaptation split."""
    return bool(config.adapt.steps and not config.source.steps)


def _check_adapting(listed: Listing, root: Path) -> None:
    adapting = frozenset(listed.adapting)
    own = [s for s in listed.segments if s.video in adapting]
    if not adapting or any(s.label == NORMAL for s in own):
        return
    rows = [*map(str, own), *(f"{item}: {reason}" for item, reason in listed.skipped if any(f"({name} " in item for name in adapting))]
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    raise UsageError(f"{root / folder.TABLE} gives adaptation (split adapt) no normal segment that can be used: {'; '.join(rows[:SHOWN])}{more}. It learns "
                     "from normal segments alone: add rows of normal stretches with split adapt, or leave it out with --config.adapt.steps=0")


def _check_size(unread: Sequence[Task], job: Job, processes: int) -> None:
    """Says how much there is left to read and what it will take, judged by a few videos. Raises WorkError where the disk has less."""
    if job.config.data.builder == "synthetic":
        return
    if not unread:
        job.log.info("  0 videos to read")
        return
    some = unread[::-(-len(unread) // SAMPLED)]
    probes = dict(zip((task.video.name for task in some), looks.probe_all([task.video.path for task in some], job.config)))
    of_some = size.bytes_of([s for task in some for s in task.video.segments], probes, some[0].reading, some[0].storage)
    needed, free = of_some * len(unread) // len(some), shutil.disk_usage(job.out).free
    job.log.info(f"  {len(unread)} videos to read in {processes} processes; records take about {size.words(needed)} as {some[0].storage.kind}, "
                 f"{size.words(free)} are free")
    if needed > free:
        raise WorkError(f"the records need about {size.words(needed)} and {size.words(free)} are free: {size.ADVICE}")
