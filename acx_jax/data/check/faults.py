"""Segments that `prepare` will leave out, as far as a look at their videos tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from acx_jax.contracts import TO_THE_END, Segment
from acx_jax.data.builders.size import frames_of, video_frames
from acx_jax.data.probe import Probe

_SLACK = 1  # frames by which rounding may err when a video is read at another rate than its own


class Faults(NamedTuple):
    """Why videos cannot be read, by name; segments shorter than what is needed, segments beyond their video's last frame; all segments
    of these, by their video, start, end and label."""

    unreadable: dict[str, str]
    short: tuple[Segment, ...]
    beyond: tuple[Segment, ...]
    lost: frozenset[tuple]


NONE = Faults({}, (), (), frozenset())


def find_faults(segments: Sequence[Segment], probes: Mapping[str, Probe], *, fps: float, least: int, offsets: Mapping[str, int]) -> Faults:
    """Of segments whose videos are among `probes`, by name. fps: that videos are read at, 0 for their own. least: frames that a segment
    needs. offsets: as of a listing."""
    unreadable = {name: found.problem for name, found in probes.items() if found.problem}
    known = [s for s in segments if s.video not in unreadable]
    beyond = [s for s in known if _is_beyond(s, probes[s.video], fps, offsets.get(s.video, 0))]
    outside = frozenset(beyond)
    short = [s for s in known if s not in outside and _is_short(s, probes[s.video], fps, offsets.get(s.video, 0), least)]
    lost = [*beyond, *short, *(s for s in segments if s.video in unreadable)]
    return Faults(unreadable, tuple(short), tuple(beyond), frozenset(s[:4] for s in lost))


def _is_beyond(segment: Segment, found: Probe, fps: float, offset: int) -> bool:
    if not found.frames:  # not declared
        return False
    last = segment.start if segment.end == TO_THE_END else segment.end
    return last >= video_frames(found, fps) - offset + (_SLACK if fps and found.fps not in (0, fps) else 0)


def _is_short(segment: Segment, found: Probe, fps: float, offset: int, least: int) -> bool:
    known = segment.end != TO_THE_END or found.frames
    return bool(known) and frames_of(segment, found, fps, offset) < least
