"""The learners against recorded outputs of the published code and against slow loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recorded_head import recorded_params
from sklearn.neighbors import NearestCentroid

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot import baselines, gradient_heads
from acx_jax.fewshot.fit import batch_order, fit_in_order, fit_minibatches, mean_cross_entropy
from acx_jax.fewshot.mcp import mcp
from acx_jax.models.context_perception import ContextHead

pytestmark = pytest.mark.usefixtures("quick_compiler")


def as_graphs(vectors: np.ndarray) -> Graphs:
    """One node a segment."""
    return Graphs(vectors[:, None].astype(np.float32), np.ones((len(vectors), 1), bool))


@pytest.mark.parametrize(("size", "batch", "epochs"), [(10, 4, 3), (8, 4, 2), (1, 3, 2), (7, 7, 1), (5, 1, 2)])
def test_each_epoch_is_a_permutation_and_only_its_last_batch_is_filled_up(size, batch, epochs):
    indices, counts = batch_order(jax.random.key(0), size=size, batch=batch, epochs=epochs)
    steps = -(-size // batch)
    assert indices.shape == counts.shape == (epochs * steps, batch)
    for epoch in range(epochs):
        own, real = (np.asarray(x[epoch * steps:(epoch + 1) * steps]).ravel() for x in (indices, counts))
        assert sorted(own[real]) == list(range(size))
        assert real[:size].all() and not real[size:].any()
        assert ((own >= 0) & (own < size)).all()


def test_epochs_and_keys_have_orders_of_their_own():
    orders = [batch_order(jax.random.key(seed), size=10, batch=4, epochs=2)[0].reshape(2, 12)[:, :10] for seed in (0, 1)]
    assert len({tuple(row) for order in orders for row in np.asarray(order).tolist()}) == 4


def test_the_loss_is_the_mean_over_the_rows_that_count():
    logits = jnp.array([[1.0, -1.0], [0.5, 2.0], [3.0, 3.0]])
    value = mean_cross_entropy(logits, jnp.array([0, 1, 0]), jnp.array([True, True, False]))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(value, -np.log([shares[0, 0], shares[1, 1]]).mean(), rtol=1e-6)


def test_rows_that_do_not_count_have_no_gradient():
    gradient = jax.grad(mean_cross_entropy)(jnp.ones((3, 2)), jnp.array([0, 1, 0]), jnp.array([True, False, True]))
    assert not gradient[1].any() and gradient[0].any() and gradient[2].any()


def test_prototypes_are_the_nearest_centroids():
    rng = np.random.default_rng(0)
    support, query, labels = rng.standard_normal((9, 5)), rng.standard_normal((40, 5)), np.array([0, 2, 1, 1, 0, 2, 2, 2, 0])
    learner = baselines.proto(features=5, way=3, pool="mean")
    params = learner.adapt(learner.init(jax.random.key(0)), Support(as_graphs(support), labels), jax.random.key(0))
    logits = learner.logits(params, as_graphs(query))
    np.testing.assert_array_equal(logits.argmax(-1), NearestCentroid().fit(support, labels).predict(query))
    means = np.stack([support[labels == c].mean(0) for c in range(3)])
    np.testing.assert_allclose(logits, -((query[:, None] - means) ** 2).sum(-1) / 5, atol=1e-5)


def test_length_is_the_nearest_mean_of_the_logarithm():
    counts, labels = np.array([2, 4, 9, 30]), np.array([0, 0, 1, 1])
    graphs = lambda counts: Graphs(np.zeros((len(counts), 40, 3), np.float32), np.arange(40) < np.array(counts)[:, None])
    learner = baselines.length(way=2)
    params = learner.adapt(learner.init(jax.random.key(0)), Support(graphs(counts), labels), jax.random.key(0))
    logs = np.log(counts)
    expected = -((np.log([1, 3, 12, 40])[:, None] - [logs[:2].mean(), logs[2:].mean()]) ** 2) / logs.var()
    np.testing.assert_allclose(learner.logits(params, graphs([1, 3, 12, 40])), expected, rtol=1e-4)


def test_segments_of_one_length_tell_nothing():
    graphs = Graphs(np.zeros((4, 1, 3), np.float32), np.ones((4, 1), bool))
    learner = baselines.length(way=2)
    params = learner.adapt(learner.init(jax.random.key(0)), Support(graphs, np.array([0, 0, 1, 1])), jax.random.key(0))
    assert not np.asarray(learner.logits(params, graphs)).any()


def sgd_loop(weights, gradient_of, steps, *, rate, momentum, dampening, decay):
    """PyTorch's SGD: the first buffer is the decayed gradient itself; later ones are dampened."""
    buffer = None
    for step in range(steps):
        gradient = gradient_of(step, weights) + decay * weights
        buffer = gradient if buffer is None else momentum * buffer + (1 - dampening) * gradient
        weights = weights - rate * buffer
    return weights


