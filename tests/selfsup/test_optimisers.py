"""Learning rates at named steps, and which weights decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.selfsup.optimisers import learning_rate, make_optimiser, scaled_rate


@pytest.mark.parametrize(("name", "expected"), [
    ("step", {0: 1, 59: 1, 61: 0.1, 79: 0.1, 81: 0.01, 99: 0.01}), ("constant", {0: 1, 99: 1}), ("cosine", {0: 1, 50: 0.5, 100: 0})])
def test_rates(name, expected):
    rate = learning_rate(name, peak=2.0, steps=100, warmup=0)
    np.testing.assert_allclose([rate(step) for step in expected], [2 * share for share in expected.values()], atol=1e-6)


@pytest.mark.parametrize(("steps", "expected"), [(1, [1]), (2, [1, 0.01]), (3, [1, 0.1, 0.01]), (5, [1, 1, 1, 0.1, 0.01])])
def test_a_short_run_drops_as_a_long_one_but_never_at_once(steps, expected):
    rate = learning_rate("step", peak=1.0, steps=steps, warmup=0)
    np.testing.assert_allclose([rate(step) for step in range(steps)], expected, rtol=1e-6)


def test_a_warm_up_rises_to_the_rate():
    rate = learning_rate("constant", peak=2.0, steps=100, warmup=4)
    np.testing.assert_allclose([rate(step) for step in range(6)], [0.5, 1, 1.5, 2, 2, 2])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("decay_norms", [False, True])
def test_norms_decay_only_as_published_and_what_is_frozen_never(name, decay_norms):
    params = {"free": {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}, "frozen": {"kernel": jnp.ones((2, 2))}}
    optimiser = make_optimiser(params, {"free": True, "frozen": False}, name=name, rate=lambda step: 0.5, momentum=0.9, decay=0.1,
                               decay_norms=decay_norms)
    updates, _ = optimiser.update(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)
    moved = {"kernel": float(updates["free"]["kernel"][0, 0]), "scale": float(updates["free"]["scale"][0]), "frozen": float(updates["frozen"]["kernel"][0, 0])}
    assert moved == pytest.approx({"kernel": -0.05, "scale": -0.05 if decay_norms else 0.0, "frozen": 0.0})


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_accumulated_gradients_make_one_update_of_their_mean(name):
    params = {"free": {"kernel": jnp.ones((2, 2))}}
    options = {"name": name, "rate": lambda step: 0.5 / (1 + step), "momentum": 0.9, "decay": 0.1, "decay_norms": False}
    once, three = (make_optimiser(params, {"free": True}, **options, accumulate=n) for n in (1, 3))
    drawn = [{"free": {"kernel": jnp.asarray(x, jnp.float32)}} for x in np.random.default_rng(0).standard_normal((6, 2, 2))]
    slow, state, fast, many = params, once.init(params), params, three.init(params)
    for i, gradient in enumerate(drawn):
        updates, many = three.update(gradient, many, fast)
        fast = jax.tree.map(jnp.add, fast, updates)
        if i % 3 == 2:
            updates, state = once.update(jax.tree.map(lambda *x: sum(x) / 3, *drawn[i - 2:i + 1]), state, slow)
            slow = jax.tree.map(jnp.add, slow, updates)
        np.testing.assert_allclose(fast["free"]["kernel"], slow["free"]["kernel"], rtol=1e-5)


def test_the_rate_grows_with_the_batch_where_that_is_asked():
    assert scaled_rate(0.01, batch=64, per=0) == 0.01
    assert scaled_rate(0.01, batch=64, per=16) == pytest.approx(0.04)
