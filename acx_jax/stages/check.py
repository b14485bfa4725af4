"""check: what is wrong with a data set, before hours are spent on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from acx_jax.contracts import Segment, Skipped
from acx_jax.data.builders.listing import Listing, absence
from acx_jax.data.builders.records import ADVICE
from acx_jax.data.check import faults, leaks
from acx_jax.data.check.faults import Faults
from acx_jax.data.splits import assign_splits
from acx_jax.errors import WorkError
from acx_jax.runtime.files import write_json
from acx_jax.stages import check_words, looks, prepare
from acx_jax.stages.check_features import vectors
from acx_jax.stages.check_media import Found, Videos, look, media
from acx_jax.stages.job import Job
from acx_jax.stages.meta_parts import asked_queries
from acx_jax.stages.videos import adapts, list_data, misplaced, reading

REPORT = "check.json"
SHOTS = (1, 5, 10)


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config the findings depend on."""
    normal, abnormal = _asked_of_two(config)
    unequal = {} if normal == abnormal else {"query_abnormal": abnormal}
    adapting = {} if adapts(config) else {"adapt.steps": 0}
    return prepare.settings(config) | {"protocol": config.episodes.protocol, "query": normal} | unequal | adapting


def run(job: Job) -> None:
    """Says what it finds and writes `check.json` and, where cameras are shared, `sources.csv`; see `raise_problems` for what follows."""
    if job.config.data.builder == "synthetic":
        job.log.info("check: nothing to check, the videos are rendered by acx_jax")
        write_json(job.out / REPORT, {"checked": False, "problems": []})
        return
    found = examine(job, list_data(job.config))
    write_json(job.out / REPORT, found.report | {"problems": found.problems, "warnings": found.warnings})
    for line in check_words.table(found.report):
        job.log.info(f"  {line}")
    for warning in found.warnings:
        job.log.info(f"  warning: {warning}")


def damage(folder: Path) -> str:
    """What of a finished check may be otherwise the next time: looks that were lost, where the findings stopped the run; "" for nothing."""
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{REPORT} cannot be read"
    lost = sum(reason.startswith(looks.LOST) for reason in found.get("unreadable", {}).values())
    return f"{lost} of its looks at videos {'was' if lost == 1 else 'were'} lost" if lost and found["problems"] else ""


def raise_problems(workdir: Path) -> None:
    """Raises WorkError when the finished check found what would stop a run or make its results wrong."""
    path = workdir / "check" / REPORT
    problems = json.loads(path.read_text(encoding="utf-8"))["problems"] if path.exists() else []
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WorkError(f"check found what would stop the run or make its results wrong (all of it in {path}): " + "; ".join(problems[:3]) + more)


def examine(job: Job, listed: Listing) -> Found:
    """All findings on a listing."""
    data, config = job.config.data, job.config
    split = assign_splits(listed.segments, adapt_share=data.adapt_share, seed=config.seed, how=data.split)
    videos = look(job, listed) if data.builder != "features" else Videos([], [], [], [])
    probes = dict(zip(videos.names, videos.probes))
    wanted = reading(config)
    lost = faults.find_faults(listed.segments, probes, fps=wanted.fps, least=wanted.min_frames, offsets=listed.offsets) if probes else faults.NONE
    of_media = vectors(job, listed) if data.builder == "features" else media(job, listed, split, videos) if videos.names else Found({}, [], [])
    of_splits = _splits(config, tuple(s for s in split if s[:4] not in lost.lost))
    named = listed._replace(skipped=(*listed.skipped, *misplaced(listed, config)))
    report = {"checked": True, "builder": data.builder, "coverage": _coverage(named, lost), "unreadable": lost.unreadable,
              "short": [str(s) for s in lost.short], "beyond": [_beyond(s, probes[s.video].frames) for s in lost.beyond]}
    no_more = _nothing_to_adapt(config, split, lost)
    problems = [*_nothing(listed, lost), *_missing(config, listed, lost), *of_media.problems, *of_splits.problems, *(no_more if listed.adapting else [])]
    warnings = [*of_media.warnings, *of_splits.warnings, *([] if listed.adapting else no_more)]
    return Found(report | of_media.report | of_splits.report, problems, warnings)


