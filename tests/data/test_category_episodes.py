"""Episodes of normal and drawn categories, against every support set there is."""

from collections import Counter
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from acx_jax.contracts import Segment
from acx_jax.data import category_episodes
from acx_jax.data.category_episodes import largest_category_queries, sample_category_episodes
from acx_jax.data.episodes import feasible_queries
from acx_jax.errors import UsageError

NAMES = ("normal", "crash", "skid", "fall", "")


def segments_of(rows) -> list[Segment]:
    """Rows (video, class) as segments; class 0 is normal, the last one abnormal without a category."""
    return [Segment(f"v{video}", 10 * i, 10 * i + 9, int(c > 0), "crash" if c == 0 else NAMES[c]) for i, (video, c) in enumerate(rows)]


# Video 0 has a segment of every class, videos 1 and 2 of several; "fall" is rare; the last segment is of no category.
SMALL = segments_of([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 0), (2, 2), (3, 0), (4, 1), (5, 1), (6, 2), (7, 3), (8, 3), (9, 0), (10, 4)])
rows = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=10, max_size=30)


def members(segments, name) -> list[int]:
    return [i for i, s in enumerate(segments) if (s.label == 0 if name == "normal" else s.label == 1 and s.category == name)]


def brute_law(segments, shot, queries, eligible):
    """The probability of every (categories, support set): uniform categories, then uniform supports, of those that leave the queries."""
    weights = {}
    for chosen in combinations(eligible, len(queries) - 1):
        own = [members(segments, name) for name in ("normal", *chosen)]
        for picked in product(*(combinations(o, shot) for o in own)):
            videos = {segments[i].video for side in picked for i in side}
            left = [sum(segments[i].video not in videos for i in o) for o in own]
            if all(have >= wanted for have, wanted in zip(left, queries)):
                weights[frozenset(chosen), frozenset(sum(picked, ()))] = 1 / np.prod([comb(len(o), shot) for o in own])
    total = sum(weights.values())
    return {key: weight / total for key, weight in weights.items()}


def check_episodes(episodes, segments, *, shot, queries, protocol="disjoint"):
    """Classes, counts, no duplicates, and nothing shared between support and query."""
    assert episodes.support.dtype == episodes.query.dtype == np.int32 and episodes.queries == queries
    assert episodes.categories.shape == (len(episodes.support), len(queries) - 1)
    for support, asked, names in zip(episodes.support, episodes.query, episodes.categories.tolist()):
        classes = ["normal", *names]
        assert len(set(classes)) == len(queries) and "" not in names
        of = lambda i: "normal" if segments[i].label == 0 else segments[i].category
        assert [of(i) for i in support] == [name for name in classes for _ in range(shot)]
        assert [of(i) for i in asked] == [name for name, number in zip(classes, queries) for _ in range(number)]
        assert len({*support, *asked}) == len(queries) * shot + sum(queries)
        assert protocol == "published" or not {segments[i].video for i in support} & {segments[i].video for i in asked}


