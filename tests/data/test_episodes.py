"""The sampler against brute force: which support sets exist, how often each is drawn, and how many queries they leave."""

import hashlib
import time
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from acx_jax.contracts import Segment
from acx_jax.data import episodes as episodes_module
from acx_jax.data.builders.folder import list_folder
from acx_jax.data.episodes import group_segments, largest_queries, sample_episodes
from acx_jax.errors import UsageError


def segments_of(rows) -> list[Segment]:
    """Rows (video, source, label) as segments; source None says none."""
    return [Segment(f"v{video}", 0, 9, label, source="" if source is None else f"s{source}") for video, source, label in rows]


def tied(a: Segment, b: Segment) -> bool:
    return a.video == b.video or (a.source == b.source != "")


@st.composite
def tables(draw, least=2, most=16, one_source=False):
    """Random segments; with one_source, all segments of a video have the same one."""
    rows = draw(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, None, 0, 1, 2]), st.integers(0, 1)),
                          min_size=least, max_size=most))
    if one_source:
        source = dict((video, source) for video, source, _ in rows)
        rows = [(video, source[video], label) for video, _, label in rows]
    return segments_of(rows)


def support_sets(segments, shot):
    """Every choice of `shot` of each class, with the segments of each class that it leaves for queries."""
    own = [[i for i, s in enumerate(segments) if s.label == c] for c in range(2)]
    for picked in product(*(combinations(o, shot) for o in own)):
        support = set(picked[0] + picked[1])
        free = [[i for i in o if not any(tied(segments[i], segments[j]) for j in support)] for o in own]
        yield frozenset(support), free


def largest_query(segments, *, shot, query, protocol="disjoint"):
    """Where as many of both classes are asked for, as many are found."""
    normal, abnormal = largest_queries(segments, shot=shot, queries=(query, query), protocol=protocol)
    assert normal == abnormal
    return normal


def brute_query(segments, shot):
    return max((min(len(f) for f in free) for _, free in support_sets(segments, shot)), default=0)


def brute_queries(segments, shot, asked):
    """Of the pairs within what is asked and with one of each: most in all, then most abnormal ones."""
    pairs = {(min(asked[0], len(normal)), min(asked[1], len(abnormal))) for _, (normal, abnormal) in support_sets(segments, shot)}
    return max((pair for pair in pairs if min(pair)), key=lambda pair: (sum(pair), pair[1]), default=(0, 0))


def check_episodes(episodes, segments, *, shot, queries):
    """Labels, counts, no duplicates, and nothing shared between support and query."""
    assert episodes.support.dtype == episodes.query.dtype == np.int32
    assert episodes.support.shape[1:] == (2 * shot,) and episodes.query.shape[1:] == (sum(queries),)
    for support, asked in zip(episodes.support, episodes.query):
        assert [segments[i].label for i in support] == [0] * shot + [1] * shot
        assert [segments[i].label for i in asked] == [0] * queries[0] + [1] * queries[1]
        assert len({*support, *asked}) == 2 * shot + sum(queries)
        assert not any(tied(segments[i], segments[j]) for i in support for j in asked)


@given(tables(least=8), st.integers(1, 2), st.sampled_from([(4, 4), (4, 1), (2, 5)]), st.integers(0, 5))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_support_and_query_share_no_video_and_no_source(segments, shot, asked, seed):
    try:
        queries = largest_queries(segments, shot=shot, queries=asked)
    except UsageError:
        assume(False)
    episodes = sample_episodes(segments, count=5, shot=shot, queries=queries, seed=seed)
    assert (episodes.way, episodes.shot, episodes.queries, len(episodes.support)) == (2, shot, queries, 5)
    check_episodes(episodes, segments, shot=shot, queries=queries)


