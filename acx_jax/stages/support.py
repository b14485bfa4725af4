"""What learners are fitted on: the features and episodes of an evaluation, with augmented sequences in the support where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acx_jax import randomness
from acx_jax.contracts import ContextFeatures, Episodes
from acx_jax.errors import WorkError
from acx_jax.fewshot.augmented import augmented_support, with_copies
from acx_jax.stages import augment, embed, embed_whitened
from acx_jax.stages.job import Job


def settings(augmented: int) -> dict[str, Any]:
    """What of the config the support depends on; nothing at 0, so that what was evaluated before there was the setting is not redone."""
    return {"augmented": augmented} if augmented else {}


def load_sets(job: Job) -> dict[str, ContextFeatures]:
    """The features by set; behind the segments of each their augmented sequences, where these are asked for."""
    plain = embed.load_sets(job.workdir)
    if not job.config.episodes.augmented:
        return plain
    return {name: with_copies(features, _copies(job.workdir, name)) for name, features in plain.items()}


def fitted_on(job: Job, episodes: Episodes, features: ContextFeatures, *, segments: int) -> Episodes:
    """The episodes with their augmented sequences, as further columns of the support; queries stay as they are.

    features: any set of `load_sets`. segments: of the evaluation. Raises WorkError when fewer sequences are there than are asked for.
    """
    used, held = job.config.episodes.augmented, (len(features.offsets) - 1) // segments - 1
    if not used:
        return episodes
    if used > held:
        raise WorkError(f"{job.workdir / augment.NAME} holds {held} augmented sequences of each segment, fewer than config.episodes.augmented = "
                        f"{used}: delete it and run the same command again: it is then made anew")
    key = randomness.stream(job.config.seed, "augmented support")
    return episodes._replace(support=augmented_support(key, episodes, segments=segments, held=held, used=used))


def _copies(workdir: Path, name: str) -> list[ContextFeatures]:
    """The augmented sequences of a set; those of the whitened one are another set's, put through the same map."""
    if name != embed_whitened.WHITENED:
        return augment.load_copies(workdir, name)
    base, to = embed_whitened.load_map(workdir / "embed")
    return [embed_whitened.mapped(copy, to) for copy in augment.load_copies(workdir, base)]
