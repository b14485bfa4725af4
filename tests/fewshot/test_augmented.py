"""Support sets with augmented sequences: whose copies, of which class, and that nothing else changes."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acx_jax.contracts import ContextFeatures, Episodes, check_features
from acx_jax.fewshot import baselines
from acx_jax.fewshot.augmented import augmented_support, with_copies
from acx_jax.fewshot.episodes import class_labels, score_episodes
from acx_jax.fewshot.ragged import ragged

pytestmark = pytest.mark.usefixtures("quick_compiler")
KEY = jax.random.key(7)


def episodes_of(segments: int, shot: int, count: int, seed: int) -> Episodes:
    """Even segments are normal, odd ones abnormal."""
    rng = np.random.default_rng(seed)
    drawn = np.array([[2 * rng.permutation(segments // 2) + label for label in range(2)] for _ in range(count)], np.int32)
    return Episodes(drawn[:, :, :shot].reshape(count, -1), drawn[:, :, shot:].reshape(count, -1), (segments // 2 - shot,) * 2)


def features_of(counts, start: float = 0.0, dimension: int = 3) -> ContextFeatures:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ContextFeatures((start + np.arange(offsets[-1] * dimension)).reshape(-1, dimension).astype(np.float32), offsets)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from([(1, 12, 1, 1), (3, 8, 5, 0), (2, 12, 4, 3)]), st.integers(0, 10**6))
def test_copies_stand_behind_their_own_segment_and_in_its_class(sizes, seed):
    shot, segments, held, used = sizes  # few, for each is compiled
    plain = episodes_of(segments, shot, count=3, seed=seed)
    support = augmented_support(KEY, plain, segments=segments, held=held, used=used)
    blocks = support.reshape(3, 2 * shot, 1 + used)
    assert support.dtype == np.int32 and np.array_equal(blocks[:, :, 0], plain.support)
    assert np.array_equal(blocks % segments, np.broadcast_to(plain.support[..., None], blocks.shape))  # only own copies: no query's among them
    assert all(len(set(row)) == len(row) for row in support.tolist()) and support.max(initial=0) < segments * (1 + held)
    labels = class_labels(2, support.shape[1] // 2)
    assert np.array_equal(support % segments % 2, np.broadcast_to(labels, support.shape))
    assert not any(set(asked) & set(known % segments) for asked, known in zip(plain.query.tolist(), support))


def test_a_draw_follows_from_the_episodes_number_and_the_segment_alone():
    plain = episodes_of(12, 2, count=6, seed=0)
    whole = augmented_support(KEY, plain, segments=12, held=6, used=3).reshape(6, 4, 4)
    fewer = augmented_support(KEY, plain._replace(support=plain.support[:4, ::-1]), segments=12, held=6, used=3).reshape(4, 4, 4)
    np.testing.assert_array_equal(fewer[:, ::-1], whole[:4])
    same = augmented_support(KEY, plain._replace(support=np.repeat(plain.support[:1], 6, axis=0)), segments=12, held=6, used=3)
    assert len(np.unique(same, axis=0)) == 6  # afresh in each episode
    other = augmented_support(jax.random.key(8), plain, segments=12, held=6, used=3)
    assert not np.array_equal(other.reshape(whole.shape), whole)


def test_every_copy_is_drawn_as_often():
    plain = episodes_of(4, 1, count=2000, seed=1)
    copies = augmented_support(KEY, plain, segments=4, held=5, used=2).reshape(2000, 2, 3)[:, :, 1:] // 4 - 1
    shares = np.bincount(copies.ravel(), minlength=5) / copies.size
    np.testing.assert_allclose(shares, 0.2, atol=0.02)


def test_more_than_there_are_are_refused():
    with pytest.raises(ValueError, match="4 copies of a segment are asked for, 3 are there"):
        augmented_support(KEY, episodes_of(4, 1, count=1, seed=0), segments=4, held=3, used=4)


def test_copies_are_further_segments_whatever_their_lengths():
    plain, copies = features_of([2, 1, 3]), [features_of([1, 4, 2], 100), features_of([2, 1, 1], 200)]
    joined = check_features(with_copies(plain, copies))
    assert joined.offsets.dtype == np.int64
    for copy, own in enumerate([plain, *copies]):
        for segment in range(3):
            at = joined.offsets[3 * copy + segment:3 * copy + segment + 2]
            np.testing.assert_array_equal(joined.vectors[slice(*at)], own.vectors[slice(*own.offsets[segment:segment + 2])])
    assert with_copies(plain, []).offsets.tolist() == [0, 2, 3, 6]
    for wrong in (features_of([1, 1]), features_of([1, 1, 1], dimension=4)):
        with pytest.raises(ValueError, match="another number of segments, or of another dimension"):
            with_copies(plain, [wrong])


def test_a_learner_sees_the_copies_as_more_shots_and_the_queries_as_they_are():
    rng = np.random.default_rng(3)
    every = [ContextFeatures(rng.standard_normal((8, 4)).astype(np.float32), np.arange(9)) for _ in range(3)]
    plain = episodes_of(8, 2, count=2, seed=2)
    support = augmented_support(KEY, plain, segments=8, held=2, used=2)
    learner = baselines.proto(features=4, way=2, pool="mean")
    logits = jax.jit(score_episodes(learner, way=2, nodes=1))(ragged(with_copies(every[0], every[1:])), support, plain.query, jax.random.split(KEY, 2))
    vectors = np.stack([one.vectors for one in every])
    for known, asked, found in zip(plain.support, plain.query, logits):
        means = vectors[:, known].mean(axis=0).reshape(2, 2, 4).mean(axis=1)  # of all three sequences of both segments of a class
        away = ((every[0].vectors[asked][:, None] - means) ** 2).sum(axis=-1)
        np.testing.assert_allclose(found, -away / 4, rtol=1e-4)
