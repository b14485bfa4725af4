"""prepare: from videos and their table to records of decoded frames."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from acx_jax.contracts import LABELS, SPLITS, Coverage, Skipped, StoredSegment
from acx_jax.data.builders import features, records
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.builders.listing import Listing, fingerprint
from acx_jax.data.builders.records import Built
from acx_jax.data.builders.synthetic import write_videos
from acx_jax.data.prepared import RECORDS, SEGMENTS, Windows, record_files, to_json
from acx_jax.data.windows import window_count
from acx_jax.errors import WorkError
from acx_jax.runtime.files import write_json
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import videos
from acx_jax.stages.job import Job

SCENES = "synthetic"  # folder of the rendered videos
SCENE_FRAMES = (24, 40)  # of a rendered video, at least and at most
SHOWN = 10  # skipped items the log names

_SETTINGS = ("builder", "fps", "short_side", "resample", "width", "clip_frames", "clip_stride", "min_frames", "max_frames",
             "max_adapt_frames", "adapt_share", "max_bad_share", "split", "exclude", "annotations", "events", "storage", "jpeg_quality",
             "reduced")
_SYNTHETIC = ("videos", "scene_width", "scene_height")


def settings(config: ConfigDict) -> dict[str, Any]:
    """The settings that the records depend on."""
    names = _SETTINGS + (_SYNTHETIC if config.data.builder == "synthetic" else ())
    return {"seed": config.seed} | {f"data.{name}": config.data[name] for name in names}


def inputs(config: ConfigDict) -> str:
    """Fingerprint of the user's table and videos; nothing for synthetic ones, which follow from the settings."""
    if config.data.builder == "features":
        return features.fingerprint(Path(config.data.root))
    return "" if config.data.builder == "synthetic" else fingerprint(videos.list_data(config))


def run(job: Job) -> None:
    """Writes RECORDS and SEGMENTS into job.out. Raises WorkError when no segment is usable or too many videos are not."""
    if (job.out / SEGMENTS).exists():  # written last: an interrupted run had only to clear up
        shutil.rmtree(videos.parts_folder(job.workdir), ignore_errors=True)
        return
    listed, data = _list(job), job.config.data
    if data.builder == "features":
        _say_and_write(job, listed, _given(listed, data.max_bad_share), unused=0, windows=Windows(1, 1))
        return
    split = videos.divided(listed, job.config)
    misplaced = videos.misplaced(listed, job.config)
    unused = len({s[:4] for s in listed.segments} - {s[:4] for s in split.segments}) - len(misplaced)
    listed = listed._replace(skipped=(*listed.skipped, *misplaced))
    tasks = videos.tasks(split, job)
    storage = videos.storage(job.config)
    read = videos.read(tasks, split, job, records.merged_before(tasks, job.out / RECORDS, storage=storage))
    with job.log.progress("merge", len(tasks), unit="video") as advance:
        records.merge_all(tasks, read, job.out / RECORDS, storage=storage, progress=advance)
    _say_and_write(job, listed, records.summary(split, tasks, read), unused=unused, windows=Windows(data.clip_frames, data.clip_stride))
    shutil.rmtree(videos.parts_folder(job.workdir), ignore_errors=True)


def _say_and_write(job: Job, listed: Listing, built: Built, *, unused: int, windows: Windows) -> None:
    coverage = _coverage(listed, built, unused)
    _say_coverage(coverage, built.stored, windows, job.log)
    if not built.stored:
        raise WorkError(f"none of the {listed.segments_listed} listed segments can be used: " + _first_reasons(coverage))
    write_json(job.out / SEGMENTS, to_json(built.stored, coverage, windows, record_files(job.out)))


def _given(listed: Listing, max_bad_share: float) -> Built:
    """Segments whose vectors are given: no frames are stored of them, and one vector counts as one window."""
    bad = len(listed.missing)
    if bad > max_bad_share * listed.videos_listed:
        reasons = "; ".join(f"{item}: {reason}" for item, reason in listed.skipped[:3])
        raise WorkError(f"the features of {bad} of {listed.videos_listed} videos cannot be used, more than {max_bad_share:.0%}: {reasons}: {records.ADVICE}")
    return Built(tuple(StoredSegment(s, s.end - s.start + 1, 0, 0) for s in listed.segments), (), ())


def _list(job: Job) -> Listing:
    data = job.config.data
    if data.builder != "synthetic":
        return videos.list_data(job.config)
    scenes = job.out / SCENES
    with job.log.progress("render", data.videos, unit="video") as advance:
        write_videos(root=scenes, seed=job.config.seed, videos=data.videos, size=(data.scene_width, data.scene_height),
                     frames=SCENE_FRAMES, progress=lambda done, total: advance(1))
    return list_folder(scenes)


def _coverage(listing: Listing, built: Built, unused: int) -> Coverage:
    of_adaptation = (f"{unused} abnormal segments of adaptation videos are not used",) if unused else ()
    return Coverage(
        videos_listed=listing.videos_listed, videos_used=len({s.segment.video for s in built.stored}),
        segments_listed=listing.segments_listed, segments_used=len(built.stored),
        skipped=listing.skipped + built.skipped, notes=listing.notes + of_adaptation + built.notes)


def _say_coverage(coverage: Coverage, stored: Sequence[StoredSegment], windows: Windows, log: RunLog) -> None:
    log.info(f"  {coverage.videos_used} of {coverage.videos_listed} videos, "
             f"{coverage.segments_used} of {coverage.segments_listed} segments are used")
    for split in SPLITS:
        mine = [s for s in stored if s.segment.split == split]
        labels = Counter(s.segment.label for s in mine)
        count = sum(window_count(s.frames, length=windows.length, stride=windows.stride) for s in mine)
        log.info(f"  {split}: {len({s.segment.video for s in mine})} videos, "
                 + ", ".join(f"{labels[i]} {name}" for i, name in enumerate(LABELS)) + f" segments, {count} windows")
    for note in coverage.notes:
        log.info(f"  note: {note}")
    for item, reason in of_each_reason(coverage.skipped)[:SHOWN]:
        log.info(f"  skipped {item}: {reason}")
    if len(coverage.skipped) > SHOWN:
        log.info(f"  skipped {len(coverage.skipped) - SHOWN} more, all named in {SEGMENTS}")


def of_each_reason(skipped: Sequence[Skipped]) -> list[Skipped]:
    """The first of every reason, then the second of every one, ...; reasons that differ in numbers alone are one."""
    alike: dict[str, list[Skipped]] = {}
    for item in skipped:
        alike.setdefault(re.sub(r"\d+", "", item.reason), []).append(item)
    return [item for row in zip_longest(*alike.values()) for item in row if item is not None]


def _first_reasons(coverage: Coverage) -> str:
    shown = [f"{item}: {reason}" for item, reason in of_each_reason(coverage.skipped)[:3]]
    return "; ".join(shown) + (f"; and {len(coverage.skipped) - 3} more" if len(coverage.skipped) > 3 else "")
