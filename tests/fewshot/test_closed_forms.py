"""The closed-form and transductive learners against slow solvers and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import Ridge

from acx_jax.contracts import Support
from acx_jax.fewshot import closed_form, gradient_heads, transductive
from acx_jax.fewshot.positive import solve_positive
from acx_jax.published.heads import one_node

pytestmark = pytest.mark.usefixtures("quick_compiler")
KEY = jax.random.key(0)


def case(shot: int, way: int, dimension: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support vectors, their interleaved labels and query vectors."""
    rng = np.random.default_rng(shot * way)
    labels = np.tile(np.arange(way, dtype=np.int32), shot)
    return rng.standard_normal((shot * way, dimension)) + 0.5 * labels[:, None], labels, rng.standard_normal((7, dimension))


def ask(learner, support, labels, query) -> np.ndarray:
    params = learner.adapt(learner.init(KEY), Support(one_node(support), labels), KEY)
    return np.asarray(learner.logits(params, one_node(query)))


@pytest.mark.parametrize("size", [1, 10, 110])
def test_positive_systems_are_solved_and_their_gradients_those_of_lapack(size):
    rng = np.random.default_rng(size)
    roots, targets = rng.standard_normal((3, size, 2 * size)).astype(np.float32), rng.standard_normal((3, size, 2)).astype(np.float32)
    matrices = roots @ roots.transpose(0, 2, 1) + np.eye(size, dtype=np.float32)
    found = jax.jit(jax.vmap(solve_positive))(matrices, targets)
    np.testing.assert_allclose(found, np.linalg.solve(matrices.astype(float), targets), rtol=1e-3, atol=1e-4)
    own, lapack = (jax.jit(jax.grad(lambda roots: jnp.sum(jnp.sin(solve(roots @ roots.T + jnp.eye(size), targets[0])))))(roots[0])
                   for solve in (solve_positive, jnp.linalg.solve))
    np.testing.assert_allclose(own, lapack, rtol=1e-2, atol=1e-3 * np.abs(lapack).max())


@pytest.mark.parametrize("learner", [closed_form.ridge(features=12, way=2, pool="mean", penalty=1.0),
                                     transductive.label_propagation(closed_form.svm(features=12, way=2, pool="mean", penalty=0.1, steps=2), pool="mean",
                                                                    neighbours=3, delta=0.1, alpha=0.5)])
def test_no_batch_of_episodes_goes_to_lapack(learner):
    """Its threads and those of a split CPU's devices wait for each other."""
    def fitted(support, query):
        return learner.logits(learner.adapt(learner.init(KEY), Support(one_node(support), np.repeat(np.arange(2, dtype=np.int32), 20)), KEY), one_node(query))

    assert "lapack" in jax.jit(jax.vmap(jnp.linalg.solve)).lower(np.ones((2, 3, 3)), np.ones((2, 3, 1))).as_text()
    assert "lapack" not in jax.jit(jax.vmap(fitted)).lower(np.ones((5, 40, 12), np.float32), np.ones((5, 30, 12), np.float32)).as_text()


@pytest.mark.parametrize("penalty", [1.0, 50.0])
def test_ridge_is_that_of_scikit_learn(penalty):
    support, labels, query = case(4, 3)
    ours = ask(closed_form.ridge(features=12, way=3, pool="mean", penalty=penalty), support, labels, query)
    theirs = Ridge(alpha=penalty, fit_intercept=False).fit(support, np.eye(3)[labels]).predict(query)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("scale", [3e-4, 0.3, 1.0, 10.0, 3e2, 3e4])  # of vectors that are 3 to 4 long
def test_the_support_vector_machine_is_at_the_optimum(scale):
    support, labels, _ = case(3, 3)
    products, targets = (scale * support) @ (scale * support).T, np.eye(3)[labels]
    unit = min(1.0, 1 / np.diag(products).mean())  # of the variables, for the slow solver, which stops at absolute steps

    def objective(flat):
        a = unit * flat.reshape(targets.shape)
        return (0.5 * np.sum(a * (products @ a)) + 0.5 * np.sum(a**2) - np.sum(a * targets)) / unit

    exact = minimize(objective, np.zeros(targets.size), method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
                     bounds=[(None, bound) for bound in (0.1 * targets / unit).ravel()],
                     constraints={"type": "eq", "fun": lambda flat: flat.reshape(targets.shape).sum(axis=1)})
    assert exact.success
    ours = closed_form.crammer_singer(jnp.asarray(products, jnp.float32), jnp.asarray(targets), penalty=0.1, steps=500)
    np.testing.assert_allclose(ours, unit * exact.x.reshape(targets.shape), atol=1e-3 * unit * np.abs(exact.x).max())
    assert (ours <= 0.1 * targets + 1e-6).all() and np.abs(ours.sum(axis=1)).max() < 1e-5


