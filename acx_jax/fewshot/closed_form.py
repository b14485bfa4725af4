"""Linear classifiers on pooled vectors that are the optimum of a convex problem."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from acx_jax.contracts import Graphs, Support
from acx_jax.fewshot.learner import Learner, Params, pooled
from acx_jax.fewshot.positive import solve_positive

Solve = Callable[[jax.Array, jax.Array], jax.Array]  # products s_i.s_j [S, S], one-hot labels [S, way] -> weights [S, way]


def ridge(*, features: int, way: int, pool: str, penalty: float) -> Learner:
    """W = S^T (S S^T + penalty I)^-1 Y; logits = q W. R2D2 has the same form (Bertinetto et al., 2019)."""

    def solve(products: jax.Array, targets: jax.Array) -> jax.Array:
        return solve_positive(products + penalty * jnp.eye(len(products)), targets)

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
    """The dual variables a [S, way] by accelerated projected gradient, begun anew where its momentum leads uphill.

    products: s_i.s_j [S, S]. targets: one-hot [S, way]. The error falls by about 1 - 1 / sqrt(condition number of products + 1) a step, of vectors
    of any length. The restarts: O'Donoghue and Candes, "Adaptive Restart for Accelerated Gradient Schemes" (2015).
    """
    curvature = jax.lax.stop_gradient(jnp.abs(products).sum(axis=1).max()) + 1.0

    def step(carry: tuple[jax.Array, jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        point, ahead, speed = carry
        following = onto_feasible(ahead - (products @ ahead + ahead - targets) / curvature, targets, penalty=penalty)
        speed = jnp.where(jnp.sum((ahead - following) * (following - point)) > 0, 1.0, speed)
        faster = (1 + jnp.sqrt(1 + 4 * speed**2)) / 2
        return (following, following + (speed - 1) / faster * (following - point), faster), None

    start = jnp.zeros_like(targets)
    return jax.lax.scan(step, (start, start, jnp.ones((), targets.dtype)), None, length=steps)[0][0]


def onto_feasible(rows: jax.Array, targets: jax.Array, *, penalty: float) -> jax.Array:
    """The nearest point of {a_y <= penalty, the others <= 0, sum a = 0} to each row [..., M], y where the one-hot `targets` are 1.

    The others go down by max(x - level, 0), x being what they are below 0, and a_y makes up for it. The level is found among sorted sums, as for a
    simplex (Held, Wolfe and Crowder, 1974). The penalty is in none of them where it binds nothing: the a of long vectors are so small beside it
    that they would lose their digits.
    """
    own = jnp.sum(rows * targets, axis=-1, keepdims=True)
    below = jnp.where(targets > 0, -jnp.inf, -rows)
    falling = -jnp.sort(-below, axis=-1)[..., :-1]
    sums, counts = jnp.cumsum(falling, axis=-1), jnp.arange(1, falling.shape[-1] + 1)
    free = _level(falling, (sums - own) / (counts + 1), none=-own)
    level = jnp.where(own + free > penalty, _level(falling, (sums - penalty) / counts, none=free), free)
    down = jnp.maximum(below - level, 0.0)
    return targets * down.sum(axis=-1, keepdims=True) - down


def _level(falling: jax.Array, levels: jax.Array, *, none: jax.Array) -> jax.Array:
    """Of the levels [..., n] that fit if the first, first two, ... of `falling` lie above it, the one of which that is true; `none` if it is of none."""
    above = jnp.sum(falling > levels, axis=-1, keepdims=True)
    return jnp.where(above > 0, jnp.take_along_axis(levels, jnp.maximum(above - 1, 0), axis=-1), none)


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
