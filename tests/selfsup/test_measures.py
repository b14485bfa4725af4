"""Alignment and uniformity against loops over pairs, and that devices change nothing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from acx_jax.selfsup.measures import alignment, uniformity

pytestmark = pytest.mark.usefixtures("quick_compiler")


def unit(seed: int, rows: int, dimension: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), rows=st.sampled_from([2, 5]), dimension=st.sampled_from([2, 7]))
def test_both_against_loops(seed, rows, dimension):
    query, key = unit(seed, rows, dimension).astype(np.float64), unit(seed + 100, rows, dimension).astype(np.float64)
    aligned = np.mean([np.sum((q - k) ** 2) for q, k in zip(query, key)])
    spread = np.log(np.mean([np.exp(-2 * np.sum((x - y) ** 2)) for x, y in itertools.combinations(query, 2)]))
    np.testing.assert_allclose(alignment(jnp.float32(query), jnp.float32(key)), aligned, rtol=1e-5)
    np.testing.assert_allclose(uniformity(jnp.float32(query)), spread, rtol=1e-4, atol=1e-5)
    assert 0 <= aligned <= 4 and -8 <= spread <= 0


def test_the_ends_of_their_ranges():
    one, two = jnp.eye(4)[:1], jnp.concatenate([jnp.eye(4)[:1], -jnp.eye(4)[:1]])
    assert float(alignment(one, one)) == 0 and float(alignment(one, -one)) == 4
    assert float(uniformity(one)) == 0 and float(uniformity(jnp.repeat(one, 3, axis=0))) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(two)) == pytest.approx(-8)


def test_no_gradient_is_lost_where_two_vectors_are_one():
    same = jnp.repeat(jnp.eye(4)[:1], 3, axis=0)
    assert np.isfinite(jax.grad(lambda x: uniformity(x) + alignment(x, same))(same)).all()
