"""Small symmetric systems, solved in XLA's own operations."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def solve_positive(matrix: jax.Array, targets: jax.Array) -> jax.Array:
    """matrix^-1 targets of a symmetric positive definite matrix: float [n, n], [n, m] -> [n, m]; differentiable.

    Gauss and Jordan's elimination, which needs no pivoting where the matrix is positive definite. LAPACK's solvers hand the systems of a batch to
    the very threads that a split CPU's devices run on: from batches of some 50 systems of 20 on, two devices on two cores waited for each
    other for ever (jaxlib 0.10.2).
    """

    def eliminate(rows: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        pivot = rows[i] / rows[i, i]
        return (rows - rows[:, i, None] * pivot).at[i].set(pivot), None

    def solve(_: object, right: jax.Array) -> jax.Array:
        return jax.lax.scan(eliminate, jnp.concatenate([matrix, right], axis=1), jnp.arange(len(matrix)))[0][:, len(matrix):]

    return jax.lax.custom_linear_solve(lambda x: jnp.matmul(matrix, x, precision="highest"), targets, solve, symmetric=True)
