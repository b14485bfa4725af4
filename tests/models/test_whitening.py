"""The whitening map against its definition, and what it must keep."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import fractional_matrix_power

from acx_jax.models.whitening import Whitening, apply_map, moments, shrunk, whitening

SIZES = st.tuples(st.integers(2, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
WEIGHTS = st.just(0.0) | st.floats(1e-6, 0.99)  # of a smaller one the root by definition overflows


def sample(count: int, size: int, seed: int) -> np.ndarray:
    """Vectors that vary by far more in some directions than in others, about a mean that is not 0."""
    rng = np.random.default_rng(seed)
    return (rng.normal(3, 2, size) + rng.normal(0, 1, (count, size)) @ (rng.normal(0, 1, (size, size)) * 10 ** rng.uniform(-2, 1, size))).astype(np.float32)


def mapped(vectors: np.ndarray, to: Whitening, **options) -> np.ndarray:
    return np.concatenate(list(apply_map(vectors, to, **options)))


def by_definition(vectors: np.ndarray, weight: float) -> np.ndarray:
    exact = vectors.astype(np.float64)
    mean, covariance = exact.mean(axis=0), np.atleast_2d(np.cov(exact.T))
    wanted = weight * covariance + (1 - weight) * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    root = fractional_matrix_power(wanted, -0.5)
    deviations, image = (exact - mean) @ root, mean @ root
    size = np.sqrt(((exact - mean)**2).sum() / (deviations**2).sum())
    distance = np.sqrt(((exact - mean)**2).sum(axis=1).mean())
    return deviations * size + image * min(size, distance / np.linalg.norm(image))


@settings(deadline=None, max_examples=60)
@given(SIZES, WEIGHTS)
def test_the_map_is_what_it_is_defined_to_be(sizes, weight):
    vectors = sample(*sizes)
    to = whitening(vectors, weight)
    expected = by_definition(vectors, weight)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(mapped(vectors, to) / scale, expected / scale, atol=1e-5)
    assert np.array_equal(to.by, to.by.T) and mapped(vectors, to).dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(SIZES, WEIGHTS, st.integers(1, 50))
def test_blocks_change_nothing_and_the_mean_is_as_far_from_0_as_vectors_from_it(sizes, weight, block):
    vectors = sample(*sizes)
    to = whitening(vectors, weight)
    for of_blocks, of_all in zip(whitening(vectors, weight, block=block), to, strict=True):
        np.testing.assert_allclose(of_blocks, of_all, rtol=1e-7, atol=1e-9 * np.abs(of_all).max())
    images = mapped(vectors, to)
    np.testing.assert_allclose(mapped(vectors, to, block=block), images, rtol=1e-5, atol=1e-5 * np.abs(images).max())
    before, after = (moments(of) for of in (vectors, images))
    assert np.trace(after.covariance) == pytest.approx(np.trace(before.covariance), rel=1e-3)
    distance = np.sqrt(np.trace(after.covariance) * (len(vectors) - 1) / len(vectors))
    assert np.linalg.norm(after.mean) <= distance * 1.001
    assert not to.away.any() or np.linalg.norm(after.mean) == pytest.approx(distance, rel=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_all_of_the_covariance_leaves_every_direction_as_wide_and_none_of_it_as_it_was(size, seed):
    rng = np.random.default_rng(seed)
    vectors = (5 + rng.normal(0, 1, (200, size)) @ (np.eye(size) + rng.uniform(-0.5, 0.5, (size, size)) / size)) * np.linspace(1, 10, size)
    widths = moments(mapped(vectors, whitening(vectors, 1 - 1e-9))).covariance
    np.testing.assert_allclose(widths / widths[0, 0], np.eye(size), atol=1e-3)
    np.testing.assert_allclose(whitening(vectors, 0.0).by, np.eye(size), atol=1e-9)


def test_what_varies_most_is_scaled_down_most():
    vectors = np.array([[9, 1], [11, 1], [9, 1.2], [11, 1.2]], np.float32)
    to = whitening(vectors, 0.9)
    assert to.by[0, 0] < 0.5 * to.by[1, 1]


def test_a_small_mean_stays_and_a_large_one_is_drawn_in():
    vectors = np.random.default_rng(0).normal(0, 1, (50, 3)) + [0.1, 0, 0]
    assert not whitening(vectors, 0.5).away.any()
    far = whitening(vectors + 100, 0.5)
    assert far.away == pytest.approx((vectors + 100).mean(axis=0), rel=0.05) and far.away[0] < (vectors + 100).mean(axis=0)[0]


def test_the_covariance_keeps_its_digits_beside_a_large_mean():
    vectors = 1e6 + np.random.default_rng(0).integers(0, 2, (500, 3)).astype(np.float64)
    np.testing.assert_allclose(moments(vectors, block=7).covariance, np.cov(vectors.T), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(shrunk(np.diag([3.0, 1.0]), 0.5), np.diag([2.5, 1.5]))


@pytest.mark.parametrize("vectors, said", [
    (np.ones((1, 3), np.float32), "1 vectors.*at least 2"),
    (np.full((5, 3), 0.1, np.float32), "all 5 vectors are the same"),
    (np.zeros((5, 3), np.float32), "all 5 vectors are the same"),
])
def test_vectors_that_allow_no_map_are_refused(vectors, said):
    with pytest.raises(ValueError, match=said):
        whitening(vectors, 0.1)
