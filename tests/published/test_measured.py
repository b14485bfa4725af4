import numpy as np
import pytest

from acx_jax.published.measured import measured


def test_errors_are_the_largest_and_relative_to_each_arrays_magnitude():
    row = measured("x", [("a", [1.0, 100.5], [1.0, 100.0]), ("b", [0.011], [0.01])], tolerance=0.2)
    assert (row.error, row.arrays, row.worst) == (0.5, 2, "b") and row.relative == pytest.approx(0.1) and row.ok


@pytest.mark.parametrize(("ours", "recorded", "tolerance", "absolute", "ok"), [
    ([1.0], [1.0], 0, 0.0, True),
    ([1.0 + 1e-12], [1.0], 0, 0.0, False),
    ([1.1], [1.0], 0.05, 0.0, False),
    ([1.1], [1.0], 0.05, 0.2, True),
    ([0.1], [0.0], 1e3, 0.0, False),
    ([np.nan], [1.0], 1e9, 0.0, False),
    ([1.0], [np.nan], 1e9, 0.0, False),
    ([1.0, 1.0], [1.0], 1e9, 0.0, False),
    ([1.0], [[1.0]], 1e9, 0.0, False),
])
def test_what_is_near_enough(ours, recorded, tolerance, absolute, ok):
    assert measured("x", [("a", ours, recorded)], tolerance=tolerance, absolute=absolute).ok == ok


def test_the_one_that_is_off_is_named_and_nothing_compared_is_not_ok():
    row = measured("x", [("a", 1.0, 1.0), ("b", 2.0, 1.0), ("c", 1.5, 1.0)], tolerance=0.1)
    assert row.worst == "b" and row.off == 2 and not row.ok
    assert not measured("x", [], tolerance=1.0).ok