def _coverage(listed: Listing, lost: Faults) -> dict[str, Any]:
    usable = sum(s[:4] not in lost.lost for s in listed.segments)
    return {"videos_listed": listed.videos_listed, "videos_present": len({s.video for s in listed.segments}) - len(lost.unreadable),
            "segments_listed": listed.segments_listed, "segments_usable": usable, "missing": list(listed.missing),
            "skipped": [list(item) for item in listed.skipped], "notes": list(listed.notes), "extra": list(listed.extra)}


def _beyond(segment: Segment, frames: int) -> str:
    return f"{segment}: its file has {frames} frames"


def _nothing(listed: Listing, lost: Faults) -> list[str]:
    """A listing of which no segment is left."""
    if any(s[:4] not in lost.lost for s in listed.segments):
        return []
    left_out = [*listed.skipped, *(Skipped(name, reason) for name, reason in lost.unreadable.items()),
                *(Skipped(str(s), "it is beyond its video's end") for s in lost.beyond), *(Skipped(str(s), "it is too short") for s in lost.short)]
    reasons = [f"{item}: {reason}" for item, reason in prepare.of_each_reason(left_out)[:3]]
    return [f"none of the {listed.segments_listed} listed segments can be used" + "".join(f"; {reason}" for reason in reasons)]


def _nothing_to_adapt(config: ConfigDict, split: tuple[Segment, ...], lost: Faults) -> list[str]:
    """An adaptation that is left out because all of its segments are: where a table names them, its author counts on it."""
    mine = [s for s in split if s.split == "adapt"]
    if not adapts(config) or not mine or any(s[:4] not in lost.lost for s in mine):
        return []
    return [f"none of the {len(mine)} normal segments of adaptation can be used, such as {mine[0]}, so there is nothing to adapt to: give it others, "
            f"at least config.data.min_frames={config.data.min_frames} frames long and inside their videos, or leave it out with --config.adapt.steps=0"]


def _missing(config: ConfigDict, listed: Listing, lost: Faults) -> list[str]:
    """More missing or unreadable videos than `prepare` would bear."""
    bad, most = len(listed.missing) + len(lost.unreadable), config.data.max_bad_share
    if bad <= most * listed.videos_listed:
        return []
    first = [*(absence(listed, name) for name in listed.missing[:3]), *(f"{name} {reason}" for name, reason in lost.unreadable.items())]
    return [f"{bad} of {listed.videos_listed} videos are missing or unreadable, more than config.data.max_bad_share={most}: "
            + "; ".join(first[:3]) + ("; ..." if bad > 3 else "") + f": {ADVICE}"]


def _splits(config: ConfigDict, split: tuple[Segment, ...]) -> Found:
    """The leakage audit and the possible episodes."""
    leaked = leaks.audit(split)
    possible = leaks.possible_episodes(split, shots=SHOTS, most=_asked_of_two(config), protocol=config.episodes.protocol)
    report = {"leaks": {"videos": list(leaked.videos), "sources": list(leaked.sources), "siblings": leaked.siblings},
              "episodes": [p._asdict() for p in possible]}
    asked = config.data.split == "published" or config.episodes.protocol == "published"
    problems = [] if asked or not leaked.videos else [f"{len(leaked.videos)} videos are in adaptation and in evaluation, such as {leaked.videos[0]}"]
    return Found(report, problems, list(_leak_warnings(config, leaked)))


def _asked_of_two(config: ConfigDict) -> tuple[int, int]:
    """Queries of normal, and of abnormal or of any one category: the possible episodes are told of each category by itself."""
    normal, abnormal, *_ = asked_queries(config)
    return normal, abnormal


def _leak_warnings(config: ConfigDict, leaked: leaks.Leaks) -> Iterator[str]:
    if leaked.videos and config.data.split == "published":
        yield f"{len(leaked.videos)} videos are in adaptation and in evaluation, as config.data.split='published' asks"
    if others := set(leaked.sources) - set(leaked.videos):
        yield (f"{len(others)} sources are in adaptation and in evaluation, such as {min(others)}: --config.data.split=source keeps them apart")
    if leaked.siblings and config.episodes.protocol == "published":
        yield (f"{leaked.siblings} evaluated segments have siblings of their video or source, which config.episodes.protocol='published' "
               "lets be on both sides of an episode")
