"""What every learner must hold, whatever it computes."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.contracts import ContextFeatures, Graphs, Support
from acx_jax.fewshot import baselines, closed_form, gradient_heads, transductive
from acx_jax.fewshot.learner import Learner, pooled, pooled_segments
from acx_jax.fewshot.mcp import mcp
from acx_jax.models.context_perception import ContextHead

pytestmark = pytest.mark.usefixtures("quick_compiler")
FEATURES, SHOT, QUERY, NODES = 8, 3, 4, 5
EPOCHS = 2  # four steps of the iterative learners: later ones multiply rounding


class Case(NamedTuple):
    """make(epochs) -> learner. closed: fitted by a formula, not by steps. keyed: the key matters."""

    make: Any
    closed: bool = True
    keyed: bool = False


def make_mcp(epochs: int) -> Learner:
    return mcp(ContextHead(hidden=8, groups=2, neighbours=3), features=FEATURES, epochs=epochs, batch=4, learning_rate=0.01)


ON_VECTORS = {"features": FEATURES, "way": 2, "pool": "mean"}
BY_STEPS = {"batch": 4, "learning_rate": 0.1, "weight_decay": 0.01}


def by_steps(make: Any, **options: float) -> Case:
    return Case(lambda epochs: make(epochs=epochs, **ON_VECTORS, **BY_STEPS, **options), closed=False, keyed=True)


def by_formula(make: Any, **options: Any) -> Case:
    return Case(lambda epochs: make(**ON_VECTORS | options))


def make_propagated(epochs: int) -> Learner:
    return transductive.label_propagation(baselines.proto(**ON_VECTORS), pool="mean", neighbours=2, delta=0.5, alpha=0.5)


CASES = {
    "proto": by_formula(baselines.proto),
    "proto_middle": by_formula(baselines.proto, pool="middle"),
    "proto_temperature": by_formula(baselines.proto, temperature=128.0),
    "simpleshot": by_formula(baselines.simpleshot),
    "ridge": by_formula(closed_form.ridge, penalty=1.0),
    "svm": by_formula(closed_form.svm, penalty=0.1, steps=100),
    "bd_cspn": by_formula(transductive.bd_cspn, temperature=10.0),
    "proto+propagation": Case(make_propagated),
    "length": Case(lambda epochs: baselines.length(way=2)),
    "linear": by_steps(gradient_heads.linear),
    "two_layer": by_steps(gradient_heads.two_layer, spectral=1e-3),
    "cosine": by_steps(gradient_heads.cosine),
    "mcp": Case(make_mcp, closed=False, keyed=True),
}
NOT_BY_VECTORS = {"length"}  # whose answer no vector changes
every_learner = pytest.mark.parametrize("name", CASES)


def random_graphs(seed: int, number: int, nodes: int = NODES) -> Graphs:
    """Graphs of 1 to `nodes` real nodes; what stands in the others is zero."""
    rng = np.random.default_rng(seed)
    mask = np.arange(nodes) < rng.integers(1, nodes + 1, number)[:, None]
    mask[0] = True
    values = rng.standard_normal((number, nodes, FEATURES)).astype(np.float32)
    return Graphs(values * mask[..., None], mask)


def random_support(seed: int) -> Support:
    return Support(random_graphs(seed, 2 * SHOT), np.repeat(np.arange(2, dtype=np.int32), SHOT))


def padded(graphs: Graphs, more: int) -> Graphs:
    """The same graphs with `more` nodes behind, and garbage in every node that is not real."""
    mask = np.pad(graphs.mask, ((0, 0), (0, more)))
    nodes = np.pad(graphs.nodes, ((0, 0), (0, more), (0, 0)))
    garbage = 1e3 * np.random.default_rng(9).standard_normal(nodes.shape)
    return Graphs(np.where(mask[..., None], nodes, garbage).astype(np.float32), mask)


@cache
def initial(name: str, seed: int) -> Any:
    return _init(name)(jax.random.key(seed))


@cache
def _init(name: str) -> Any:
    return jax.jit(CASES[name].make(EPOCHS).init)


@cache
def fitted(name: str, epochs: int = EPOCHS) -> Any:
    """(params, support, key) -> adapted params, compiled."""
    return jax.jit(CASES[name].make(epochs).adapt)


@cache
def logits(name: str) -> Any:
    return jax.jit(CASES[name].make(EPOCHS).logits)


def run(name: str, support: Support, query: Graphs, seed: int = 0, epochs: int = EPOCHS) -> jax.Array:
    """A fresh learner fitted and asked."""
    return logits(name)(fitted(name, epochs)(initial(name, seed), support, jax.random.key(100 + seed)), query)


OF_FIVE = {
    "mcp": lambda: mcp(ContextHead(5, hidden=8, groups=2, neighbours=3), features=FEATURES, epochs=15, batch=15, learning_rate=0.03),
    "svm": lambda: closed_form.svm(features=FEATURES, way=5, pool="mean", penalty=0.1, steps=100),
    "proto+propagation": lambda: transductive.label_propagation(baselines.proto(features=FEATURES, way=5, pool="mean", temperature=1.0), pool="mean",
                                                                neighbours=4, delta=0.2, alpha=0.5),
    "bd_cspn": lambda: transductive.bd_cspn(features=FEATURES, way=5, pool="mean", temperature=10.0),
}


@pytest.mark.parametrize("name", OF_FIVE)
def test_five_classes_are_told_apart_and_have_no_order(name):
    """Classes that lie apart are all recognised; with the classes numbered in another way the logits move with them."""
    learner, labels = OF_FIVE[name](), np.repeat(np.arange(5, dtype=np.int32), SHOT)
    centres = 4 * np.eye(5, FEATURES, dtype=np.float32)

    def around(classes: np.ndarray, seed: int) -> Graphs:
        graphs = random_graphs(seed, len(classes))
        return Graphs(np.where(graphs.mask[..., None], 0.3 * graphs.nodes + centres[classes][:, None], 0).astype(np.float32), graphs.mask)

    @jax.jit
    def logits_of(support: Support, query: Graphs) -> jax.Array:
        return learner.logits(learner.adapt(learner.init(jax.random.key(0)), support, jax.random.key(1)), query)

    support, query, asked = around(labels, 0), around(np.repeat(np.arange(5), QUERY), 1), np.repeat(np.arange(5), QUERY)
    scores = np.asarray(logits_of(Support(support, labels), query))
    assert scores.shape == (5 * QUERY, 5) and np.isfinite(scores).all()
    assert scores.argmax(axis=-1).tolist() == asked.tolist()
    turned = np.array([3, 0, 4, 1, 2], np.int32)
    again = np.asarray(logits_of(Support(support, turned[labels]), query))
    if name == "mcp":  # whose random start knows the numbers
        assert again.argmax(axis=-1).tolist() == turned[asked].tolist()
    else:
        np.testing.assert_allclose(again[:, turned], scores, rtol=1e-3, atol=1e-3)


@every_learner
def test_logits_are_finite_and_a_query_by_a_class(name):
    scores = run(name, random_support(0), random_graphs(1, QUERY))
    assert scores.shape == (QUERY, 2) and scores.dtype == jnp.float32
    assert np.isfinite(scores).all()


@every_learner
def test_the_key_alone_decides(name):
    once, again, other = (run(name, random_support(0), random_graphs(1, QUERY), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.array_equal(once, other) != CASES[name].keyed


@every_learner
def test_what_stands_in_padding_is_invisible(name):
    support, query = random_support(0), random_graphs(1, QUERY)
    garbage = run(name, Support(padded(support.graphs, 0), support.labels), padded(query, 0))
    np.testing.assert_allclose(garbage, run(name, support, query), atol=1e-4)


@every_learner
def test_padded_equals_unpadded(name):
    """Graphs of three nodes, without padding and behind them garbage up to five."""
    rng = np.random.default_rng(0)
    whole = np.ones((2 * SHOT, 3), bool)
    support = Graphs(rng.standard_normal((2 * SHOT, 3, FEATURES)).astype(np.float32), whole)
    query = Graphs(rng.standard_normal((QUERY, 3, FEATURES)).astype(np.float32), whole[:QUERY])
    labels = random_support(0).labels
    wide = run(name, Support(padded(support, NODES - 3), labels), padded(query, NODES - 3))
    np.testing.assert_allclose(wide, run(name, Support(support, labels), query), atol=1e-4)


@every_learner
def test_vmap_over_episodes_equals_a_loop(name):
    episodes = [(random_support(i), random_graphs(10 + i, QUERY), i) for i in range(3)]
    params, supports, queries = (jax.tree.map(lambda *x: jnp.stack(x), *parts) for parts in (
        [initial(name, seed) for *_, seed in episodes], [e[0] for e in episodes], [e[1] for e in episodes]))
    keys = jax.vmap(jax.random.key)(100 + jnp.arange(3))
    together = jax.vmap(logits(name))(jax.vmap(fitted(name))(params, supports, keys), queries)
    np.testing.assert_allclose(together, [run(name, *episode) for episode in episodes], atol=1e-4)


@every_learner
def test_jit_equals_eager(name):
    """The iterative learners' fit is one scan, which is compiled in any case."""
    learner, support, query = CASES[name].make(EPOCHS), random_support(0), random_graphs(1, QUERY)
    params = initial(name, 0)
    if CASES[name].closed:
        np.testing.assert_array_equal(jax.tree.leaves(learner.init(jax.random.key(0)))[0], jax.tree.leaves(params)[0])
        params = learner.adapt(params, support, jax.random.key(100))
    else:
        params = fitted(name)(params, support, jax.random.key(100))
    np.testing.assert_allclose(learner.logits(params, query), run(name, support, query), atol=1e-4)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.closed])
