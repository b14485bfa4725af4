"""The features `whitened`: the last set of the encoder's, put through a map that is learnt from windows of the normal videos it was adapted on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import NORMAL, ContextFeatures, StoredSegment
from acx_jax.data.feature_store import PROVENANCE, VECTORS, FeatureWriter, load_features
from acx_jax.data.windows import most_of_each, spread, window_count
from acx_jax.errors import WorkError
from acx_jax.models.whitening import Whitening, apply_map, whitening
from acx_jax.runtime.files import replacing
from acx_jax.stages.job import STAMP, Job

WHITENED, NORMALS, MAP = "whitened", "normals", "whitening.npz"
REVISION = "2"  # of the map: what an earlier one gave is redone


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config the whitening depends on; nothing where there is none, so that what was embedded before is not redone."""
    return {"embed.whiten": config.embed.whiten, "embed.normals": config.embed.normals, "embed.map": REVISION} if config.embed.whiten else {}


def normals(config: ConfigDict, adapting: list[StoredSegment]) -> tuple[list[StoredSegment], int]:
    """Of the segments of the adaptation split the normal ones whose windows the map is learnt from, and how many of each at most (0: all);
    none where they have fewer than 2 windows."""
    data, embed = config.data, config.embed
    found = [s for s in adapting if s.segment.label == NORMAL and s.frames >= data.clip_frames]
    found = [found[i] for i in spread(len(found), embed.normals)]
    counts = [window_count(s.frames, length=data.clip_frames, stride=data.clip_stride) for s in found]
    return (found, most_of_each(counts, embed.normals)) if sum(counts) >= 2 else ([], 0)


def write(job: Job, base: str) -> None:
    """Learns the map from `normals` and leaves it, and the vectors of the set `base` put through it. Raises WorkError where nothing varies."""
    weight, known = job.config.embed.whiten, np.load(job.out / NORMALS / VECTORS, mmap_mode="r")
    try:
        to = whitening(known, weight)
    except ValueError as error:
        raise WorkError(f"embed: of the windows of normal videos, which config.embed.whiten={weight} learns from, {error}: the videos that adapt "
                        "may be still pictures, or the encoder's weights broken. Set --config.embed.whiten=0 to go on without") from None
    with replacing(job.out / MAP) as file:
        np.savez(file, **to._asdict(), of=np.array(base))
    features = load_features(job.out / base, stage=job.out)
    provenance = {"whiten": weight, "map": REVISION, "normals": _provenance(job.out / NORMALS), "of": _provenance(job.out / base)}
    writer = FeatureWriter(job.out / WHITENED, offsets=features.offsets, dimension=features.vectors.shape[1], provenance=provenance)
    writer.done = 0  # multiplying is faster than finding out what is written
    for vectors in apply_map(features.vectors, to):
        writer.append(vectors)
    job.log.info(f"embed {WHITENED}: those of {base}, whitened by {len(known)} windows of normal segments of the adaptation split "
                 f"(config.embed.whiten={weight})")


def load_map(stage: Path) -> tuple[str, Whitening]:
    """The name of the set that was whitened, and the map that did it. Raises WorkError where they cannot be read."""
    try:
        with (stage / MAP).open("rb") as file, np.load(file, allow_pickle=False) as held:
            return str(held["of"]), Whitening(held["away"], held["by"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise WorkError(f"{stage / MAP}: {error}; delete {stage} and run the same command again: it is then made anew") from None


def mapped(features: ContextFeatures, to: Whitening) -> ContextFeatures:
    """The features with their vectors put through the map, in memory."""
    return features._replace(vectors=np.concatenate(list(apply_map(features.vectors, to))))


def only_whitening_differs(done: Path, out: Path) -> bool:
    """Whether what an earlier run left in `done` depends on all that `out` is to depend on but the whitening, which changes no other set."""
    try:
        return _without_whitening(done) == _without_whitening(out)
    except (OSError, ValueError, KeyError):
        return False


def _without_whitening(folder: Path) -> dict[str, Any]:
    depends = json.loads((folder / STAMP).read_text())["depends"]
    return depends | {"settings": {key: value for key, value in depends["settings"].items() if not key.startswith("embed.")}}


def _provenance(folder: Path) -> Any:
    return json.loads((folder / PROVENANCE).read_text())
