"""The videos that the encoder is adapted on: how many there are, and whether they do for the objective."""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import ConfigDict

from acx_jax.contracts import StoredSegment
from acx_jax.data.feeds import videos_of_one_moment
from acx_jax.errors import UsageError

ADVICE = {
    "moco": "set --config.adapt.objective=dsm, or --config.adapt.exclude_own=False",
    "dsm": "give longer videos to adapt on, or more of them, or set --config.adapt.motion_broken=any",
    "triplet": "give longer videos to adapt on, or set --config.adapt.objective=vicreg, which has no negatives",
}


def video_count(clips: Sequence[StoredSegment]) -> int:
    """Of the segments to adapt on."""
    return len({s.segment.video for s in clips})


def check_negatives(config: ConfigDict, clips: Sequence[StoredSegment]) -> None:
    """Raises UsageError where the objective has nothing to tell any clip from: its loss would be 0, and nothing be learnt."""
    objective = config.adapt.objective
    places = {"moco": (_other_videos,), "dsm": (_other_videos, _other_moments, _broken), "triplet": (_other_moments,)}.get(objective, ())
    lacks = [place(config, clips) for place in places]
    if places and all(lacks):
        raise UsageError(f"config.adapt.objective={objective!r} finds nothing to tell a clip from: {', '.join(lacks)}: {ADVICE[objective]}")


def _other_videos(config: ConfigDict, clips: Sequence[StoredSegment]) -> str:
    """Why no clip of another video is a negative, "" where some are."""
    if config.adapt.queue == 0:
        return "config.adapt.queue is 0"
    return "there is one video alone to adapt on" if config.adapt.exclude_own and video_count(clips) == 1 else ""


def _other_moments(config: ConfigDict, clips: Sequence[StoredSegment]) -> str:
    """Why no other moment of a clip's own video is a negative, "" where some are."""
    none = len(_of_one_moment(config, clips)) == video_count(clips)
    return f"no video to adapt on has two clips of config.data.clip_frames={config.data.clip_frames} frames that share none" if none else ""


def _broken(config: ConfigDict, clips: Sequence[StoredSegment]) -> str:
    """Why no clip in a wrong order is a negative, "" where some are."""
    return "config.adapt.motion_broken is 'none'" if config.adapt.motion_broken == "none" else ""


def _of_one_moment(config: ConfigDict, clips: Sequence[StoredSegment]) -> list[str]:
    """The videos that are too short for a negative of their own, where the objective draws one."""
    draws = config.adapt.objective in ("dsm", "triplet") and config.adapt.negative == "apart"
    return videos_of_one_moment(clips, config.data.clip_frames) if draws else []


def in_words(config: ConfigDict, clips: Sequence[StoredSegment]) -> str:
    """What is adapted on, for people."""
    videos, short = video_count(clips), len(_of_one_moment(config, clips))
    too_short = f", {short} of them too short for two clips that share no frame" if short else ""
    few = "; fewer videos than the batch, so a batch holds several clips of one" if videos < config.adapt.batch else ""
    return f"{config.adapt.steps} steps of {config.adapt.batch} clips from {len(clips)} normal segments of {videos} videos{too_short}{few}"
