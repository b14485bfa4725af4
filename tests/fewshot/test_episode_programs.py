import jax
import numpy as np
import pytest

from acx_jax.contracts import ContextFeatures, Graphs, Support
from acx_jax.fewshot import baselines, gradient_heads
from acx_jax.fewshot.episodes import fitting_chunk, class_labels, padded_graphs, score_episodes
from acx_jax.fewshot.mcp import mcp
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


def test_graphs_hold_each_segments_vectors_and_zeros_behind(features):
    graphs = padded_graphs(features)
    counts = np.diff(features.offsets)
    assert graphs.nodes.shape == (len(counts), counts.max(), FEATURES) and graphs.nodes.dtype == np.float32
    for s, count in enumerate(counts):
        np.testing.assert_array_equal(graphs.nodes[s, :count], features.vectors[features.offsets[s]:features.offsets[s + 1]])
        assert not graphs.nodes[s, count:].any()
        assert graphs.mask[s].sum() == count and graphs.mask[s, :count].all()


def test_labels_are_class_major():
    assert class_labels(2, 3).tolist() == [0, 0, 0, 1, 1, 1] and class_labels(2, 3).dtype == np.int32


@every_learner
def test_all_episodes_at_once_equal_a_loop(name, features, drawn):
    learner, graphs = LEARNERS[name], padded_graphs(features)
    together = jax.jit(score_episodes(learner, way=2))(graphs, *drawn)
    assert together.shape == (EPISODES, 2 * QUERY, 2)

    @jax.jit
    def alone(support: Graphs, query: Graphs, key: jax.Array) -> jax.Array:
        init_key, adapt_key = jax.random.split(key)
        known = Support(support, np.array([0, 0, 1, 1]))
        return learner.logits(learner.adapt(learner.init(init_key), known, adapt_key), query)

    for logits, support, query, key in zip(together, *drawn):
        expected = alone(Graphs(*(x[support] for x in graphs)), Graphs(*(x[query] for x in graphs)), key)
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@every_learner
def test_four_devices_equal_one(name, features, drawn):
    assert devices.count() == 4
    graphs, score = padded_graphs(features), score_episodes(LEARNERS[name], way=2)
    mapped = devices.map_over_devices(score, in_axes=(None, 0, 0, 0))
    shared = devices.join(mapped(graphs, *devices.split(drawn)))
    np.testing.assert_allclose(shared, jax.jit(score)(graphs, *drawn), atol=1e-4)


def test_as_many_episodes_as_half_of_the_memory_holds():
    sizes = {"segments": 40, "nodes": 56, "features": 512}
    one = 2 * 4 * 40 * 56 * 512 + 64 * 2**20
    assert fitting_chunk(None, **sizes) == 10 and fitting_chunk(None, **sizes | {"nodes": 1}) == 100
    assert [fitting_chunk(memory, **sizes) for memory in (0, one, 2 * one, 80 * 2**30)] == [1, 1, 1, 80 * 2**30 // 2 // one]
    assert fitting_chunk(80 * 2**30, **sizes) > 200
