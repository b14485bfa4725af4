"""Episodes that are written down and replayed, and files that are refused."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from acx_jax.contracts import Episodes, Segment, StoredSegment
from acx_jax.data.episode_file import Origin, data_hash, load_episodes, save_episodes
from acx_jax.data.episodes import sample_episodes
from acx_jax.errors import UsageError

STORED = [StoredSegment(Segment(f"v{i}", 0, 30, i % 2), 31, i, 1) for i in range(16)]
SEGMENTS = [stored.segment for stored in STORED]
HASH = data_hash(STORED)


def written(path, *, shot=1, queries=(2, 2), seed=0, data=HASH):
    episodes = sample_episodes(SEGMENTS, count=5, shot=shot, queries=queries, seed=seed)
    save_episodes(path, episodes, Origin(data, seed, "disjoint"))
    return episodes


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(0, 2**32 - 1))
def test_what_is_read_is_what_was_written(tmp_path_factory, shot, queries, seed):
    path = tmp_path_factory.mktemp("episodes") / "episodes.npz"
    episodes = written(path, shot=shot, queries=queries, seed=seed)
    found, origin = load_episodes(path, data=HASH, segments=SEGMENTS)
    assert all(np.array_equal(a, b) for a, b in zip(found, episodes)) and origin == Origin(HASH, seed, "disjoint")
    assert found.queries == queries and all(type(number) is int for number in found.queries)


def test_files_of_the_first_format_are_read(tmp_path):
    episodes = written(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as arrays:
        facts = {name: arrays[name] for name in arrays if name != "queries"}
    np.savez(tmp_path / "old.npz", **facts | {"format": 1, "way": 2})
    found, _ = load_episodes(tmp_path / "old.npz", data=HASH, segments=SEGMENTS)
    assert found.queries == (2, 2) and np.array_equal(found.query, episodes.query)
    np.savez(tmp_path / "bad.npz", **facts | {"format": 1, "way": 3})
    with pytest.raises(UsageError, match="bad.npz: its arrays are not those of episodes"):
        load_episodes(tmp_path / "bad.npz", data=HASH, segments=SEGMENTS)


CATEGORIES = [Segment(f"w{i}", 0, 30, int(name != "a"), name) for i, name in enumerate("abcdabcd")]


@pytest.mark.parametrize("change, said", [
    ({}, ""), ({"categories": np.array([["b", "b"], ["c", "d"]])}, "not those of episodes"), ({"categories": np.array([["b", ""], ["c", "d"]])}, "not those of"),
    ({"categories": np.array([["b"], ["c"]])}, "not those of episodes"), ({"categories": np.array([[1, 2], [2, 3]])}, "not those of episodes"),
    ({"categories": np.array([["c", "b"], ["c", "d"]])}, "not of the classes"), ({"queries": [1, 2, 1]}, "not of the classes"),
    ({"queries": [4], "categories": np.zeros((2, 0), "U1")}, "not those of episodes"),
])
def test_the_categories_of_each_episode_are_written_read_and_checked(tmp_path, change, said):
    episodes = Episodes(np.int32([[0, 1, 2], [0, 2, 3]]), np.int32([[4, 8, 5, 6], [4, 8, 6, 7]]), (2, 1, 1), np.array([["b", "c"], ["c", "d"]]))
    segments = [*CATEGORIES, Segment("w8", 0, 30, 0)]
    save_episodes(tmp_path / "e.npz", episodes, Origin(HASH, 0, "disjoint"))
    with np.load(tmp_path / "e.npz") as arrays:
        np.savez(tmp_path / "e.npz", **(dict(arrays) | change))
    if said:
        with pytest.raises(UsageError, match=said):
            load_episodes(tmp_path / "e.npz", data=HASH, segments=segments)
    else:
        found, _ = load_episodes(tmp_path / "e.npz", data=HASH, segments=segments)
        assert (found.way, found.shot, found.queries) == (3, 1, (2, 1, 1)) and np.array_equal(found.categories, episodes.categories)


def test_the_hash_is_of_the_segments_alone():
    assert data_hash([s._replace(first_record=9, records=3) for s in STORED]) == HASH
    for other in (STORED[:-1], STORED[::-1], [STORED[0]._replace(frames=30), *STORED[1:]],
                  [STORED[0]._replace(segment=SEGMENTS[0]._replace(label=1)), *STORED[1:]]):
        assert data_hash(other) != HASH


@pytest.mark.parametrize("change, said", [
    ({"support": np.zeros((5, 2), np.float32)}, "not those of episodes"), ({"queries": [2, 1, 1]}, "not those of episodes"),
    ({"queries": [4, 0]}, "not those of episodes"), ({"queries": [2, 3]}, "not those of episodes"), ({"queries": 2}, "is no file of episodes"),
    ({"queries": [[2, 2]]}, "is no file of episodes"), ({"queries": [1, 3]}, "not of the classes"),
    ({"query": np.zeros((4, 4), np.int32)}, "not those of episodes"), ({"query": np.zeros((5, 0), np.int32)}, "not those of episodes"),
    ({"support": np.full((5, 2), 16, np.int32)}, "segments that are not there"), ({"support": np.full((5, 2), -1, np.int32)}, "not there"),
    ({"support": np.zeros((5, 2), np.int32)}, "not of the classes"), ({"query": np.tile(np.int32([0, 0, 1, 1]), (5, 1))}, "one segment twice"),
    ({"protocol": "any"}, "its protocol is 'any', expected disjoint or published"),
    ({"support": np.int32([[0, 1]]), "query": np.int32([[2, 4, 3, 5]])}, "a single episode"),
    ({"format": 3}, "its format is 3, expected 2 or 1"), ({"data": "0123456789abcdef"}, "drawn from other data"),
    ({"support": np.array([[{}]])}, "is no file of episodes"),
])
def test_what_is_wrong_is_named(tmp_path, change, said):
    written(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as arrays:
        np.savez(tmp_path / "bad.npz", **(dict(arrays) | change))
    with pytest.raises(UsageError, match=said) as error:
        load_episodes(tmp_path / "bad.npz", data=HASH, segments=SEGMENTS)
    assert "bad.npz" in str(error.value)


@pytest.mark.parametrize("content, said", [(None, "does not exist"), (b"", "is no file of episodes: it is no .npz archive"),
                                           (b"video,label", "it is no .npz archive"), (b"PK\x03\x04 and then nothing", "episodes.npz is"),
                                           (b"\x93NUMPY", "is no file of episodes")])
def test_other_files_are_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "episodes.npz").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        load_episodes(tmp_path / "episodes.npz", data=HASH, segments=SEGMENTS)


@pytest.mark.parametrize("support, query, row, video", [
    ([[0, 1], [2, 1]], [[6, 8, 7, 9], [6, 8, 3, 9]], 1, "v3"), ([[4, 1], [0, 1]], [[6, 8, 5, 9], [6, 8, 7, 9]], 0, "v4"),
])
def test_episodes_that_break_their_protocol_are_named(tmp_path, support, query, row, video):
    """Segments 2 and 3 are of one source, 4 and 5 of one video: they meet only where any two may."""
    segments = [s._replace(video="v4" if i == 5 else s.video, source="camera" if i in (2, 3) else "") for i, s in enumerate(SEGMENTS)]
    path, episodes = tmp_path / "episodes.npz", Episodes(np.int32(support), np.int32(query), (2, 2))
    save_episodes(path, episodes, Origin(HASH, 0, "published"))
    assert load_episodes(path, data=HASH, segments=segments)[1].protocol == "published"
    save_episodes(path, episodes, Origin(HASH, 0, "disjoint"))
    with pytest.raises(UsageError, match=rf"row {row} has abnormal segment 0..30 of {video} as a query"):
        load_episodes(path, data=HASH, segments=segments)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    written(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    for end in range(0, len(whole) - 1, 97):
        (tmp_path / "cut.npz").write_bytes(whole[:end])
        with pytest.raises(UsageError, match="cut.npz"):
            load_episodes(tmp_path / "cut.npz", data=HASH, segments=SEGMENTS)
