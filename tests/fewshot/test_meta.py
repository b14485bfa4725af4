"""Meta-learning: gradients through the inner loop against differences, slow loops and other numbers of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot import meta
from acx_jax.fewshot.gradient_heads import two_layer
from acx_jax.fewshot.learner import Learner
from acx_jax.fewshot.mcp import mcp
from acx_jax.models.context_perception import ContextHead
from acx_jax.runtime import devices

FEATURES, WAY, NODES = 8, 2, 4
RATE = 0.3

pytestmark = pytest.mark.usefixtures("quick_compiler")


def side(rng: np.random.Generator, tasks: int, each: int) -> Support:
    """Padded segments of two classes that lie apart in a direction of each task's own; what is padded holds nonsense."""
    counts = rng.integers(1, NODES + 1, (tasks, WAY * each))
    mask = np.arange(NODES) < counts[..., None]
    labels = np.tile(np.repeat(np.arange(WAY), each), (tasks, 1)).astype(np.int32)
    towards = rng.standard_normal((tasks, 1, 1, FEATURES))
    nodes = rng.standard_normal((*mask.shape, FEATURES)) + towards * (2 * labels[..., None, None] - 1)
    return Support(Graphs(np.where(mask[..., None], nodes, 9.0).astype(np.float32), mask), labels)


def tasks(number: int, seed: int = 0) -> meta.Task:
    rng = np.random.default_rng(seed)
    return jax.tree.map(jnp.asarray, meta.Task(side(rng, number, 3), side(rng, number, 4)))


def one(batch: meta.Task, index: int = 0) -> meta.Task:
    return jax.tree.map(lambda x: x[index], batch)


def head(name: str) -> Learner:
    if name == "two_layer":
        return two_layer(features=FEATURES, way=WAY, pool="mean", epochs=1, batch=4, learning_rate=0.1, weight_decay=0.0)
    return mcp(ContextHead(WAY, hidden=8, groups=2, neighbours=2), features=FEATURES, epochs=1, batch=4, learning_rate=0.01)


def started(name: str, moving=lambda path: True) -> tuple[Learner, meta.Loss, meta.Start]:
    learner = head(name)
    params = jax.jit(learner.init)(jax.random.key(0))
    return learner, meta.classification_loss(learner), meta.Start(params, meta.uniform_rates(params, RATE, moving=moving))


def inner(loss: meta.Loss, start: meta.Start, support: Support, *, steps: int):
    return jax.jit(lambda start, support: meta.inner_loop(loss, start, support, steps=steps))(start, support)