def test_the_order_of_the_support_does_not_matter(name):
    support, query = random_support(0), random_graphs(1, QUERY)
    order = np.random.default_rng(0).permutation(2 * SHOT)
    shuffled = jax.tree.map(lambda x: x[order], support)
    np.testing.assert_allclose(run(name, shuffled, query), run(name, support, query), atol=1e-5)


@every_learner
def test_constant_vectors_give_finite_logits(name):
    support, query = random_support(0), random_graphs(1, QUERY)
    support = Support(Graphs(np.ones_like(support.graphs.nodes), support.graphs.mask), support.labels)
    scores = run(name, support, Graphs(np.ones_like(query.nodes), query.mask))
    assert np.isfinite(scores).all()


@every_learner
def test_the_gradient_through_adaptation_is_finite(name):
    """Of the scores, in the support's vectors: what meta-learning and the training of an encoder go through."""
    learner, support, query = CASES[name].make(1), random_support(0), random_graphs(1, QUERY)
    start = initial(name, 0)

    @jax.jit
    @jax.grad
    def gradient(nodes):
        params = learner.adapt(start, Support(Graphs(nodes, support.graphs.mask), support.labels), jax.random.key(1))
        return jax.nn.log_softmax(learner.logits(params, query))[:, 0].sum()

    found = np.asarray(gradient(support.graphs.nodes))
    assert np.isfinite(found).all()
    assert found.any() != (name in NOT_BY_VECTORS)
    assert not found[~support.graphs.mask].any()