@given(tables(most=11, one_source=True), st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_the_largest_query_equals_brute_force(segments, shot, most):
    expected = min(most, brute_query(segments, shot))
    if expected:
        assert largest_query(segments, shot=shot, query=most) == expected
    else:
        with pytest.raises(UsageError):
            largest_query(segments, shot=shot, query=most)


@given(tables(most=11, one_source=True), st.integers(1, 2), st.tuples(st.integers(1, 6), st.integers(1, 6)), st.sampled_from(["disjoint", "published"]))
@settings(max_examples=80, deadline=None)
def test_unequal_queries_are_reduced_to_the_pair_with_most(segments, shot, asked, protocol):
    assume(asked[0] != asked[1])
    have = [sum(s.label == c for s in segments) - shot for c in range(2)]
    of_published = (min(asked[0], have[0]), min(asked[1], have[1])) if min(have) > 0 else (0, 0)
    expected = brute_queries(segments, shot, asked) if protocol == "disjoint" else of_published
    assert episodes_module.feasible_queries(segments, shot=shot, queries=asked, protocol=protocol) == expected


# Videos 0 and 1 share a source, video 2 has several segments of each class, the others one or two.
SMALL = segments_of([(0, 0, 0), (0, 0, 1), (1, 0, 0), (2, None, 0), (2, None, 0), (2, None, 1), (3, None, 1), (4, None, 0),
                     (5, None, 1), (5, None, 1)])
DRAWS = 40  # of each support set


@pytest.fixture(params=[0, 1, episodes_module.TRIES])
def tries(request, monkeypatch):
    """Support sets that are drawn by counting alone, by counting where one try failed, and as they are."""
    monkeypatch.setattr(episodes_module, "TRIES", request.param)


@pytest.mark.usefixtures("tries")
@pytest.mark.parametrize(("shot", "queries"), [(1, (1, 1)), (1, (2, 2)), (2, (1, 1)), (1, (3, 3)), (1, (3, 1)), (2, (1, 2))])
def test_support_sets_are_uniform_among_those_that_leave_the_queries(shot, queries):
    feasible = [support for support, free in support_sets(SMALL, shot) if all(len(f) >= q for f, q in zip(free, queries))]
    episodes = sample_episodes(SMALL, count=DRAWS * len(feasible), shot=shot, queries=queries, seed=0)
    drawn = Counter(frozenset(map(int, row)) for row in episodes.support)
    assert set(drawn) == set(feasible)
    frequencies = np.array([drawn[support] for support in feasible])
    # A sum of squared standard deviates has their number for a mean: five standard deviations above is no chance.
    surprise = ((frequencies - DRAWS) ** 2 / DRAWS).sum()
    assert surprise < len(feasible) + 5 * np.sqrt(2 * len(feasible))


@pytest.mark.usefixtures("tries")
def test_queries_are_uniform_among_those_left():
    episodes = sample_episodes(SMALL, count=800, shot=1, queries=(1, 1), seed=1)
    left = {support: free for support, free in support_sets(SMALL, 1)}
    for c in range(2):
        expected, drawn = Counter(), Counter(map(int, episodes.query[:, c]))
        for row in episodes.support:
            free = left[frozenset(map(int, row))][c]
            expected.update({i: 1 / len(free) for i in free})
        for i, number in expected.items():
            assert drawn[i] == pytest.approx(number, abs=5 * np.sqrt(number))


@pytest.mark.usefixtures("tries")
def test_the_place_in_the_support_says_nothing_about_the_video():
    episodes = sample_episodes(segments_of([(i, None, c) for i in range(8) for c in range(2)]), count=400, shot=3, queries=(1, 1), seed=0)
    first, last = episodes.support[:, 0].mean(), episodes.support[:, 2].mean()
    assert abs(first - last) < 1.5


@pytest.mark.usefixtures("tries")
def test_an_episode_depends_on_its_number_and_the_seed_alone(monkeypatch):
    draw = lambda count, seed: sample_episodes(SMALL, count=count, shot=1, queries=(2, 2), seed=seed)
    few, many, other = draw(3, 7), draw(20, 7), draw(20, 8)
    np.testing.assert_array_equal(many.support[:3], few.support)
    np.testing.assert_array_equal(many.query[:3], few.query)
    monkeypatch.setattr(episodes_module, "AT_ONCE", 1)  # one after the other
    np.testing.assert_array_equal(draw(20, 7).support, many.support)
    assert len({tuple(row) for row in many.support.tolist()}) > 1
    assert not np.array_equal(many.support, other.support)


@pytest.mark.parametrize(("tries", "protocol", "digest"), [
    (0, "disjoint", "47b9f13a5e4b6060"), (8, "disjoint", "820215fca40d76b7"), (8, "published", "cc839dee3dc15c2f")])
def test_equal_counts_draw_the_episodes_they_always_drew(tries, protocol, digest, monkeypatch):
    """Those of the code that knew equal counts alone."""
    monkeypatch.setattr(episodes_module, "TRIES", tries)
    drawn = sample_episodes(SMALL, count=50, shot=1, queries=(2, 2), seed=3, protocol=protocol)
    assert hashlib.sha256(np.concatenate([drawn.support, drawn.query], axis=1).tobytes()).hexdigest()[:16] == digest


def test_segments_tied_through_others_are_one_group():
    rows = [(0, 0, 0), (0, 1, 1), (1, 1, 0), (2, None, 1), (3, 2, 0), (4, 2, 0)]
    groups = group_segments(segments_of(rows))
    assert len(groups.sizes) == 3
    assert groups.of_segment[0] == groups.of_segment[1] == groups.of_segment[2] != groups.of_segment[3]
    assert groups.of_segment[4] == groups.of_segment[5]
    assert groups.sizes[groups.of_segment[[0, 3, 4]]].tolist() == [[2, 1], [0, 1], [2, 0]]


def test_too_few_segments_are_counted_and_a_shot_that_fits_is_named():
    segments = segments_of([(i, None, c) for i in range(4) for c in range(2)] + [(9, None, 0)])
    fits = max(k for k in range(1, 5) if brute_query(segments, k))
    with pytest.raises(UsageError) as error:
        largest_query(segments, shot=5, query=15)
    message = str(error.value)
    assert "5 normal segments in 5" in message and "4 abnormal segments in 4" in message
    assert f"--config.episodes.shot={fits} would fit" in message
    largest_query(segments, shot=fits, query=15)
    with pytest.raises(UsageError):
        largest_query(segments, shot=fits + 1, query=15)


@pytest.mark.parametrize("rows", [[], [(0, None, 0)], [(0, None, 0), (1, None, 1)], [(0, None, 0), (0, None, 1)]])
def test_where_no_shot_fits_the_error_says_so(rows):
    with pytest.raises(UsageError, match="not even 1 shot fits"):
        largest_query(segments_of(rows), shot=1, query=15)


def test_thousands_of_segments_in_hundreds_of_groups():
    rng = np.random.default_rng(0)
    segments = segments_of([(video, None, int(c)) for video in range(300) for c in rng.integers(0, 2, rng.integers(1, 30))])
    segments += segments_of([(999, None, c) for c in (0, 1) for _ in range(400)])
    assert len(segments) > 4000
    assert largest_query(segments, shot=5, query=15) == 15
    check_episodes(sample_episodes(segments, count=3, shot=5, queries=(15, 15), seed=0), segments, shot=5, queries=(15, 15))


def test_many_episodes_of_many_videos_take_little():
    """1,000 videos, 20 shots and 50 queries: 0.1 s an episode and gigabytes of counts once, which are now not needed."""
    segments = segments_of([(video, None, c) for video in range(1000) for c in range(2)])
    began = time.process_time()
    assert largest_query(segments, shot=20, query=50) == 50
    episodes = sample_episodes(segments, count=200, shot=20, queries=(50, 50), seed=0)
    assert time.process_time() - began < 5
    check_episodes(episodes, segments, shot=20, queries=(50, 50))


@pytest.mark.parametrize(("name", "shot", "query"), [("ucsd_ped1", 5, 15), ("cctv_accident", 5, 13), ("dad_dashcam", 1, 4)])
def test_queries_that_real_sets_leave(real_data, name, shot, query):
    """Of all their segments that hold a clip."""
    segments = [s for s in list_folder(real_data / name).segments if s.end - s.start + 1 >= 8]
    assert largest_query(segments, shot=shot, query=15) == query
    queries = (query, query)
    check_episodes(sample_episodes(segments, count=5, shot=shot, queries=queries, seed=0), segments, shot=shot, queries=queries)
