"""The check of recorded episodes, on a small record of our own: it passes on what we compute and fails on anything else."""

import numpy as np
import pytest

from acx_jax.fewshot.episodes import class_labels
from acx_jax.fewshot.metrics import episode_metrics
from acx_jax.published import fewshot
from acx_jax.published.bundle import Arrays, Bundle

pytestmark = pytest.mark.usefixtures("quick_compiler")
SEGMENTS, EPISODES, SHOT, QUERY = 20, 4, 1, 3


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Segments of 1 to 5 clips of two classes that lie apart, and few episodes of them."""
    monkeypatch.setattr(fewshot, "SEEDS", 2)
    monkeypatch.setattr(fewshot, "EPOCHS", 6)
    rng = np.random.default_rng(0)
    counts, labels = rng.integers(1, 6, SEGMENTS), np.repeat([0, 1], SEGMENTS // 2)
    features = rng.standard_normal((counts.sum(), 8)) + 1.5 * np.repeat(labels, counts)[:, None]
    orders = np.argsort(rng.random((EPISODES, 2, SEGMENTS // 2)), axis=-1) + [[0], [SEGMENTS // 2]]
    arrays = {"features": features.astype(np.float16), "counts": counts, "labels": labels,
              "support": orders[..., :SHOT].reshape(EPISODES, -1), "query": orders[..., SHOT:SHOT + QUERY].reshape(EPISODES, -1)}
    score = np.stack(list(fewshot._probabilities(Arrays(tmp_path, arrays))))
    values = episode_metrics(fewshot._margins(score.reshape(-1, 2 * QUERY)), class_labels(2, QUERY))
    return tmp_path, arrays | {"score": score, "accuracy": values["accuracy"].reshape(2, -1)}


def rows_of(folder, arrays):
    np.savez(folder / fewshot.FILE, **arrays)
    return list(fewshot.recorded_episodes(Bundle(folder)))


def test_what_we_compute_is_ours_and_another_record_is_not(record):
    folder, arrays = record
    rows = rows_of(folder, arrays)
    assert [row.tolerance is not None for row in rows] == [True, True, False] and all(row.ok for row in rows[:2])
    alternating = np.arange(2 * QUERY).reshape(2, QUERY).T.ravel()
    other_order = arrays | {"query": arrays["query"][:, alternating], "score": arrays["score"][..., alternating],
                            "support": arrays["support"][:, ::-1]}
    assert all(row.ok for row in rows_of(folder, other_order)[:2])
    worse = rows_of(folder, arrays | {"score": 1 - arrays["score"], "accuracy": 1 - arrays["accuracy"]})
    assert not any(row.ok for row in worse[:2])
