"""augment: the frozen encoder over augmented copies of every evaluation segment, for the support of episodes; only where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax import randomness
from acx_jax.contracts import ContextFeatures, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.feature_store import FeatureWriter, load_features, take_over
from acx_jax.data.window_feed import WholeWindows, largest_frame, whole_windows_feed
from acx_jax.data.windows import window_count
from acx_jax.models.encoders import folded, normalise
from acx_jax.runtime import devices
from acx_jax.selfsup import copies
from acx_jax.stages import augment_given
from acx_jax.stages.embed import GIVEN, provenance_of, weights_of
from acx_jax.stages.encoder import compute_dtype, settings as encoder_settings, spec_of
from acx_jax.stages.job import STAMP, Job

NAME = "augment"


def wanted(config: ConfigDict) -> bool:
    """Whether a run with this config has the stage."""
    return bool(config.episodes.augmented if config.data.builder == "features" else config.embed.augmented)


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on."""
    if config.data.builder == "features":
        return {"episodes": {"augmented": config.episodes.augmented}}  # as many as there are, if they suffice
    return {"seed": config.seed, "encoder": encoder_settings(config), "embed": {"augmented": config.embed.augmented}}


def run(job: Job) -> None:
    """Writes `<set>/<i>`, features of one augmented sequence a segment: i below `embed.augmented`, or as many as were given of each segment."""
    segments = [s for s in prepared.load(job.workdir / "prepare")[0] if s.segment.split == "evaluate"]
    if job.config.data.builder == "features":
        augment_given.run(job, job.out / GIVEN, segments)
        return
    data = job.config.data
    counts = [window_count(s.frames, length=data.clip_frames, stride=data.clip_stride) for s in segments]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    encode, feed = _encoder(job.config), _feed(job, segments)
    for name, variables in weights_of(job).items():
        _embed_copies(job, name, variables, encode, feed, offsets)


def load_copies(workdir: Path, name: str) -> list[ContextFeatures]:
    """The copies of one set of features, memory-mapped, in order. Raises WorkError when they are incomplete or broken."""
    stage = workdir / NAME
    folders = [folder for folder in (stage / name).glob("*") if folder.name.isdecimal()]
    return [load_features(folder, stage=stage) for folder in sorted(folders, key=lambda folder: int(folder.name))]


def _embed_copies(job: Job, name: str, variables: Any, encode: Callable, feed: Callable[[int], Iterator[WholeWindows]], offsets: np.ndarray) -> None:
    writers = _writers(job, name, variables, offsets)
    variables, key = folded(spec_of(job.config), variables), randomness.stream(job.config.seed, "augmented copies")
    done, total = sum(writer.done for writer in writers), len(writers) * int(offsets[-1])
    with job.log.progress(f"augment {name}", total, unit="windows", start=done) as advance:
        for copy, writer in enumerate(writers):
            for frames, size, segment, count in feed(writer.done) if writer.done < offsets[-1] else ():
                vectors = devices.join(encode(variables, jax.random.fold_in(key, copy), *devices.split((frames, size, segment))))
                writer.append(np.asarray(vectors)[:count])
                advance(count)
    job.log.info(f"augment {name}: {len(writers)} augmented sequences of each of {len(offsets) - 1} segments"
                 + (f", {done} of {total} windows were there" if done else ""))


def _feed(job: Job, segments: list[StoredSegment]) -> Callable[[int], Iterator[WholeWindows]]:
    """Of windows already done -> the batches behind them."""
    data, prepare, batch = job.config.data, job.workdir / "prepare", _batch(job.config)
    canvas = largest_frame(prepare, segments, "evaluate")
    return lambda done: whole_windows_feed(prepare, segments, "evaluate", canvas=canvas, batch=batch, length=data.clip_frames,
                                           stride=data.clip_stride, start_batch=-(-done // batch))


def _batch(config: ConfigDict) -> int:
    return devices.round_up(config.embed.batch)


def _writers(job: Job, name: str, variables: Any, offsets: np.ndarray) -> list[FeatureWriter]:
    """One a copy; each goes on where an interrupted run, or a finished one of another number, has left it."""
    plain, config, found = provenance_of(job.config, variables, _batch(job.config)), job.config, []
    plain["prepare"] = json.loads((job.workdir / "prepare" / STAMP).read_text())["fingerprint"]  # as many windows of other frames look alike otherwise
    for copy in range(config.embed.augmented):
        provenance = plain | {"transform": plain["transform"] | {"crop": "augmented"}, "augmentation": _augmentation(config, copy)}
        folder = job.out / name / str(copy)
        take_over(job.workdir / NAME / name / str(copy), folder, provenance)
        found.append(FeatureWriter(folder, offsets=offsets, dimension=spec_of(config).feature_dim, provenance=provenance))
    return found


def _encoder(config: ConfigDict) -> Callable[..., jax.Array]:
    """(variables, key of a copy, frames, size and segment of windows, as `WholeWindows` has them) -> vectors, over all devices."""
    spec = spec_of(config)
    encoder, view = spec.build(compute_dtype(config), folded=True), partial(copies.augmented, side=config.encoder.crop)

    def forward(variables: Any, key: jax.Array, frames: jax.Array, size: jax.Array, segment: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, segment)
        return encoder.apply(variables, normalise(spec, 255 * jax.vmap(view)(keys, frames, size)), train=False)

    return devices.map_over_devices(forward, in_axes=(None, None, 0, 0, 0), own=True)


def _augmentation(config: ConfigDict, copy: int) -> dict[str, Any]:
    return {"seed": config.seed, "copy": copy, "degrees": copies.DEGREES, "areas": copies.AREAS, "colours": copies.COLOURS,
            "probability": copies.PROBABILITY}
