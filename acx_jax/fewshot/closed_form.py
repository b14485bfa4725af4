"""Linear classifiers on pooled vectors that are the optimum of a convex problem."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.learner import Learner, Params, pooled

Solve = Callable[[jax.Array, jax.Array], jax.Array]  # products s_i.s_j [S, S], one-hot labels [S, way] -> weights [S, way]


def ridge(*, features: int, way: int, pool: str, penalty: float) -> Learner:
    """W = S^T (S S^T + penalty I)^-1 Y; logits = q W. R2D2 has the same form (Bertinetto et al., 2019)."""

    def solve(products: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.linalg.solve(products + penalty * jnp.eye(len(products)), targets)

    return _linear_in_support(solve, features=features, way=way, pool=pool)


def svm(*, features: int, way: int, pool: str, penalty: float, steps: int) -> Learner:
    """Multi-class support vector machine by its dual (Crammer and Singer, 2001; in MetaOptNet, Lee et al., 2019).

    Minimises 1/2 sum_m |sum_i a_im s_i|^2 + 1/2 |a|^2 - sum_i a_i,y(i) subject to a_im <= penalty [m = y(i)] and
    sum_m a_im = 0; logits = sum_i a_im s_i.q.
    """

    def solve(products: jax.Array, targets: jax.Array) -> jax.Array:
        return crammer_singer(products, targets, penalty=penalty, steps=steps)

    return _linear_in_support(solve, features=features, way=way, pool=pool)


def crammer_singer(products: jax.Array, targets: jax.Array, *, penalty: float, steps: int) -> jax.Array:
    """The dual variables a [S, way] by accelerated projected gradient (Nesterov's method for strong convexity 1).

    products: s_i.s_j [S, S]. targets: one-hot [S, way]. The error falls by about 1 - 1 / sqrt(largest row sum) a step.
    """
    curvature = jax.lax.stop_gradient(jnp.abs(products).sum(axis=1).max()) + 1.0
    momentum = (jnp.sqrt(curvature) - 1) / (jnp.sqrt(curvature) + 1)
    bounds = penalty * targets

    def step(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        point, ahead = carry
        downhill = ahead - (products @ ahead + ahead - targets) / curvature
        following = bounds - onto_simplex(bounds - downhill, total=penalty)
        return (following, following + momentum * (following - point)), None

    start = jnp.zeros_like(targets)
    return jax.lax.scan(step, (start, start), None, length=steps)[0][0]


def onto_simplex(rows: jax.Array, *, total: float) -> jax.Array:
    """The nearest point of {x >= 0, sum x = total} to each row [..., M] (Held, Wolfe and Crowder, 1974)."""
    falling = -jnp.sort(-rows, axis=-1)
    excess = (jnp.cumsum(falling, axis=-1) - total) / jnp.arange(1, rows.shape[-1] + 1)
    kept = jnp.sum(falling > excess, axis=-1, keepdims=True)
    return jnp.maximum(rows - jnp.take_along_axis(excess, kept - 1, axis=-1), 0.0)


def _linear_in_support(solve: Solve, *, features: int, way: int, pool: str) -> Learner:
    """The learner whose matrix [P, way] is the support's vectors weighted by `solve`."""

    def init(key: jax.Array) -> Params:
        return jnp.zeros((features, way))

    def adapt(params: Params, support: Support, key: jax.Array) -> Params:
        vectors = pooled(support.graphs, pool)
        products = jnp.matmul(vectors, vectors.T, precision=jax.lax.Precision.HIGHEST)
        return vectors.T @ solve(products, jax.nn.one_hot(support.labels, way))

    def logits(params: Params, graphs: Graphs) -> jax.Array:
        return pooled(graphs, pool) @ params

    return Learner(init, adapt, logits)