def largest(a, b) -> float:
    return max(float(jnp.max(jnp.abs(x - y))) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_second_order_gradient_against_finite_differences():
    """Of a smooth head (cosine-free, tanh in place of ReLU), in float64, along random directions of start and step sizes."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)

        def loss(params, known):
            hidden = jnp.tanh(known.graphs.nodes.mean(axis=1) @ params["in"])
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(hidden @ params["out"], known.labels))

        params = {"in": jnp.asarray(rng.standard_normal((FEATURES, 5))), "out": jnp.asarray(rng.standard_normal((5, WAY)))}
        start = meta.Start(params, meta.uniform_rates(params, RATE))
        batch = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tasks(3))
        function = jax.jit(meta.gradient_through(loss, steps=3, first_order=False))
        _, gradient = function(start, batch)
        for seed in range(3):
            way = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(seed).standard_normal(x.shape)), start)
            step = 1e-5
            ahead, behind = (function(jax.tree.map(lambda p, w: p + s * w, start, way), batch)[0] for s in (step, -step))
            along = sum(jnp.vdot(g, w) for g, w in zip(jax.tree.leaves(gradient), jax.tree.leaves(way)))
            assert abs(float((ahead - behind) / (2 * step) - along)) < 1e-7 * max(1, abs(float(along)))


def test_second_order_gradient_through_the_context_head_against_finite_differences():
    """In float64; between the kinks of its ReLU, maximum and neighbours it is smooth."""
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree)  # noqa: E731
        _, loss, start = started("mcp")
        start, batch = double(start), double(tasks(1))
        function = jax.jit(meta.gradient_through(loss, steps=2, first_order=False))
        way = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(0).standard_normal(x.shape)), start)
        ahead, behind = (function(jax.tree.map(lambda p, w: p + s * w, start, way), batch)[0] for s in (1e-6, -1e-6))
        value, gradient = function(start, batch)
        along = sum(float(jnp.vdot(g, w)) for g, w in zip(jax.tree.leaves(gradient), jax.tree.leaves(way), strict=True))
        assert value.dtype == jnp.float64 and abs(along) > 1e-2
        assert float((ahead - behind) / 2e-6) == pytest.approx(along, rel=1e-5)


def test_first_order_is_the_gradient_where_the_inner_loop_ends():
    _, loss, start = started("two_layer")
    batch = tasks(2)
    _, gradient = jax.jit(meta.gradient_through(loss, steps=3, first_order=True))(start, batch)
    slow = [jax.jit(jax.grad(loss))(inner(loss, start, one(batch, i).support, steps=3), one(batch, i).query) for i in range(2)]
    assert largest(gradient.params, jax.tree.map(lambda a, b: (a + b) / 2, *slow)) < 1e-6
    second = jax.jit(meta.gradient_through(loss, steps=3, first_order=False))(start, batch)[1]
    assert largest(gradient.params, second.params) > 1e-4


def test_reptile_against_a_slow_loop():
    _, loss, start = started("two_layer")
    batch, ends, slope = tasks(3), [], jax.jit(jax.grad(loss))
    for i in range(3):
        task, params = one(batch, i), start.params
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), task.support, task.query)
        for _ in range(4):
            params = jax.tree.map(lambda p, g: p - RATE * g, params, slope(params, both))
        ends.append(params)
    value, direction = jax.jit(meta.reptile_gradient(loss, steps=4))(start, batch)
    wanted = jax.tree.map(lambda p, *end: p - sum(end) / 3, start.params, *ends)
    assert largest(direction.params, wanted) < 1e-6
    assert np.isfinite(value) and largest(direction.rates, jax.tree.map(jnp.zeros_like, start.rates)) == 0


def test_anil_moves_the_last_layer_alone_and_learns_all_of_the_start():
    _, loss, start = started("mcp", moving=lambda path: "classifier" in path)
    batch = tasks(2)
    end = inner(loss, start, one(batch).support, steps=2)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), start.params, end)["params"]
    assert all(jax.tree.leaves(moved.pop("classifier"))) and not any(jax.tree.leaves(moved))
    _, gradient = jax.jit(meta.gradient_through(loss, steps=2, first_order=False))(start, batch)
    assert all(bool(jnp.any(g != 0)) for g in jax.tree.leaves(gradient.params))


@pytest.mark.parametrize("learn_rates", [True, False])
def test_step_sizes_move_where_they_may(learn_rates):
    _, loss, start = started("mcp", moving=lambda path: "classifier" in path)
    step = meta.make_step(meta.gradient_through(loss, steps=2, first_order=False), optax.adam(0.01), learn_rates=learn_rates)
    state = jax.jit(step)(meta.initial_state(start, optax.adam(0.01)), tasks(2))[0]
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), state.start.rates, start.rates)["params"]
    assert all(jax.tree.leaves(same.pop("classifier"))) != learn_rates and all(jax.tree.leaves(same))
    assert int(state.step) == 1


def test_padding_is_invisible_to_the_inner_loop():
    learner, loss, start = started("mcp")
    task = one(tasks(1))
    wider = jax.tree.map(lambda x: x, task.support)
    grown = Graphs(jnp.pad(wider.graphs.nodes, ((0, 0), (0, 3), (0, 0)), constant_values=7.0),
                   jnp.pad(wider.graphs.mask, ((0, 0), (0, 3))))
    ends = [inner(loss, start, Support(graphs, wider.labels), steps=2) for graphs in (wider.graphs, grown)]
    assert largest(*ends) < 1e-5


def test_four_devices_do_what_one_does():
    _, loss, start = started("two_layer")
    optimiser = optax.adam(0.01)
    gradient = meta.gradient_through(loss, steps=2, first_order=False)
    alone = jax.jit(meta.make_step(gradient, optimiser, learn_rates=True))
    state = meta.initial_state(start, optimiser)
    mapped = devices.map_over_devices(meta.make_step(gradient, optimiser, learn_rates=True, axis=devices.AXIS))
    shared = devices.replicate(state)
    for seed in range(3):
        batch = tasks(8, seed)
        state, value = alone(state, batch)
        shared, values = mapped(shared, devices.split(batch))
        assert np.allclose(values, value, atol=1e-5)
    assert devices.count() == 4 and largest(devices.first(shared).start, state.start) < 1e-4


@pytest.mark.parametrize("method", ["maml", "fomaml", "reptile"])
def test_a_learnt_start_is_better_after_two_steps_than_a_random_one(method):
    """Tasks whose classes lie apart in one direction, with either sign: no start alone can tell, two steps can."""
    def drawn(seed: int) -> meta.Task:
        rng = np.random.default_rng(seed)
        signs, towards = rng.choice([-1.0, 1.0], (16, 1, 1, 1)), np.eye(FEATURES)[0] * 1.5
        def half(each: int) -> Support:
            known = side(rng, 16, each)
            noise = rng.standard_normal(known.graphs.nodes.shape)
            nodes = noise + signs * towards * (2 * known.labels[..., None, None] - 1)
            return Support(Graphs(nodes.astype(np.float32), known.graphs.mask), known.labels)
        return jax.tree.map(jnp.asarray, meta.Task(half(3), half(4)))

    _, loss, start = started("two_layer")
    gradient = meta.reptile_gradient(loss, steps=4) if method == "reptile" else meta.gradient_through(
        loss, steps=2, first_order=method == "fomaml")
    optimiser = optax.sgd(0.5) if method == "reptile" else optax.adam(0.01)
    step = jax.jit(meta.make_step(gradient, optimiser, learn_rates=False))
    state = meta.initial_state(start, optimiser)
    for seed in range(60):
        state, _ = step(state, drawn(seed))
    one_task, unseen = meta.query_loss(loss, steps=2, first_order=True), drawn(1000)
    measured = jax.jit(jax.vmap(one_task, in_axes=(None, 0)))
    before, after = (float(jnp.mean(measured(begin, unseen))) for begin in (start, state.start))
    assert after < before - 0.05


def test_from_start_is_a_learner_of_that_start():
    learner, loss, start = started("mcp")
    task = one(tasks(1))
    fitted = meta.from_start(learner, start, steps=3)
    params = jax.jit(fitted.adapt)(fitted.init(jax.random.key(5)), task.support, jax.random.key(6))
    assert largest(params, inner(loss, start, task.support, steps=3)) < 1e-6
    still = meta.from_start(learner, start, steps=0)
    assert largest(still.adapt(start.params, task.support, jax.random.key(6)), start.params) == 0
    fresh = meta.from_start(learner, None, steps=3, rates=lambda params: meta.uniform_rates(params, RATE))
    begin = jax.jit(fresh.init)(jax.random.key(1))
    assert largest(begin, jax.jit(learner.init)(jax.random.key(1))) == 0
    other = jax.jit(fresh.adapt)(begin, task.support, jax.random.key(6))
    assert largest(other, params) > 1e-3
    assert fitted.logits(params, task.query.graphs).shape == (8, WAY)
