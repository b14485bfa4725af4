"""One learner on many episodes: chunks of them through programs that are compiled once for their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from acx_jax import randomness
from acx_jax.contracts import ABNORMAL, NORMAL, ContextFeatures, Episodes
from acx_jax.errors import WorkError
from acx_jax.fewshot.episodes import fitting_chunk, score_episodes
from acx_jax.fewshot.learner import Learner
from acx_jax.fewshot.metrics import margins_of
from acx_jax.fewshot.ragged import ragged, size_groups
from acx_jax.runtime import devices
from acx_jax.runtime.run_log import RunLog

FINITE = (np.finfo(np.float32).min, np.finfo(np.float32).max)


class Scorer:
    """A learner, the features it sees, on every device, and its compiled programs.

    chunk: episodes at once, over all devices; 0 for as many as fit. label: what progress and errors call it.
    """

    def __init__(self, learner: Learner, features: ContextFeatures, *, seed: int, chunk: int, label: str, log: RunLog):
        seen = ragged(features)
        self._learner, self._counts, self._features = learner, seen.counts, seen.vectors.shape[1]
        self._segments = devices.replicate(seen)
        self._seed, self._chunk, self._label, self._log = seed, chunk, label, log
        self._compiled: dict[Any, Callable[..., jax.Array]] = {}

    def scores(self, episodes: Episodes, *, of_part: str = "") -> np.ndarray:
        """Finite float32: of two classes how far the logit of abnormal lies above that of normal for every query, [E, Q]; of more the logits
        [E, Q, way].

        Raises WorkError that names the first episode in which the learner's logits are not numbers.
        """
        number = len(episodes.support)
        keys = jax.vmap(lambda i: jax.random.fold_in(randomness.stream(self._seed, "learners"), i))(np.arange(number))
        found = np.empty(episodes.query.shape + (() if episodes.way == 2 else (episodes.way,)), np.float32)
        largest = self._counts[np.concatenate([episodes.support, episodes.query], axis=1)].max(axis=1)
        with self._log.progress(f"evaluate {self._label}{of_part}", number, unit="episodes") as advance:
            for nodes, group in size_groups(largest):
                for rows, count in _chunks(group, self._at_once(episodes, nodes, len(group))):
                    logits = self._run(episodes.way, nodes, episodes.support[rows], episodes.query[rows], keys[rows])
                    found[rows[:count]] = _finite(logits, rows, f"evaluate {self._label}{of_part}")[:count]
                    advance(count)
        return found

    def _at_once(self, episodes: Episodes, nodes: int, number: int) -> int:
        """Episodes a chunk: what is asked for, or what fits."""
        segments = episodes.support.shape[1] + episodes.query.shape[1]
        chunk = self._chunk or devices.count() * fitting_chunk(devices.memory(), segments=segments, nodes=nodes, features=self._features)
        return devices.round_up(min(chunk, number))

    def _run(self, way: int, nodes: int, *chunk: Any) -> np.ndarray:
        """The logits [E, Q, way] of a chunk: support, query and keys."""
        arguments = (self._segments, *devices.split(chunk))
        sizes = (way, nodes, *(part.shape for part in chunk))
        if sizes not in self._compiled:
            alone = devices.on_cpu() and nodes > 1  # small work is quicker together on any device
            score = score_episodes(self._learner, way=way, nodes=nodes, together=1 if alone else None)
            self._compiled[sizes] = devices.map_small(score, *arguments)
        return devices.join(self._compiled[sizes](*arguments))


def _chunks(group: np.ndarray, size: int) -> list[tuple[np.ndarray, int]]:
    """The episodes of a group, `size` at a time, and how many of those count: the last chunk is filled up with the last episode."""
    places = [np.arange(first, first + size) for first in range(0, len(group), size)]
    return [(group[np.minimum(place, len(group) - 1)], min(size, len(group) - place[0])) for place in places]


def _finite(logits: np.ndarray, rows: np.ndarray, label: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of logits that are infinite
        margins = logits[..., ABNORMAL] - logits[..., NORMAL] if logits.shape[-1] == 2 else margins_of(logits)
    wrong = (np.isnan(margins) | np.isnan(logits).any(axis=-1)).any(axis=1)
    if wrong.any():
        raise WorkError(f"{label}: episode {rows[wrong.argmax()]} has logits that are no numbers (NaN, or both infinite): scale the features "
                        "down if their values are very large, lower the learner's rate (config.learners, or config.meta.inner_rate of meta), or "
                        "leave the learner out of config.learners.names")
    return np.clip(margins if logits.shape[-1] == 2 else logits, *FINITE)
