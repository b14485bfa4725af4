"""The queue and the contrastive loss against slow loops and recorded values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.selfsup import objectives, schemes
from acx_jax.selfsup.memory import EMPTY, Queue, empty_queue, push

pytestmark = pytest.mark.usefixtures("quick_compiler")


def info_nce(query, key, negative, *, has_negative, video, queue, temperature):
    """The whole objective with the other moment as its one hard negative."""
    scheme = schemes.contrastive(negatives=("negative",), warp=True, broken="any", loss="info_nce", temperature=temperature, n_data=1,
                                 exclude_own=True)
    embedded = schemes.Embedded({"anchor": query, "negative": negative}, key, has_negative, video)
    value, (_, metrics) = scheme.loss(embedded, queue, jnp.float32(objectives.UNSET), "")
    return value, metrics


def unit(seed: int, rows: int, dimension: int = 4) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_pushing_overwrites_the_oldest_and_wraps_round():
    queue, keys = empty_queue(5, 4), unit(0, 9)
    assert (np.asarray(queue.video) == EMPTY).all()
    for first in (0, 3, 6):
        queue = jax.jit(push)(queue, keys[first:first + 3], np.arange(first, first + 3, dtype=np.int32))
    assert queue.video.tolist() == [5, 6, 7, 8, 4] and int(queue.position) == 4
    np.testing.assert_array_equal(queue.keys, keys[np.array([5, 6, 7, 8, 4])])


def test_of_more_keys_than_room_the_last_stay():
    queue = push(empty_queue(3, 4), unit(0, 7), np.arange(7, dtype=np.int32))
    assert sorted(queue.video.tolist()) == [4, 5, 6]
    np.testing.assert_array_equal(queue.keys[0], unit(0, 7)[queue.video[0]])


def test_a_queue_without_room_stays_empty():
    queue = push(empty_queue(0, 4), unit(0, 2), np.arange(2, dtype=np.int32))
    assert queue.keys.shape == (0, 4)


def loop_info_nce(query, key, negative, has_negative, video, queue, temperature):
    losses = []
    for b in range(len(query)):
        others = [queue.keys[i] for i in range(len(queue.video)) if queue.video[i] not in (EMPTY, video[b])]
        others += [negative[b]] if has_negative[b] else []
        scores = np.exp([query[b] @ other / temperature for other in [key[b], *others]])
        losses.append(-np.log(scores[0] / scores.sum()))
    return np.mean(losses)


def example(size: int = 6) -> dict:
    queue = Queue(unit(3, size), np.array([0, 1, 2, EMPTY, 1, 7], np.int32)[:size], np.int32(0))
    return {"query": unit(0, 3), "key": unit(1, 3), "negative": unit(2, 3), "has_negative": np.array([True, False, True]),
            "video": np.array([0, 1, 5], np.int32), "queue": queue, "temperature": 0.3}


def loss(query, key, negative, **rest):
    return info_nce(query, key, negative, **rest)


def test_the_loss_equals_a_loop():
    case = example()
    value, metrics = loss(**case)
    np.testing.assert_allclose(value, loop_info_nce(**case), rtol=1e-5)
    np.testing.assert_allclose(metrics["positive_similarity"], (case["query"] * case["key"]).sum(1).mean(), rtol=1e-5)
    hard = (case["query"] * case["negative"]).sum(1)
    np.testing.assert_allclose(metrics["negative_similarity"], hard[[0, 2]].mean(), rtol=1e-5)


@pytest.mark.parametrize("change", [{"negative": 1}, {"queue": 0}, {"queue": 3}])
def test_what_is_no_negative_changes_neither_loss_nor_gradient(change):
    """The negative of a sample that has none; for the first sample, entries of its own video and empty ones."""
    case, other = example(), example()
    for name, row in change.items():
        if name == "negative":
            other["negative"][row] = unit(9, 1)[0]
        else:
            other["queue"].keys[row] = unit(9, 1)[0]
    graded = lambda case: jax.grad(lambda q: loss(**case | {"query": q})[0])(jnp.asarray(case["query"]))
    mine = slice(None) if "negative" in change or change == {"queue": 3} else slice(0, 1)
    np.testing.assert_array_equal(graded(other)[mine], graded(case)[mine])


def test_without_any_negative_there_is_nothing_to_learn():
    case = example(0) | {"has_negative": np.zeros(3, bool), "queue": empty_queue(4, 4)}
    value, gradient = jax.value_and_grad(lambda q: loss(**case | {"query": q})[0])(jnp.asarray(case["query"]))
    assert float(value) == 0 and not np.asarray(gradient).any()
    assert np.isfinite(list(map(float, loss(**case)[1].values()))).all()


@pytest.mark.parametrize("queue", [empty_queue(0, 4), empty_queue(5, 4)])
def test_an_empty_queue_leaves_the_hard_negative_alone(queue):
    case = example() | {"queue": queue}
    np.testing.assert_allclose(loss(**case)[0], loop_info_nce(**case), rtol=1e-5)


def test_gradients_are_finite_at_a_low_temperature():
    case = example() | {"temperature": 1e-3}
    gradients = jax.grad(lambda q, k, n: loss(**case | {"query": q, "key": k, "negative": n})[0], (0, 1, 2))(
        *(jnp.asarray(case[name]) for name in ("query", "key", "negative")))
    assert all(np.isfinite(g).all() for g in gradients)


def test_the_loss_is_the_recorded_softmax_form(parity):
    """Three recorded steps: loss, gradients and the queue after each."""
    recorded = np.load(parity / "contrast.npz")
    keys = recorded["softmax.queue0"]
    queue = Queue(jnp.asarray(keys), jnp.full(len(keys), 1000, jnp.int32), jnp.int32(0))
    for step in range(3):
        q, k, n = (jnp.asarray(recorded[f"softmax.{step}.{name}"]) for name in "qkn")
        video = jnp.arange(len(q), dtype=jnp.int32)

        def total(q, n):
            return info_nce(q, k, n, has_negative=jnp.ones(len(q), bool), video=video, queue=queue,
                            temperature=float(recorded["temperature"]))[0]

        value, (of_q, of_n) = jax.value_and_grad(total, (0, 1))(q, n)
        np.testing.assert_allclose(value, recorded[f"softmax.{step}.loss"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(of_q, recorded[f"softmax.{step}.grad_q"], atol=1e-5)
        np.testing.assert_allclose(of_n, recorded[f"softmax.{step}.grad_n"], atol=1e-5)
        queue = push(queue, k, jnp.full(len(k), 2000, jnp.int32))
        np.testing.assert_allclose(queue.keys, recorded[f"softmax.{step}.queue"], atol=1e-6)


def test_vicreg_equals_loops() -> None:
    """Also where a dimension has collapsed."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 5, 3)).astype(np.float32)
    one[:, 1] = 0.5
    invariance = np.mean([(one[n, d] - other[n, d]) ** 2 for n in range(5) for d in range(3)])
    variance = covariance = 0.0
    for z in (one, other):
        c = np.cov(z.T, ddof=1)
        variance += sum(max(0.0, 1 - np.sqrt(c[d, d] + 1e-4)) for d in range(3)) / 3 / 2
        covariance += sum(c[i, j] ** 2 for i in range(3) for j in range(3) if i != j) / 3
    np.testing.assert_allclose(objectives.vicreg(jnp.asarray(one), jnp.asarray(other)), (invariance, variance, covariance), rtol=1e-4)
    assert np.isfinite(jax.grad(lambda x: sum(objectives.vicreg(x, x)))(jnp.ones((4, 3)))).all()