@given(rows, st.sampled_from([(2, 2), (1, 1, 1), (3, 1, 1), (1, 2, 2), (1, 1, 1, 1)]), st.sampled_from(["disjoint", "published"]), st.integers(0, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_drawn_is_an_episode(drawn, asked, protocol, seed):
    segments = segments_of(drawn)
    try:
        queries = largest_category_queries(segments, shot=1, queries=asked, protocol=protocol)
        episodes = sample_category_episodes(segments, count=4, shot=1, queries=queries, seed=seed, protocol=protocol)
    except UsageError:
        assume(False)
    assert all(got <= wanted for got, wanted in zip(queries, asked))
    check_episodes(episodes, segments, shot=1, queries=queries, protocol=protocol)


@given(rows, st.integers(1, 2), st.integers(2, 4), st.integers(1, 4), st.sampled_from(["disjoint", "published"]))
@settings(max_examples=60, deadline=None)
def test_equal_queries_are_those_that_enough_categories_leave(drawn, shot, way, most, protocol):
    segments = segments_of(drawn)
    each = sorted((feasible_queries([segments[i] for i in members(segments, "normal") + members(segments, name)], shot=shot, queries=(most, most),
                                    protocol=protocol)[0] for name in NAMES[1:4] if members(segments, name)), reverse=True)
    fitting = sum(number > 0 for number in each)
    if fitting >= way - 1:
        assert largest_category_queries(segments, shot=shot, queries=(most,) * way, protocol=protocol) == (each[way - 2],) * way
    else:
        with pytest.raises(UsageError, match=f"way={fitting + 1} would fit" if fitting else "not one would fit|no abnormal segment"):
            largest_category_queries(segments, shot=shot, queries=(most,) * way, protocol=protocol)


def test_unequal_queries_are_those_with_most_in_all():
    """Four normal queries beside one of each of two categories are six, two beside two of each are six too: the more abnormal ones are taken."""
    segments = segments_of([(i, c) for c, videos in ((0, range(5)), (1, range(20, 23)), (2, range(30, 33)), (3, range(40, 42))) for i in videos])
    assert largest_category_queries(segments, shot=1, queries=(9, 2, 2)) == (4, 2, 2)
    assert largest_category_queries(segments, shot=1, queries=(9, 2, 2, 2)) == (4, 1, 1, 1)
    assert largest_category_queries(segments, shot=1, queries=(2, 5, 5)) == (2, 2, 2)


@pytest.mark.parametrize(("queries", "eligible"), [((1, 1, 1), NAMES[1:4]), ((2, 2, 2), NAMES[1:4]), ((1, 3), ("crash",)), ((1, 1, 1, 1), NAMES[1:4])])
def test_the_law_is_the_one_that_is_told(queries, eligible):
    law = brute_law(SMALL, 1, queries, eligible)
    number = 40 * len(law)
    episodes = sample_category_episodes(SMALL, count=number, shot=1, queries=queries, seed=0)
    drawn = Counter((frozenset(names), frozenset(row)) for names, row in zip(episodes.categories.tolist(), episodes.support.tolist()))
    assert set(drawn) <= set(law)
    surprise = sum((drawn[key] - number * share) ** 2 / (number * share) for key, share in law.items())
    assert surprise < len(law) + 5 * np.sqrt(2 * len(law))


def test_an_episode_depends_on_its_number_and_the_seed_alone(monkeypatch):
    draw = lambda count, seed: sample_category_episodes(SMALL, count=count, shot=1, queries=(1, 1, 1), seed=seed)
    few, many = draw(3, 7), draw(20, 7)
    monkeypatch.setattr(category_episodes, "AT_ONCE", 1)  # one after the other
    for other in (few, draw(20, 7)):
        assert all(np.array_equal(a[:3], b[:3]) for a, b in zip((*many[:2], many.categories), (*other[:2], other.categories)))
    assert not np.array_equal(many.support, draw(20, 8).support)


def test_categories_that_fit_alone_and_not_together_are_refused():
    """Each category leaves a query beside normal, and a support set of both takes the only videos of the other's queries."""
    segments = segments_of([(0, 1), (0, 2), (1, 1), (1, 2), (2, 0), (3, 0)])
    queries = largest_category_queries(segments, shot=1, queries=(1, 1, 1))
    assert queries == (1, 1, 1) and brute_law(segments, 1, queries, ("crash", "skid"))
    check_episodes(sample_category_episodes(segments, count=9, shot=1, queries=queries, seed=0), segments, shot=1, queries=queries)
    segments = segments_of([(0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (0, 3), (5, 0), (6, 0)])
    assert not brute_law(segments, 1, (1, 1, 1, 1), NAMES[1:4])
    with pytest.raises(UsageError, match=r"in 200 draws no episode of normal and 3 categories with config.episodes.shot=1 left 1\+1\+1\+1 queries"):
        sample_category_episodes(segments, count=2, shot=1, queries=largest_category_queries(segments, shot=1, queries=(3,) * 4), seed=0)


@pytest.mark.parametrize(("asked", "fewer"), [((15,) * 5, lambda got: len(set(got)) == 1), ((20, 15, 15, 15, 15), lambda got: got[0] == 20)])
def test_queries_that_are_left_too_seldom_are_fewer(asked, fewer):
    """20 videos of each of 5 categories, all with a normal segment: those of the support rarely leave 15 of every category, which each one alone can."""
    segments = [Segment(f"v{video}", 10 * label, 10 * label + 9, label, f"c{video % 5}" * label) for video in range(100) for label in (0, 1)]
    ask = {"count": 100, "shot": 5, "seed": 0}
    assert largest_category_queries(segments, shot=5, queries=asked) == asked
    got = category_episodes.drawable_category_queries(segments, queries=asked, **ask)
    assert got != asked and fewer(got) and min(got) > 5
    check_episodes(sample_category_episodes(segments, queries=got, **ask), segments, shot=5, queries=got)


def test_no_category_at_all_is_said():
    with pytest.raises(UsageError, match="no abnormal segment to evaluate has one"):
        largest_category_queries([Segment(f"v{i}", 0, 9, i % 2) for i in range(9)], shot=1, queries=(1, 1))
