"""What happens in one clip: a junction, its traffic, the two segments, and perhaps an event. No pictures yet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acx_jax.data.builders.scenes import events, traffic, world
from acx_jax.data.builders.scenes.impact import Impact
from acx_jax.data.builders.scenes.users import Users, draw_users

WARM_UP = 40  # frames before the earliest one shown
SEARCH = 60  # frames in which the moment of the event is looked for
TAIL = 8  # frames shown behind the second segment, at most


class Clip(NamedTuple):
    """T frames of N road users. Frames [0, first) are ordinary; [first, first + second) hold the event if there is one."""

    roads: traffic.Roads
    users: Users
    motions: tuple[traffic.Motion, ...]  # T of them
    impacts: tuple[tuple[int, Impact], ...]  # with their frames
    focus: np.ndarray  # float [2], metres, the middle of the picture
    first: int
    second: int
    event: str  # one of events.EVENTS, or "" for none


def draw_clip(rng: np.random.Generator, *, frames: tuple[int, int], event: str) -> Clip:
    """A clip with segments of frames[0] to frames[1] frames.

    Clips with and without an event come from one distribution up to the event's first frame: lengths are drawn before
    anything else, and both are cut so that an event could begin there.
    """
    first, second = (int(n) for n in rng.integers(frames[0], frames[1] + 1, 2))
    after = second + int(rng.integers(0, TAIL + 1))
    while True:
        roads, users, past, focus = _traffic(rng, first)
        if past:
            break
    motions, impacts = _go_on(rng, roads, users, past[-1], focus, event, after)
    seen = (*past[-first - 1 : -1], *motions)
    return Clip(roads, users, seen, tuple((first + frame, hit) for frame, hit in impacts), focus, first, second, event)


def _traffic(rng: np.random.Generator, first: int) -> tuple[traffic.Roads, Users, list[traffic.Motion], np.ndarray]:
    """A scene and its motions up to a moment at which an event could begin; no motions if that never comes."""
    junction = world.draw_junction(rng)
    routes = world.driving_routes(junction) + world.walking_routes(junction)
    roads = traffic.make_roads(junction, routes)
    users, along = draw_users(rng, junction, routes)
    focus = rng.uniform(-2.5, 2.5, 2)
    motions = [traffic.start(roads, users, along, float(rng.uniform(0, 20)))]
    for _ in range(WARM_UP + first):
        motions.append(traffic.drive(roads, users, motions[-1]))
    for _ in range(SEARCH):
        if len(events.openings(users, motions[-1], focus)):
            return roads, users, motions, focus
        motions.append(traffic.drive(roads, users, motions[-1]))
    return roads, users, [], focus


def _go_on(
    rng: np.random.Generator, roads: traffic.Roads, users: Users, motion: traffic.Motion, focus: np.ndarray, kind: str, frames: int
) -> tuple[list[traffic.Motion], list[tuple[int, Impact]]]:
    """The following motions, the given one first, with or without an event, and the impacts with their frames."""
    event = events.draw_event(rng, kind, roads, users, motion, focus) if kind else None
    motions, impacts = [motion], []
    for frame in range(1, frames):
        if event is None:
            motions.append(traffic.drive(roads, users, motions[-1]))
            continue
        moved, hits = events.step(roads, users, motions[-1], event, frame * traffic.DT)
        motions.append(moved)
        impacts += [(frame, hit) for hit in hits]
    return motions, impacts
