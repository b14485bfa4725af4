import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scipy.special import logit
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from acx_jax.fewshot.metrics import (auroc, average_precision, best_threshold, calibrated_accuracy, chance_accuracy, chance_precision, class_metrics, episode_metrics,
                                     half_width_95, margins_of, paired_difference, recalls_by_category)

LABELS = np.array([0, 0, 0, 1, 1, 1])


def auroc_by_pairs(scores, labels):
    """The share of pairs in order, ties counting half."""
    pairs = [np.sign(a - n) / 2 + 0.5 for a in scores[labels == 1] for n in scores[labels == 0]]
    return np.mean(pairs)


def average_precision_by_thresholds(scores, labels):
    """Precision at each threshold, weighted by the recall gained there."""
    value, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        reached = labels[taken].sum() / labels.sum()
        value, recall = value + (reached - recall) * labels[taken].mean(), reached
    return value


def calibration_by_bins(scores, labels):
    """Share of each tenth times its gap between mean score and share of abnormal."""
    tenth = [min(int(score * 10), 9) for score in scores]
    gaps = [[score - label for score, label, own in zip(scores, labels, tenth) if own == b] for b in range(10)]
    return sum(len(gap) / len(scores) * abs(np.mean(gap)) for gap in gaps if gap)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.50001, 0.7, 1.0]), min_size=6, max_size=6), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_each_episode_has_its_own_values(rows):
    probability = np.array(rows)
    metrics = episode_metrics(np.clip(logit(probability), -99, 99), LABELS)
    for i, scores in enumerate(probability):
        called = scores > 0.5
        assert metrics["accuracy"][i] == pytest.approx(np.mean(called == LABELS))
        assert metrics["recall_normal"][i] == pytest.approx(np.mean(~called[:3]))
        assert metrics["recall_abnormal"][i] == pytest.approx(np.mean(called[3:]))
        hits, false, missed = (called & (LABELS == 1)).sum(), (called & (LABELS == 0)).sum(), (~called & (LABELS == 1)).sum()
        rest = 6 - hits - false - missed
        assert metrics["f1"][i] == pytest.approx(2 * hits / max(2 * hits + false + missed, 1))
        product = np.sqrt(float((hits + false) * (hits + missed) * (rest + false) * (rest + missed)))
        assert metrics["mcc"][i] == pytest.approx((hits * rest - false * missed) / product if product else 0)
        assert metrics["ece"][i] == pytest.approx(calibration_by_bins(scores, LABELS))
        assert metrics["auroc"][i] == pytest.approx(auroc_by_pairs(scores, LABELS))
        assert metrics["average_precision"][i] == pytest.approx(average_precision_by_thresholds(scores, LABELS))


def test_an_undecided_query_counts_as_normal():
    metrics = episode_metrics(np.zeros((1, 6)), LABELS)
    assert (metrics["recall_normal"][0], metrics["recall_abnormal"][0], metrics["auroc"][0]) == (1, 0, 0.5)


def test_the_interval_is_students():
    # Mean 3, standard deviation sqrt(2.5), t(0.975; 4) = 2.776445.
    assert half_width_95(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2.776445 * np.sqrt(2.5 / 5), rel=1e-6)
    assert half_width_95(np.full(7, 0.6)) == pytest.approx(0, abs=1e-12)


def test_the_interval_holds_the_mean_19_times_in_20():
    draws = np.random.default_rng(0).standard_normal((4000, 5))
    held = [abs(row.mean()) <= half_width_95(row) for row in draws]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_a_paired_difference_is_certain_where_each_episode_says_the_same():
    values = np.random.default_rng(0).random(20)
    difference, half = paired_difference(values + 0.1, values)
    assert difference == pytest.approx(0.1) and half == pytest.approx(0, abs=1e-9)
    assert half_width_95(values) > 0.05  # while each alone is uncertain


