"""What the published adaptation does beside what is done here: warp, crop, colours, loss, queue; each against a slow loop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.selfsup import colour, geometry, motion, objectives, schemes, views
from acx_jax.selfsup.memory import DRAWN, Queue, empty_queue, uniform_queue

pytestmark = pytest.mark.usefixtures("quick_compiler")
OPTIONS = views.ViewOptions(16, "random", "all", "sample")


def slow_warp(picture, x, y, dx, dy):
    """The published loops: i, drawn as x, indexes rows."""
    side, result = len(picture), picture.copy()
    for j in range(max(0, y - 3 * dy), min(side, y + 3 * dy)):
        for i in range(max(0, x - 3 * dx), min(side, x + 3 * dx)):
            ratio = math.hypot(i - x - dx, j - y - dy) / math.hypot(dx, dy)
            reach = 0.5 / (3 * ratio**4 + 1)
            row, column = i - math.trunc(reach * dx), j - math.trunc(reach * dy)
            result[i, j] = picture[min(max(row, 0), side - 1), min(max(column, 0), side - 1)]
    return result


@pytest.mark.parametrize("point", [(5, 14, 4, 6), (20, 3, 7, 3), (0, 23, 6, 6)])
def test_the_published_warp_equals_its_loops_and_swaps_the_axes(point):
    picture = np.arange(24 * 24).reshape(24, 24)
    grid = jax.jit(geometry.swapped_bend)(geometry.identity(24), jnp.array(point))
    rows, columns = (np.asarray(line).astype(int) for line in grid)
    np.testing.assert_array_equal(picture[rows, columns], slow_warp(picture, *point))
    assert not np.array_equal(picture[rows, columns], slow_warp(picture, point[1], point[0], point[3], point[2]))


def anchors(monkeypatch, **changes) -> np.ndarray:
    """Views of four samples of one clip with only the warp left to chance."""
    monkeypatch.setattr(geometry, "rotate", lambda key, grid, of: grid)
    monkeypatch.setattr(colour, "jitter", lambda key, clip, with_hue: clip)
    clip = jnp.arange(2 * 16 * 16 * 3, dtype=jnp.uint8).reshape(2, 16, 16, 3)
    draw = jax.jit(jax.vmap(lambda key: views.view(key, clip, True, jax.random.key(9), options=OPTIONS._replace(**changes))))
    return np.asarray(draw(jax.random.split(jax.random.key(0), 4)))


def test_the_published_warp_is_one_for_the_batch_and_ours_one_a_sample(monkeypatch):
    assert len({view.tobytes() for view in anchors(monkeypatch, warp="batch")}) == 1
    assert len({view.tobytes() for view in anchors(monkeypatch, warp="sample")}) > 1


def test_the_published_crop_shows_the_whole_frame_and_ours_a_part():
    small, key = geometry.identity(8), jax.random.key(0)
    squeezed, cropped = geometry.squeeze(small, of=24), geometry.crop(key, small, of=24)
    np.testing.assert_allclose(squeezed.rows[:, 0], np.arange(8) * 3 + 1)
    assert float(cropped.rows[-1, 0] - cropped.rows[0, 0]) == 7


def test_of_the_published_colours_the_last_alone_shows():
    clip = jnp.asarray(np.random.default_rng(0).random((2, 4, 4, 3), np.float32))
    last, every = jax.jit(colour.last_jitter), jax.jit(colour.jitter)
    differ = 0
    for seed in range(4):
        changes, order = colour._drawn(jax.random.key(seed))
        np.testing.assert_allclose(last(jax.random.key(seed), clip), changes[int(order[-1])](clip), atol=1e-6)
        differ += not np.allclose(last(jax.random.key(seed), clip), every(jax.random.key(seed), clip), atol=1e-3)
    assert differ == 4


def unit(seed: int, rows: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, 6)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_nce_equals_a_loop_and_leaves_out_what_is_absent():
    similar, present, constant, n_data = unit(0, 3), np.ones((3, 6), bool), 7.0, 5
    present[1, 4] = False
    expected = 0.0
    for row, there in zip(similar, present):
        o, noise = np.exp(row / 0.5) / constant, 5 / n_data
        expected -= np.log(o[0] / (o[0] + noise + 1e-7)) / 3
        expected -= sum(np.log(noise / (o[j] + noise + 1e-7)) for j in range(1, 6) if there[j]) / 3
    np.testing.assert_allclose(objectives.nce(similar, present, constant, temperature=0.5, n_data=n_data), expected, rtol=1e-5)


def embedded(**changes) -> schemes.Embedded:
    trained = {"anchor": unit(1, 4), "negative": unit(2, 4), "broken": unit(3, 4)} | changes
    return schemes.Embedded(trained, unit(4, 4), np.array([True, True, False, True]), np.arange(4, dtype=np.int32))


def loss_of(batch, queue=empty_queue(3, 6), constant=objectives.UNSET, **changes):
    options = dict(negatives=("negative",), warp=True, broken="any", loss="info_nce", temperature=0.2, n_data=9, exclude_own=True)
    scheme = schemes.contrastive(**options | changes)
    alone = jax.vmap(lambda one: scheme.loss(one, queue, jnp.float32(constant), "one"), axis_name="one")
    value, (constant, metrics) = alone(jax.tree.map(lambda x: jnp.asarray(x)[None], batch))
    return float(value[0]), float(constant[0]), metrics


def test_the_constant_is_fixed_at_the_first_batch_to_a_whole_number():
    _, constant, _ = loss_of(embedded(), loss="nce")
    similar = objectives.similarities(*(jnp.asarray(x) for x in (unit(1, 4), unit(4, 4), unit(2, 4)[None])), empty_queue(3, 6))
    assert constant == np.trunc(np.mean(np.exp(np.asarray(similar) / 0.2)) * 9) > 0
    assert loss_of(embedded(anchor=unit(7, 4)), loss="nce", constant=constant)[1] == constant
    assert loss_of(embedded())[1] == objectives.UNSET  # InfoNCE has none


def test_the_published_queue_starts_full_of_vectors_of_no_length_and_ours_empty():
    queue = uniform_queue(jax.random.key(0), 300, 128)
    bound = 1 / np.sqrt(128 / 3)
    assert (queue.video == DRAWN).all() and 0.95 * bound < np.abs(queue.keys).max() <= bound
    assert np.linalg.norm(queue.keys, axis=1).std() > 0.01
    counts = [objectives.presence(jnp.arange(2), jnp.ones((1, 2), bool), q, exclude_own=True).sum() for q in (queue, empty_queue(300, 128))]
    assert counts == [2 * 302, 2 * 2]


def test_keys_of_the_samples_own_video_are_negatives_as_published_and_not_here():
    queue = Queue(jnp.asarray(unit(5, 3)), jnp.array([0, 9, 9], jnp.int32), jnp.int32(0))
    moved = queue._replace(keys=queue.keys.at[0].set(unit(6, 1)[0]))
    only_first = embedded()._replace(video=np.zeros(4, np.int32))
    ours, published = ([loss_of(only_first, q, exclude_own=own)[0] for q in (queue, moved)] for own in (True, False))
    assert ours[0] == ours[1] and published[0] != published[1]


def test_moco_has_no_negative_of_the_own_video_and_a_broken_motion_can_be_one():
    other = embedded(negative=unit(8, 4), broken=unit(9, 4))
    queue = Queue(jnp.asarray(unit(5, 3)), jnp.full(3, 9, jnp.int32), jnp.int32(0))
    assert loss_of(embedded(), queue, negatives=())[0] == loss_of(other, queue, negatives=())[0] > 0
    both = [loss_of(batch, negatives=("negative", "broken")) for batch in (embedded(), embedded(broken=unit(9, 4)))]
    assert both[0][0] != both[1][0] and "broken_similarity" in both[0][2]


def test_the_triplet_objective_equals_a_loop():
    batch, expected = embedded(), 0.0
    query, negative = batch.trained["anchor"], batch.trained["negative"]
    for flip in (slice(None), slice(None, None, -1)):
        each = [max(np.linalg.norm(query[b] - batch.keys[b] + 1e-6) - np.linalg.norm(query[b] - negative[flip][b] + 1e-6) + 0.5, 0)
                for b in range(4) if batch.has_negative[flip][b]]
        expected += np.mean(each)
    def loss(scheme, batch):
        found = jax.vmap(lambda one: scheme.loss(one, empty_queue(0, 6), jnp.float32(objectives.UNSET), "one")[0], axis_name="one")(
            jax.tree.map(lambda x: jnp.asarray(x)[None], batch))
        return float(found[0])

    published, ours = (schemes.triplets(margin=0.5, exclude_own=own) for own in (False, True))
    np.testing.assert_allclose(loss(published, batch), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(ours, batch._replace(video=np.arange(4, dtype=np.int32))), expected, rtol=1e-5)
    one_video = batch._replace(video=np.zeros(4, np.int32))
    intra = objectives.triplet(query, batch.keys, negative, batch.has_negative, margin=0.5)
    np.testing.assert_allclose(loss(ours, one_video), intra, rtol=1e-5)  # there is no other video
    np.testing.assert_allclose(loss(published, one_video), expected, rtol=1e-5)


CLIP = np.arange(8)[:, None, None, None] * np.ones((8, 2, 2, 3), np.uint8)


def breaks(kind: str, has_other: bool = True) -> np.ndarray:
    """Frame numbers of many draws, [N, 8]; those of another moment count from 100."""
    draw = jax.jit(jax.vmap(lambda key: motion.broken(key, jnp.asarray(CLIP), jnp.asarray(CLIP + 100), jnp.array(has_other), kind=kind)))
    return np.asarray(draw(jax.random.split(jax.random.key(1), 64)))[..., 0, 0, 0]


def test_broken_motion_keeps_the_scene_and_never_the_order():
    assert (breaks("reverse") == np.arange(8)[::-1]).all()
    shuffled = breaks("shuffle")
    assert (np.sort(shuffled) == np.arange(8)).all() and (shuffled != np.arange(8)).any(axis=1).all()
    inserted = breaks("insertion")
    assert (inserted % 100 == np.arange(8)).all()
    runs = (inserted >= 100).sum(axis=1)
    assert set(runs) == {2, 3, 4} and (np.abs(np.diff(inserted >= 100)).sum(axis=1) <= 2).all()
    assert (breaks("insertion", has_other=False) < 8).all()
    assert len({row.tobytes() for row in breaks("any")}) > 20


def test_a_shuffle_of_two_frames_swaps_them():
    draw = jax.jit(jax.vmap(lambda key: motion.shuffle(key, jnp.arange(2), jnp.arange(2))))
    assert (draw(jax.random.split(jax.random.key(0), 20)) == jnp.array([1, 0])).all()