def test_dampened_momentum_is_that_of_pytorch():
    gradients = np.random.default_rng(0).standard_normal((6, 3))
    optimiser = optax.chain(optax.add_decayed_weights(0.1), gradient_heads.dampened_momentum(0.9, 0.7), optax.scale(-0.2))
    weights = jnp.array([1.0, -2.0, 3.0])
    state = optimiser.init(weights)
    for gradient in gradients:
        updates, state = optimiser.update(jnp.asarray(gradient, jnp.float32), state, weights)
        weights = optax.apply_updates(weights, updates)
    expected = sgd_loop(np.array([1.0, -2.0, 3.0]), lambda step, _: gradients[step], 6, rate=0.2, momentum=0.9, dampening=0.7,
                        decay=0.1)
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_the_linear_head_is_fitted_as_by_a_loop():
    rng = np.random.default_rng(0)
    vectors, labels = rng.standard_normal((6, 4)), np.array([0, 0, 0, 1, 1, 1])
    learner = gradient_heads.linear(features=4, way=2, pool="mean", epochs=5, batch=4, learning_rate=0.05, weight_decay=0.3)
    start, key = learner.init(jax.random.key(0)), jax.random.key(1)
    fitted = learner.adapt(start, Support(as_graphs(vectors), labels), key)
    indices, counts = map(np.asarray, batch_order(key, size=6, batch=4, epochs=5))
    inputs = np.concatenate([vectors, np.ones((6, 1))], axis=1)

    def gradient_of(step, weights):
        rows = indices[step][counts[step]]
        shares = np.exp(inputs[rows] @ weights)
        shares /= shares.sum(1, keepdims=True)
        return inputs[rows].T @ (shares - np.eye(2)[labels[rows]]) / len(rows)

    weights = np.concatenate([start["kernel"], start["bias"][None]]).astype(float)
    expected = sgd_loop(weights, gradient_of, 10, rate=0.05, momentum=0.9, dampening=0.9, decay=0.3)
    np.testing.assert_allclose(np.concatenate([fitted["kernel"], fitted["bias"][None]]), expected, atol=1e-5)


def test_the_context_head_trains_as_recorded(parity):
    recorded = np.load(parity / "mcp_training.npz")
    clips, labels = [recorded[f"clip{i}"] for i in range(10)], recorded["labels"].astype(np.int32)
    mask = np.arange(20) < np.array([len(clip) for clip in clips])[:, None]
    nodes = np.zeros((*mask.shape, 512), np.float32)
    nodes[mask] = np.concatenate(clips)
    learner = mcp(ContextHead(), features=512, epochs=1, batch=4, learning_rate=0.01)

    def loss(params, part, counts):
        return mean_cross_entropy(learner.logits(params, part.graphs), part.labels, counts)

    order = np.pad(recorded["order"], ((0, 0), (0, 2))).reshape(24, 4)
    counts = np.tile(np.arange(12).reshape(3, 4) < 10, (8, 1))
    fit = jax.jit(lambda params, support, order: fit_in_order(loss, optax.adam(0.01), params, support, order)[1])
    losses = fit(recorded_params(), Support(Graphs(nodes, mask), labels), (order[:9], counts[:9]))
    np.testing.assert_allclose(losses[:8], recorded["losses"][:8], rtol=1e-2, atol=1e-2)


def test_minibatches_are_fitted_in_the_order_of_the_key():
    support = Support(as_graphs(np.arange(5.0)[:, None]), np.zeros(5, np.int32))
    loss = lambda params, part, counts: jnp.sum((params - part.graphs.nodes[:, 0, 0]) ** 2 * counts)
    fitted = fit_minibatches(loss, optax.sgd(0.1), jnp.zeros(()), support, jax.random.key(4), batch=8, epochs=2)
    order = batch_order(jax.random.key(4), size=5, batch=5, epochs=2)
    np.testing.assert_allclose(fitted, fit_in_order(loss, optax.sgd(0.1), jnp.zeros(()), support, order)[0])
    np.testing.assert_allclose(fitted, 2.0, atol=1e-6)  # a step of 0.1 x 5 samples x 2 lands on their mean