@pytest.mark.parametrize("way", [2, 4])
@pytest.mark.parametrize("scale", [0.02, 1.0])  # the bound of a_y binds in no row, and in some
def test_rows_are_projected_onto_what_is_feasible(way, scale):
    rng = np.random.default_rng(0)
    rows, targets = scale * rng.standard_normal((6, way)).astype(np.float32), np.eye(way)[rng.integers(0, way, 6)]
    projected = np.asarray(closed_form.onto_feasible(rows, targets, penalty=0.1))
    np.testing.assert_allclose(projected.sum(axis=1), 0, atol=1e-7)
    assert (projected <= 0.1 * targets + 1e-7).all() and (projected != 0).any()
    shares = rng.dirichlet(np.ones(way - 1), 3000) * rng.uniform(0, 0.1, (3000, 1))
    for row, target, found in zip(rows, targets, projected):
        others = np.zeros((3000, way))
        others[:, target == 0], others[:, target == 1] = -shares, shares.sum(axis=1, keepdims=True)
        assert np.linalg.norm(found - row) <= np.linalg.norm(others - row, axis=1).min() + 1e-6  # no feasible point is nearer


def test_labels_propagate_as_by_a_loop():
    rng = np.random.default_rng(3)
    vectors, scores = rng.standard_normal((9, 4)), rng.dirichlet(np.ones(2), 9)
    distances = ((vectors[:, None] - vectors) ** 2).sum(-1)
    weights, near = np.zeros((9, 9)), np.argsort(distances, axis=1)[:, :3]
    spread = np.mean([distances[i, near[i]] for i in range(9)])
    for i in range(9):
        for j in near[i]:
            weights[i, j] = weights[j, i] = np.exp(-distances[i, j] / (2 * spread))
    kept = np.where(scores >= np.sort(scores, axis=0)[int(0.6 * 9)], scores, 0)
    root = np.diag(weights.sum(axis=1) ** -0.5)
    expected = np.linalg.inv(np.eye(9) - 0.5 * root @ weights @ root) @ kept
    ours = transductive.propagate(jnp.asarray(vectors), jnp.asarray(scores), neighbours=3, delta=0.4, alpha=0.5)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_rectified_prototypes_are_those_of_the_definition():
    support, labels, query = case(2, 2)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    means = np.stack([support[labels == c].mean(axis=0) for c in range(2)])
    moved = query + support.mean(axis=0) - query.mean(axis=0)
    nearest = (unit(moved) @ unit(means).T).argmax(axis=1)
    rectified = []
    for c in range(2):
        members = np.concatenate([support[labels == c], moved[nearest == c]])
        weights = np.exp(10 * unit(members) @ unit(means)[c])
        rectified.append((weights[:, None] * members).sum(axis=0) / weights.sum())
    expected = 10 * unit(moved) @ unit(np.array(rectified)).T
    learner = transductive.bd_cspn(features=12, way=2, pool="mean", temperature=10.0)
    np.testing.assert_allclose(ask(learner, support, labels, query), expected, atol=1e-3)


def test_the_cosine_head_sees_no_length_but_its_own():
    fit = {"epochs": 2, "batch": 4, "learning_rate": 0.1, "weight_decay": 0.01}
    learner = gradient_heads.cosine(features=12, way=2, pool="mean", **fit)
    support, labels, query = case(3, 2)
    once, longer = ask(learner, support, labels, query), ask(learner, 30 * support, labels, 50 * query)
    np.testing.assert_allclose(once, longer, atol=1e-4)
    params = learner.init(KEY)
    scaled = {"direction": 3 * params["direction"], "length": 2 * params["length"]}
    np.testing.assert_allclose(learner.logits(scaled, one_node(query)), 2 * learner.logits(params, one_node(query)), atol=1e-4)


def test_the_spectral_penalty_is_the_squared_singular_values():
    """It shrinks the hidden activations; with the weight 0 it is not there."""
    support, labels, _ = case(3, 2)
    fit = {"epochs": 3, "batch": 6, "learning_rate": 0.05, "weight_decay": 0.0}

    def spectrum(weight):
        learner = gradient_heads.two_layer(features=12, way=2, pool="mean", spectral=weight, **fit)
        params = learner.adapt(learner.init(KEY), Support(one_node(support), labels), KEY)
        hidden = np.maximum(support @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
        return np.sum(np.linalg.svd(hidden, compute_uv=False) ** 2)

    assert spectrum(0.01) < 0.9 * spectrum(0.0)