@every_learner
def test_separable_classes_are_told_apart(name):
    rng = np.random.default_rng(0)

    def graphs(labels):
        mask = np.arange(NODES) < np.where(labels == 1, 5, 2)[:, None]
        values = np.where(labels == 1, 1.0, -1.0)[:, None, None] + 0.1 * rng.standard_normal((*mask.shape, FEATURES))
        return Graphs((values * mask[..., None]).astype(np.float32), mask)

    labels, asked = np.array([0, 0, 0, 1, 1, 1], np.int32), np.array([0, 1, 1, 0])
    scores = run(name, Support(graphs(labels), labels), graphs(asked), epochs=30)
    assert scores.argmax(-1).tolist() == asked.tolist()


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_pooling_takes_the_mean_or_the_middle_of_the_real_nodes(count, middle):
    nodes = np.random.default_rng(0).standard_normal((1, NODES, FEATURES)).astype(np.float32)
    graphs = Graphs(nodes, np.arange(NODES)[None] < count)
    np.testing.assert_allclose(pooled(graphs, "mean")[0], nodes[0, :count].mean(0), atol=1e-6)
    np.testing.assert_array_equal(pooled(graphs, "middle")[0], nodes[0, middle])


@pytest.mark.parametrize("pool", ["mean", "middle"])
def test_segments_pooled_beforehand_are_those_pooled_in_the_program(pool):
    graphs = random_graphs(0, 6)
    offsets = np.concatenate([[0], np.cumsum(graphs.mask.sum(axis=1))])
    once = pooled_segments(ContextFeatures(graphs.nodes[graphs.mask], offsets), pool)
    assert once.vectors.dtype == np.float32 and once.offsets.tolist() == list(range(7))
    np.testing.assert_allclose(once.vectors, pooled(graphs, pool), atol=1e-6)
