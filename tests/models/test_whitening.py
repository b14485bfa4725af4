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


def by_definition(vectors: np.ndarray, weight: float, centred: bool) -> np.ndarray:
    exact = vectors.astype(np.float64)
    covariance = np.atleast_2d(np.cov(exact.T))
    wanted = weight * covariance + (1 - weight) * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    images = (exact - centred * exact.mean(axis=0)) @ fractional_matrix_power(wanted, -0.5)
    return images * np.sqrt((exact**2).sum() / (images**2).sum())


@settings(deadline=None, max_examples=60)
@given(SIZES, WEIGHTS, st.booleans())
def test_the_map_is_what_it_is_defined_to_be(sizes, weight, centred):
    vectors = sample(*sizes)
    to = whitening(vectors, weight, centred=centred)
    expected = by_definition(vectors, weight, centred)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(mapped(vectors, to) / scale, expected / scale, atol=1e-5)
    assert np.array_equal(to.by, to.by.T) and mapped(vectors, to).dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(SIZES, WEIGHTS, st.booleans(), st.integers(1, 50))
def test_blocks_change_nothing_and_the_mean_squared_norm_stays(sizes, weight, centred, block):
    vectors = sample(*sizes)
    to = whitening(vectors, weight, centred=centred)
    for of_blocks, of_all in zip(whitening(vectors, weight, centred=centred, block=block), to, strict=True):
        np.testing.assert_allclose(of_blocks, of_all, rtol=1e-7, atol=1e-9 * np.abs(of_all).max())
    images = mapped(vectors, to)
    np.testing.assert_allclose(mapped(vectors, to, block=block), images, rtol=1e-5, atol=1e-5 * np.abs(images).max())
    assert (images.astype(np.float64)**2).sum() == pytest.approx((vectors.astype(np.float64)**2).sum(), rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_all_of_the_covariance_leaves_every_direction_as_wide_and_none_of_it_changes_nothing(size, seed):
    rng = np.random.default_rng(seed)
    vectors = (5 + rng.normal(0, 1, (200, size)) @ (np.eye(size) + rng.uniform(-0.5, 0.5, (size, size)) / size)) * np.linspace(1, 10, size)
    widths = moments(mapped(vectors, whitening(vectors, 1 - 1e-9))).covariance
    np.testing.assert_allclose(widths / widths[0, 0], np.eye(size), atol=1e-3)
    np.testing.assert_allclose(whitening(vectors, 0.0).by, np.eye(size), atol=1e-9)


def test_what_varies_most_is_scaled_down_most_and_what_is_not_asked_for_is_not_centred():
    vectors = np.array([[9, 1], [11, 1], [9, 1.2], [11, 1.2]], np.float32)
    to = whitening(vectors, 0.9)
    assert to.by[0, 0] < 0.5 * to.by[1, 1] and not np.isclose(mapped(vectors, to).mean(axis=0), 0, atol=0.1).any()
    np.testing.assert_allclose(mapped(vectors, whitening(vectors, 0.9, centred=True)).mean(axis=0), 0, atol=1e-5)


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