@given(st.lists(st.tuples(st.sampled_from([-40.0, -3e38, -1.0, 0.0, 1e-6, 0.5, 40.0, 3e38]), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_no_threshold_is_better_than_the_best_nor_nearer_to_0(drawn):
    margins, abnormal = np.array([m for m, _ in drawn], np.float32), np.array([a for _, a in drawn])
    found = best_threshold(margins[None], abnormal)[0]
    worth = lambda threshold: np.mean((margins > threshold) == abnormal)
    values = np.unique(margins).astype(float)
    tried = [-np.inf, *(values[1:] + values[:-1]) / 2, np.inf]
    assert worth(found) == max(map(worth, tried)) and abs(found) == min(abs(t) for t in tried if worth(t) == worth(found))


@given(st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=5),
       st.lists(st.booleans(), min_size=7, max_size=7).filter(lambda labels: 0 < sum(labels) < 7))
@settings(max_examples=50, deadline=None)
def test_values_are_those_of_scikit_learn(rows, labels):
    margin, labels = np.array(rows, np.float32), np.array(labels, int)
    found = episode_metrics(margin, labels)
    for i, row in enumerate(margin):
        assert found["auroc"][i] == pytest.approx(roc_auc_score(labels, row))
        assert found["average_precision"][i] == pytest.approx(average_precision_score(labels, row))
        assert found["f1"][i] == pytest.approx(f1_score(labels, row > 0, zero_division=0))
        assert found["mcc"][i] == pytest.approx(matthews_corrcoef(labels, row > 0))


def test_margins_whose_probabilities_are_all_1_keep_their_order():
    margins = np.array([[20, 30, 40, 50, 60, 70], [-90, -80, -70, -60, -50, -40]], np.float32)
    metrics = episode_metrics(margins, LABELS)
    assert metrics["accuracy"].tolist() == [0.5, 0.5]
    assert metrics["auroc"].tolist() == metrics["average_precision"].tolist() == [1, 1]
    assert metrics["accuracy_calibrated"].min() > 0.8


def test_many_episodes_are_measured_at_once():
    """10,000 episodes in a fraction of a second, where a call an episode took a minute."""
    margins, abnormal = np.random.default_rng(0).standard_normal((10_000, 30)), np.repeat([False, True], 15)
    began = time.process_time()
    for measure in (auroc, average_precision):
        assert measure(margins, abnormal).mean() == pytest.approx(0.5, abs=0.1)
    assert time.process_time() - began < 2


def test_a_shifted_scale_is_calibrated_away_and_noise_gains_nothing():
    """Ranked right but all below a half: accuracy 0.5, calibrated 1. Of noise the threshold of one half is worth nothing on the other."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 10)
    shifted = np.concatenate([rng.uniform(0.0, 0.1, (50, 10)), rng.uniform(0.2, 0.3, (50, 10))], axis=1)
    metrics = episode_metrics(logit(shifted), labels)
    assert metrics["accuracy"].mean() == 0.5 and metrics["accuracy_calibrated"].mean() > 0.97
    noise = calibrated_accuracy(rng.uniform(0, 1, (2000, 20)), labels == 1)
    assert abs(noise.mean() - 0.5) < 0.01


@pytest.mark.parametrize("queries", [(3, 3), (5, 1), (1, 4), (4, 1, 2)])
def test_chance_precision_is_the_mean_over_random_orders(queries):
    random, classes = np.random.default_rng(1), np.repeat(np.arange(len(queries)) > 0, queries)
    orders = [random.permutation(classes) for _ in range(5000)]
    precision = [np.mean((np.cumsum(order) / np.arange(1, len(order) + 1))[order]) for order in orders]
    assert chance_precision(queries) == pytest.approx(np.mean(precision), abs=0.015)


def test_chance_accuracy_is_that_of_the_larger_class():
    assert chance_accuracy((15, 15)) == chance_accuracy((1, 1)) == 0.5 and chance_accuracy((15, 3)) == pytest.approx(15 / 18)
    assert chance_accuracy((2, 6)) == 0.75 and chance_accuracy((4, 4, 4, 4, 4)) == pytest.approx(0.2)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_unequal_counts_give_finite_values_and_intervals(normal, abnormal, seed):
    labels = np.repeat([0, 1], (normal, abnormal))
    margin = np.random.default_rng(seed).choice([-1e30, -1.0, 0.0, 0.5, 2.0, 1e30], (6, len(labels)))
    found = episode_metrics(margin, labels)
    assert all(np.isfinite(values).all() and np.isfinite(half_width_95(values)) for values in found.values())
    assert found["balanced_accuracy"] == pytest.approx([balanced_accuracy_score(labels, row > 0) for row in margin])
    if normal == abnormal:
        assert found["balanced_accuracy"] == pytest.approx(found["accuracy"])


def test_more_than_two_classes_against_loops():
    rng, queries = np.random.default_rng(0), (4, 2, 1)
    labels = np.repeat(np.arange(3), queries)
    logits = rng.standard_normal((5, 7, 3)).astype(np.float32) * 3
    found = class_metrics(logits, labels)
    for i, episode in enumerate(logits.astype(float)):
        called = [int(np.argmax(row)) for row in episode]
        probability = np.exp(episode) / np.exp(episode).sum(axis=1, keepdims=True)
        abnormal = 1 - probability[:, 0]
        assert found["accuracy"][i] == pytest.approx(np.mean(called == labels))
        assert found["balanced_accuracy"][i] == pytest.approx(balanced_accuracy_score(labels, called))
        assert found["accuracy_binary"][i] == pytest.approx(np.mean((abnormal > 0.5) == (labels > 0)))
        assert found["balanced_accuracy_binary"][i] == pytest.approx(balanced_accuracy_score(labels > 0, abnormal > 0.5))
        assert found["auroc"][i] == pytest.approx(roc_auc_score(labels > 0, abnormal))
        assert found["recall_abnormal"][i] == pytest.approx(np.mean(abnormal[4:] > 0.5))
        np.testing.assert_allclose(margins_of(logits)[i], logit(abnormal), rtol=1e-6, atol=1e-9)


def test_recalls_of_categories_are_over_all_their_queries():
    logits = np.zeros((2, 4, 3))  # two normal queries, then one of each category
    logits[0, [2, 3], [1, 2]], logits[1, [2, 3], [1, 1]] = 1, 1
    names = np.array([["a", "b"], ["b", "c"]])
    assert recalls_by_category(logits, (2, 1, 1), names) == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert recalls_by_category(np.array([[-1.0, 1, 2, -3]]), (2, 2), names[:1, :1]) == {"a": 0.5}


def test_two_classes_are_measured_by_their_margins():
    margins = np.random.default_rng(0).standard_normal((4, 6))
    assert all(np.array_equal(value, episode_metrics(margins, LABELS)[name]) for name, value in class_metrics(margins, LABELS).items())
    logits = np.stack([np.zeros_like(margins), margins], axis=-1)
    np.testing.assert_allclose(margins_of(logits), margins)
    assert np.isfinite(margins_of(np.full((1, 2, 3), np.finfo(np.float32).min, np.float32))).all()


def test_calling_everything_normal_is_chance_of_either_accuracy():
    found = episode_metrics(np.full((3, 18), -1.0), np.repeat([0, 1], (15, 3)))
    assert found["accuracy"] == pytest.approx(chance_accuracy((15, 3))) and found["balanced_accuracy"].tolist() == [0.5] * 3


def test_a_half_without_one_class_fits_no_threshold():
    """One abnormal query of five: its own half has both classes, the other is of normal ones alone and says nothing of where to cut."""
    margin, labels = np.array([[1.0, 1.2, 1.1, 1.3, 3.0]]), np.array([0, 0, 0, 0, 1])
    # The fitted threshold, 2.05, judges queries 1 and 3 (right); 0 judges queries 0, 2 (wrong) and the abnormal one (right).
    assert calibrated_accuracy(margin, labels == 1).tolist() == [pytest.approx(3 / 5)]


def test_equal_counts_give_what_they_always_gave():
    """Values of the code that knew equal counts alone."""
    margin = np.sin(np.arange(60.0)).reshape(6, 10) * 3 + np.repeat([0, 0.7], 5)
    found = {name: round(float(values.mean()), 9) for name, values in episode_metrics(margin, np.repeat([0, 1], 5)).items()}
    assert found.pop("balanced_accuracy") == found["accuracy"]
    assert found == {"accuracy": 0.533333333, "auroc": 0.593333333, "average_precision": 0.676825397, "recall_normal": 0.5,
                     "recall_abnormal": 0.566666667, "f1": 0.543771044, "mcc": 0.068041382, "ece": 0.408946809, "accuracy_calibrated": 0.466666667}


def test_halves_without_queries_take_the_fixed_threshold():
    assert calibrated_accuracy(np.array([[-0.2, 0.7], [0.6, -0.4]]), np.array([False, True])).tolist() == [1, 0]
