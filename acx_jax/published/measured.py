"""How far a quantity is from the recorded one, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from acx_jax.models.weight_names import to_torch


class Measured(NamedTuple):
    """The largest errors over the arrays of one quantity.

    Attributes:
      quantity: its name within the check.
      error: largest absolute difference; infinite where shapes differ or a value is not finite.
      relative: largest of each array's difference over the largest magnitude of the recorded array.
      tolerance: of `relative`; 0 asks for equality, None shows the errors and judges nothing.
      arrays: how many were compared.
      worst: name of the array with the largest relative error among those that are off, or else among all.
      off: how many arrays are off.
    """

    quantity: str
    error: float
    relative: float
    tolerance: float | None
    arrays: int
    worst: str
    off: int

    @property
    def ok(self) -> bool:
        """Whether every array is near enough; a quantity of no arrays is not."""
        return self.arrays > 0 and self.off == 0


def not_recorded(quantity: str) -> Measured:
    """For the table: a quantity that a bundle may lack, and that nothing is said of."""
    return measured(quantity, (), tolerance=None)


class _Compared(NamedTuple):
    off: bool
    relative: float
    error: float
    name: str


def measured(quantity: str, compared: Iterable[tuple[str, Any, Any]], *, tolerance: float | None,
             absolute: float = 0.0) -> Measured:
    """Compares arrays of one quantity.

    Args:
      quantity: its name within the check.
      compared: (name, ours, recorded) of each array, or number.
      tolerance: largest difference allowed, relative to the largest magnitude of the recorded array; None judges nothing.
      absolute: a difference of no more than this is allowed whatever the magnitude.
    """
    each = [_compare(name, ours, recorded, tolerance, absolute) for name, ours, recorded in compared]
    if not each:
        return Measured(quantity, float("inf"), float("inf"), tolerance, 0, "", 0)
    return Measured(quantity, max(c.error for c in each), max(c.relative for c in each), tolerance, len(each),
                    max(each).name, sum(c.off for c in each))


def _compare(name: str, ours: Any, recorded: Any, tolerance: float | None, absolute: float) -> _Compared:
    ours, recorded = np.asarray(ours), np.asarray(recorded)
    error, relative = _errors(ours.astype(np.float64), recorded.astype(np.float64))
    off = tolerance is not None and not (relative <= tolerance or error <= absolute)
    return _Compared(off, relative, error, name)


def _errors(ours: np.ndarray, recorded: np.ndarray) -> tuple[float, float]:
    if ours.shape != recorded.shape or not (np.isfinite(ours).all() and np.isfinite(recorded).all()):
        return float("inf"), float("inf")
    error = float(np.abs(ours - recorded).max(initial=0.0))
    magnitude = float(np.abs(recorded).max(initial=0.0))
    return error, error / magnitude if magnitude > 0 else (float("inf") if error > 0 else 0.0)


def torch_entries(arch: str, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The leaves of a tree like a network's variables under PyTorch's names and in its layouts, as they are recorded."""
    return to_torch(arch, traverse_util.flatten_dict(dict(tree), sep="/"))
