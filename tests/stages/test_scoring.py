"""A learner over many episodes: every query at its place, however episodes are grouped and chunked, compiled once for its sizes."""

import numpy as np
import pytest

from acx_jax.contracts import ContextFeatures, Episodes
from acx_jax.fewshot.baselines import proto
from acx_jax.fewshot.ragged import ragged, size_groups
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages.scoring import Scorer

pytestmark = pytest.mark.usefixtures("quick_compiler")
LONG, FEATURES = 300, 4


@pytest.fixture(scope="module")
def features() -> ContextFeatures:
    """16 segments of 1 to 5 vectors, of which the last, abnormal, has LONG."""
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *rng.integers(1, 6, 15), LONG])
    return ContextFeatures(rng.standard_normal((offsets[-1], FEATURES)).astype(np.float32), offsets)


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    """13 episodes, 1-shot 2-query; the first and the tenth alone have the long segment."""
    rng = np.random.default_rng(1)
    picked = [np.stack([rng.permutation(8)[:3], 8 + rng.permutation(7)[:3]]) for _ in range(13)]
    picked[0][1, 0] = picked[9][1, 2] = 15
    return Episodes(*(np.array([p[:, part].ravel() for p in picked], np.int32) for part in (slice(1), slice(1, None))), (2, 2))


def expected(features: ContextFeatures, episodes: Episodes) -> np.ndarray:
    means = np.array([part.mean(axis=0) for part in np.split(features.vectors, features.offsets[1:-1])])
    far = ((means[episodes.query][:, :, None] - means[episodes.support][:, None]) ** 2).sum(axis=-1) / FEATURES
    return far[..., 0] - far[..., 1]


@pytest.mark.parametrize("chunk", [0, 4, 100])
def test_every_margin_is_at_its_place(features, episodes, chunk, tmp_path):
    counts = ragged(features).counts
    groups = size_groups(counts[np.concatenate([episodes.support, episodes.query], axis=1)].max(axis=1))
    assert [rows.tolist() for _, rows in groups][1] == [0, 9]
    log = RunLog(tmp_path / "log.txt")
    scorer = Scorer(proto(features=FEATURES, way=2, pool="mean"), features, seed=0, chunk=chunk, label="proto", log=log)
    np.testing.assert_allclose(scorer.scores(episodes), expected(features, episodes), atol=1e-5)
    compiled = len(scorer._compiled)
    np.testing.assert_allclose(scorer.scores(episodes, of_part=", again"), expected(features, episodes), atol=1e-5)
    assert len(scorer._compiled) == compiled == 2
