from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from acx_jax.contracts import ContextFeatures, Support
from acx_jax.fewshot import baselines, gradient_heads, mcp as mcp_module
from acx_jax.fewshot.episodes import class_labels, fitting_chunk, score_episodes
from acx_jax.fewshot.mcp import mcp
from acx_jax.fewshot.ragged import gather, ragged, size_groups
from acx_jax.models.context_perception import ContextHead
from acx_jax.runtime import devices

pytestmark = pytest.mark.usefixtures("quick_compiler")
FEATURES, SHOT, QUERY, EPISODES = 8, 2, 3, 8
LEARNERS = {
    "proto": baselines.proto(features=FEATURES, way=2, pool="mean"),
    "linear": gradient_heads.linear(
        features=FEATURES, way=2, pool="mean", epochs=2, batch=4, learning_rate=0.1, weight_decay=0.01),
    "mcp": mcp(ContextHead(hidden=8, groups=2, neighbours=3), features=FEATURES, epochs=2, batch=4, learning_rate=0.01),
}
every_learner = pytest.mark.parametrize("name", ["proto", "linear", pytest.param("mcp", marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def features() -> ContextFeatures:
    counts = np.random.default_rng(0).integers(1, 6, 14)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return ContextFeatures(np.random.default_rng(1).standard_normal((offsets[-1], FEATURES)).astype(np.float32), offsets)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, jax.Array]:
    """Support, query and key of each episode; segments 0..6 are normal, the others abnormal."""
    rng = np.random.default_rng(2)
    picks = [[rng.permutation(7) + 7 * c for c in range(2)] for _ in range(EPISODES)]
    support = np.array([np.concatenate([p[:SHOT] for p in pick]) for pick in picks], np.int32)
    query = np.array([np.concatenate([p[SHOT:SHOT + QUERY] for p in pick]) for pick in picks], np.int32)
    return support, query, jax.random.split(jax.random.key(0), EPISODES)


def test_gathered_graphs_hold_each_segments_vectors_and_zeros_behind(features):
    counts = np.diff(features.offsets)
    picked = np.array([[3, 0], [13, 3]])
    graphs = jax.jit(partial(gather, nodes=7))(ragged(features), picked)
    assert graphs.nodes.shape == (2, 2, 7, FEATURES) and graphs.nodes.dtype == np.float32
    for place in np.ndindex(picked.shape):
        s, nodes, mask = picked[place], graphs.nodes[place], graphs.mask[place]
        np.testing.assert_array_equal(nodes[:counts[s]], features.vectors[features.offsets[s]:features.offsets[s + 1]])
        assert not nodes[counts[s]:].any() and mask.sum() == counts[s] and mask[:counts[s]].all()


@settings(max_examples=200)
@given(st.lists(st.integers(1, 60) | st.integers(500, 3000), min_size=1, max_size=12))
def test_groups_hold_every_episode_once_and_save_half_where_they_are_two(largest):
    largest = np.array(largest)
    groups = size_groups(largest)
    assert sorted(np.concatenate([rows for _, rows in groups]).tolist()) == list(range(len(largest)))
    assert all((largest[rows] <= nodes).all() and (largest[rows] == nodes).any() and (np.diff(rows) > 0).all() for nodes, rows in groups)
    apart = min(sum(np.where(largest <= cut, cut, largest.max())) for cut in largest)
    padded = sum(nodes * len(rows) for nodes, rows in groups)
    assert padded == (apart if 2 * apart < largest.max() * len(largest) else largest.max() * len(largest))


def test_one_long_segment_does_not_pad_the_other_episodes():
    assert [(nodes, rows.tolist()) for nodes, rows in size_groups(np.array([10, 2000, 9, 11]))] == [(11, [0, 2, 3]), (2000, [1])]


def test_labels_are_class_major():
    assert class_labels(2, 3).tolist() == [0, 0, 0, 1, 1, 1] and class_labels(2, 3).dtype == np.int32


@every_learner
def test_all_episodes_at_once_equal_a_loop(name, features, drawn):
    learner, segments, nodes = LEARNERS[name], ragged(features), int(np.diff(features.offsets).max())
    together = jax.jit(score_episodes(learner, way=2, nodes=nodes))(segments, *drawn)
    assert together.shape == (EPISODES, 2 * QUERY, 2)

    @jax.jit
    def alone(support: np.ndarray, query: np.ndarray, key: jax.Array) -> jax.Array:
        init_key, adapt_key = jax.random.split(key)
        known = Support(gather(segments, support, nodes=nodes), np.array([0, 0, 1, 1]))
        return learner.logits(learner.adapt(learner.init(init_key), known, adapt_key), gather(segments, query, nodes=nodes))

    for logits, support, query, key in zip(together, *drawn):
        np.testing.assert_allclose(logits, alone(support, query, key), atol=1e-4)


@every_learner
def test_more_padding_changes_nothing(name, features, drawn):
    scores = [jax.jit(score_episodes(LEARNERS[name], way=2, nodes=nodes))(ragged(features), *drawn) for nodes in (5, 9)]
    np.testing.assert_allclose(*scores, atol=1e-4)


@every_learner
def test_four_devices_equal_one(name, features, drawn):
    assert devices.count() == 4
    segments, score = ragged(features), score_episodes(LEARNERS[name], way=2, nodes=5)
    mapped = devices.map_over_devices(score, in_axes=(None, 0, 0, 0))
    shared = devices.join(mapped(segments, *devices.split(drawn)))
    np.testing.assert_allclose(shared, jax.jit(score)(segments, *drawn), atol=1e-4)


def test_as_many_episodes_as_half_of_the_memory_holds():
    sizes = {"segments": 40, "nodes": 56, "features": 512}
    one = 2 * 4 * 40 * 56 * 512 + 64 * 2**20
    assert fitting_chunk(None, **sizes) == 10 and fitting_chunk(None, **sizes | {"nodes": 1}) == 100
    assert [fitting_chunk(memory, **sizes) for memory in (0, one, 2 * one, 80 * 2**30)] == [1, 1, 1, 80 * 2**30 // 2 // one]
    assert fitting_chunk(80 * 2**30, **sizes) > 200


def test_segments_scored_a_few_at_a_time_have_the_same_logits(features, monkeypatch):
    learner, graphs = LEARNERS["mcp"], gather(ragged(features), np.arange(5), nodes=5)
    params = jax.jit(learner.init)(jax.random.key(0))
    together = learner.logits(params, graphs)
    monkeypatch.setattr(mcp_module, "NODES_TOGETHER", 12)
    np.testing.assert_allclose(learner.logits(params, graphs), together, rtol=1e-4, atol=1e-5)
