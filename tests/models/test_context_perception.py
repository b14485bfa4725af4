from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acx_jax.models import neighbours
from acx_jax.models.context_perception import ContextHead, GroupedConv
from acx_jax.models.neighbours import of_neighbours

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.mark.parametrize(("nodes", "padding", "pool", "seed"), [(1, 4, "mean", 0), (4, 1, "max", 1), (9, 6, "mean", 2)])
def test_padding_is_invisible_in_logits_and_gradients(nodes, padding, pool, seed):
    head = ContextHead(hidden=16, groups=4, pool=pool, scaled_paths=True)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((nodes, 8)).astype(np.float32)
    padded = np.concatenate([x, 100 * rng.standard_normal((padding, 8)).astype(np.float32)])
    params = jax.jit(head.init)(jax.random.key(seed), x, np.ones(nodes, bool))
    whole, mask = np.ones(nodes, bool), np.arange(nodes + padding) < nodes

    def score(params, x, mask):
        return head.apply(params, x, mask) @ jnp.array([1.0, -2.0])

    both = jax.jit(jax.value_and_grad(score))
    plain, masked = both(params, x, whole), both(params, padded, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, masked)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_segments_packed_one_after_the_other_equal_each_alone(pool):
    head, counts = ContextHead(hidden=16, groups=4, pool=pool), [3, 1, 7]
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((n, 8)).astype(np.float32) for n in counts]
    segment = np.repeat([0, 1, 2, -1], [*counts, 4])
    params = jax.jit(head.init)(jax.random.key(0), parts[0], np.ones(3, bool))
    packed = np.concatenate([*parts, 100 * rng.standard_normal((4, 8)).astype(np.float32)])

    def together(params):
        return head.apply(params, packed, segment, segments=4, method="packed")

    def alone(params):
        return jnp.stack([head.apply(params, part, np.ones(len(part), bool)) for part in parts])

    logits = jax.jit(together)(params)
    assert np.isfinite(logits).all()  # also of the fourth segment, which has no nodes
    np.testing.assert_allclose(logits[:3], jax.jit(alone)(params), rtol=1e-4, atol=1e-5)
    gradients = [jax.jit(jax.grad(lambda p, of=of: (of(p)[:3] ** 2).sum()))(params) for of in (together, alone)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *gradients)


@pytest.mark.parametrize("many", [1, 256])
@given(nodes=st.integers(1, 12), real=st.integers(1, 12), k=st.integers(1, 15), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_neighbours_equal_a_sort(many, nodes, real, k, seed):
    real, rng = min(real, nodes), np.random.default_rng(seed)
    x, values = (rng.standard_normal((2, nodes, 3)).astype(np.float32) for _ in range(2))
    with mock.patch.multiple(neighbours, MANY=many, BLOCK=5):
        found, valid = of_neighbours(jnp.asarray(values), jnp.asarray(x), jnp.broadcast_to(jnp.where(jnp.arange(nodes) < real, 0, -1), (2, nodes)), k=k)
    assert found.shape == (2, nodes, min(k, nodes), 3) and np.isfinite(found).all()
    for graph, n in np.ndindex(2, real):
        expected = np.argsort(((x[graph, :real] - x[graph, n]) ** 2).sum(-1), kind="stable")[: min(k, real)]
        np.testing.assert_array_equal(found[graph, n][valid[graph, n]], values[graph, expected])
    assert (valid.sum(axis=-1)[:, real:] == 1).all()


@pytest.mark.parametrize("many", [1, 256])
def test_equal_nodes_keep_every_node_its_own_neighbour(many):
    with mock.patch.multiple(neighbours, MANY=many, BLOCK=4):
        found, _ = of_neighbours(jnp.arange(6.0)[:, None], jnp.ones((6, 3)), jnp.zeros(6, int), k=2)
    assert found[:, 0, 0].tolist() == list(range(6))
    assert found[:, 1, 0].tolist() == [1, 0, 0, 0, 0, 0]


def test_many_nodes_give_the_logits_and_gradients_of_few():
    head, rng = ContextHead(hidden=16, groups=4), np.random.default_rng(0)
    x, segment = rng.standard_normal((23, 8)).astype(np.float32), np.repeat([0, 1, -1], [12, 9, 2])
    params = jax.jit(head.init)(jax.random.key(0), x, np.ones(23, bool))

    def loss(params, x):
        return (head.apply(params, x, segment, segments=2, method="packed") ** 2).sum()

    few = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)
    with mock.patch.multiple(neighbours, MANY=1, BLOCK=5):
        many = jax.jit(jax.value_and_grad(lambda *of: loss(*of), argnums=(0, 1)))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), few, many)


def test_grouped_convolution_equals_a_loop():
    layer = GroupedConv(features=24, groups=6, taps=3)
    x = np.random.default_rng(0).standard_normal((7, 12)).astype(np.float32)
    follows = np.arange(7) > 0
    params = layer.init(jax.random.key(0), x, follows)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    expected = np.zeros((7, 24))
    for n in range(7):
        for g in range(6):
            for tap in range(3):
                if 0 <= n + tap - 1 < 7:
                    expected[n, 4 * g:4 * g + 4] += x[n + tap - 1, 2 * g:2 * g + 2] @ kernel[g, tap]
    np.testing.assert_allclose(layer.apply(params, x, follows), expected + bias, atol=1e-5)


def test_published_head_has_the_published_number_of_parameters():
    params = jax.jit(ContextHead(scaled_paths=True).init)(jax.random.key(0), jnp.zeros((4, 512)), jnp.ones(4, bool))
    assert sum(x.size for x in jax.tree.leaves(params)) == 134_277
