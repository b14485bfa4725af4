"""What is said of the videos to adapt on, and which of them do for no objective."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from adapt_case import job, prepare

from acx_jax.config import default_config
from acx_jax.contracts import Segment, StoredSegment
from acx_jax.errors import UsageError
from acx_jax.stages.adapt_videos import check_negatives, in_words
from acx_jax.stages.pipeline import STAGES


def videos(*frames: int) -> list[StoredSegment]:
    """One segment a video, of so many frames."""
    return [StoredSegment(Segment(str(number), 3, 2 + length, 0, split="adapt"), length, 0, 1) for number, length in enumerate(frames)]


def settings(**changes):
    config = default_config()
    with config.unlocked():
        config.adapt.update(changes)
    return config


@pytest.mark.parametrize("changes, frames, says", [
    ({}, (15,), "one video alone to adapt on, no video .* two clips of config.data.clip_frames=8 frames .*, config.adapt.motion_broken is 'none'"),
    ({"queue": 0}, (15, 9), "config.adapt.queue is 0, no video to adapt on has two clips"),
    ({"objective": "moco"}, (99,), "one video alone to adapt on: set --config.adapt.objective=dsm, or --config.adapt.exclude_own=False"),
    ({"objective": "triplet"}, (15, 8, 9), "'triplet' finds nothing to tell a clip from: no video to adapt on has two clips"),
])
def test_videos_in_which_nothing_could_be_learnt_are_refused(changes, frames, says):
    with pytest.raises(UsageError, match=says):
        check_negatives(settings(**changes), videos(*frames))


@pytest.mark.parametrize("changes, frames", [
    ({}, (16,)), ({}, (8, 8)), ({"motion_broken": "any"}, (8,)), ({"exclude_own": False}, (8,)), ({"negative": "wrapping"}, (8,)),
    ({"queue": 0}, (16, 8)), ({"objective": "moco"}, (8, 8)), ({"objective": "moco", "exclude_own": False}, (8,)),
    ({"objective": "triplet"}, (8, 16)), ({"objective": "triplet", "negative": "wrapping"}, (8,)), ({"objective": "vicreg"}, (8,)),
])
def test_where_there_is_something_to_tell_apart_none_are(changes, frames):
    check_negatives(settings(**changes), videos(*frames))


def test_segments_of_one_video_that_lie_apart_are_two_moments():
    def apart(second: int) -> Sequence[StoredSegment]:
        return [StoredSegment(Segment("a", start, start + 7, 0, split="adapt"), 8, 0, 1) for start in (0, second)]

    check_negatives(settings(), apart(8))
    with pytest.raises(UsageError):
        check_negatives(settings(), apart(7))


def test_a_run_with_one_short_video_is_refused_before_it_changes_anything(tmp_path_factory):
    short = job(prepare([Segment("a", 0, 13, 0, split="adapt")], tmp_path_factory), "short")
    with pytest.raises(UsageError, match="finds nothing to tell a clip from"):
        STAGES["adapt"].check_possible(short.config, short.workdir)


def test_videos_too_short_and_too_few_are_counted():
    few = "; fewer videos than the batch, so a batch holds several clips of one"
    for changes, frames, said in (({"batch": 2}, (16, 20), ""), ({"batch": 2}, (16, 15, 8), ", 2 of them too short for two clips that share no frame"),
                                  ({"batch": 4}, (16, 16), few), ({"batch": 2, "objective": "moco"}, (8, 8), "")):
        assert in_words(settings(**changes), videos(*frames)).endswith(f"from {len(frames)} normal segments of {len(frames)} videos{said}")
