"""What every learner must hold, whatever it computes."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot import baselines
from acx_jax.fewshot.learner import Learner, pooled
from acx_jax.fewshot.mcp import mcp
from acx_jax.models.context_perception import ContextHead

FEATURES, SHOT, QUERY, NODES = 6, 3, 4, 5
HEAD = ContextHead(hidden=8, groups=2, neighbours=3)


class Case(NamedTuple):
    """make(epochs) -> learner. closed: no minibatches; graph: the order and the vectors of all nodes count."""

    make: Any
    closed: bool = True
    keyed: bool = False


def make_linear(epochs: int, pool: str = "mean") -> Learner:
    return baselines.linear(features=FEATURES, way=2, pool=pool, epochs=epochs, batch=4, learning_rate=0.1, weight_decay=0.01)


CASES = {
    "proto": Case(lambda epochs: baselines.proto(features=FEATURES, way=2, pool="mean")),
    "proto_middle": Case(lambda epochs: baselines.proto(features=FEATURES, way=2, pool="middle")),
    "length": Case(lambda epochs: baselines.length()),
    "linear": Case(make_linear, closed=False, keyed=True),
    "linear_middle": Case(partial(make_linear, pool="middle"), closed=False, keyed=True),
    "mcp": Case(lambda epochs: mcp(HEAD, features=FEATURES, epochs=epochs, batch=4, learning_rate=0.01), closed=False, keyed=True),
}
every_learner = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


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


def run(learner: Learner, support: Support, query: Graphs, key: jax.Array) -> jax.Array:
    init_key, adapt_key = jax.random.split(key)
    return learner.logits(learner.adapt(learner.init(init_key), support, adapt_key), query)


@every_learner
def test_logits_are_finite_and_a_query_by_a_class(case):
    logits = jax.jit(partial(run, case.make(2)))(random_support(0), random_graphs(1, QUERY), jax.random.key(0))
    assert logits.shape == (QUERY, 2) and logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


@every_learner
def test_the_key_alone_decides(case):
    program = jax.jit(partial(run, case.make(2)))
    support, query = random_support(0), random_graphs(1, QUERY)
    once, again, other = (program(support, query, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.array_equal(once, other) != case.keyed


@every_learner
@pytest.mark.parametrize("more", [0, 3])
def test_padding_is_invisible(case, more):
    """Iterative learners over their first three steps: later ones multiply rounding."""
    support, query = random_support(0), random_graphs(1, QUERY)
    support = jax.tree.map(lambda x: x[np.array([0, SHOT])], support)
    learner, key = case.make(3), jax.random.key(0)
    plain = run_jitted(learner, support, query, key)
    wide = run_jitted(learner, Support(padded(support.graphs, more), support.labels), padded(query, more), key)
    np.testing.assert_allclose(wide, plain, atol=1e-4)


@every_learner
def test_padded_queries_equal_unpadded_ones(case):
    learner = case.make(2)
    params = learner.adapt(learner.init(jax.random.key(0)), random_support(0), jax.random.key(1))
    query = random_graphs(1, QUERY)
    together = jax.jit(learner.logits)(params, padded(query, 2))
    for row, nodes, mask in zip(together, *query):
        alone = Graphs(nodes[mask][None], np.ones((1, mask.sum()), bool))
        np.testing.assert_allclose(row, learner.logits(params, alone)[0], atol=1e-4)


@every_learner
def test_vmap_over_episodes_equals_a_loop(case):
    learner = case.make(1)
    episodes = [(random_support(i), random_graphs(10 + i, QUERY), jax.random.key(i)) for i in range(3)]
    together = jax.jit(jax.vmap(partial(run, learner)))(*jax.tree.map(lambda *x: jnp.stack(x), *episodes))
    program = jax.jit(partial(run, learner))
    np.testing.assert_allclose(together, [program(*episode) for episode in episodes], atol=1e-4)


@every_learner
def test_jit_equals_eager(case):
    learner, support, query, key = case.make(1), random_support(0), random_graphs(1, QUERY), jax.random.key(3)
    np.testing.assert_allclose(run(learner, support, query, key), run_jitted(learner, support, query, key), atol=1e-4)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.closed])
def test_the_order_of_the_support_does_not_matter(name):
    learner, support, query = CASES[name].make(1), random_support(0), random_graphs(1, QUERY)
    order = np.random.default_rng(0).permutation(2 * SHOT)
    shuffled = jax.tree.map(lambda x: x[order], support)
    np.testing.assert_allclose(run(learner, shuffled, query, jax.random.key(0)), run(learner, support, query, jax.random.key(0)),
                               atol=1e-5)


@every_learner
def test_separable_classes_are_told_apart(case):
    rng = np.random.default_rng(0)
    counts = {0: 2, 1: 5}

    def graphs(labels):
        mask = np.array([np.arange(NODES) < counts[c] for c in labels])
        signal = np.where(np.array(labels)[:, None, None] == 1, 1.0, -1.0) + 0.1 * rng.standard_normal((len(labels), NODES, FEATURES))
        return Graphs((signal * mask[..., None]).astype(np.float32), mask)

    labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
    logits = run_jitted(case.make(30), Support(graphs(labels), labels), graphs([0, 1, 1, 0]), jax.random.key(0))
    assert logits.argmax(-1).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_pooling_takes_the_mean_or_the_middle_of_the_real_nodes(count, middle):
    nodes = np.random.default_rng(0).standard_normal((1, NODES, FEATURES)).astype(np.float32)
    graphs = Graphs(nodes, np.arange(NODES)[None] < count)
    np.testing.assert_allclose(pooled(graphs, "mean")[0], nodes[0, :count].mean(0), atol=1e-6)
    np.testing.assert_array_equal(pooled(graphs, "middle")[0], nodes[0, middle])


def run_jitted(learner: Learner, *arguments: Any) -> jax.Array:
    return jax.jit(partial(run, learner))(*arguments)
