"""Context features: the frozen encoder over every window of every evaluation segment, before and after adaptation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import StoredSegment
from acx_jax.data import prepared
from acx_jax.data.builders import features
from acx_jax.data.builders.feature_arrays import read_place
from acx_jax.data.feature_store import FeatureWriter
from acx_jax.data.window_feed import windows_feed
from acx_jax.data.windows import window_count
from acx_jax.errors import WorkError
from acx_jax.models.encoders import ENCODERS, folded, normalise
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import load_variables
from acx_jax.runtime.files import write_json
from acx_jax.stages import adapt
from acx_jax.stages.encoder import compute_dtype, pretrained_variables, settings as encoder_settings
from acx_jax.stages.job import Job

GIVEN = "given"  # features that the user brought
SETS = ("pretrained", "adapted", GIVEN)


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on."""
    return {"seed": config.seed, "encoder": encoder_settings(config)}


def run(job: Job) -> None:
    """Writes one folder of features a set of weights: `pretrained` and, where there was an adaptation, `adapted`."""
    stored, _ = prepared.load(job.workdir / "prepare")
    segments = [s for s in stored if s.segment.split == "evaluate"]
    data = job.config.data
    if data.builder == "features":
        _import_given(job, segments)
        return
    counts = [window_count(s.frames, length=data.clip_frames, stride=data.clip_stride) for s in segments]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    encode = _encoder(job.config)
    for name, variables in _weights(job).items():
        _embed(job, name, variables, encode, segments, offsets)
    write_json(job.out / "summary.json", {"encoder": job.config.encoder.arch, "weights": job.config.encoder.weights,
                                          "segments": len(segments), "windows": int(offsets[-1])})


def _import_given(job: Job, segments: list[StoredSegment]) -> None:
    """Copies the user's vectors, as the prepared segments name them, into one set of features."""
    places = features.list_features(Path(job.config.data.root)).places
    if any(s.segment not in places for s in segments):
        raise WorkError("the features changed while they were read: run the same command again")
    offsets = np.concatenate([[0], np.cumsum([s.frames for s in segments])]).astype(np.int64)
    dimension = read_place(places[segments[0].segment]).shape[1]
    writer = FeatureWriter(job.out / GIVEN, offsets=offsets, dimension=dimension, provenance={"given": features.fingerprint(Path(job.config.data.root))})
    writer.done = 0  # vectors are read faster than it takes to find out which are written
    with job.log.progress("import features", len(segments), unit="segments") as advance:
        for stored in segments:
            writer.append(read_place(places[stored.segment]))
            advance(1)
    write_json(job.out / "summary.json", {"encoder": GIVEN, "weights": GIVEN, "segments": len(segments), "windows": int(offsets[-1]),
                                          "dimension": dimension})


def _weights(job: Job) -> dict[str, Any]:
    variables = {"pretrained": pretrained_variables(job.config)}
    if json.loads((job.workdir / "adapt" / adapt.SUMMARY).read_text())["adapted"]:
        variables["adapted"] = load_variables(job.workdir / "adapt" / adapt.ENCODER, variables["pretrained"])
    return variables


def _encoder(config: ConfigDict) -> Callable[[Any, np.ndarray], jax.Array]:
    spec = ENCODERS[config.encoder.arch]
    encoder = spec.build(compute_dtype(config), folded=True)

    def forward(variables: Any, clips: jax.Array) -> jax.Array:
        return encoder.apply(variables, normalise(spec, clips), train=False)

    return devices.map_over_devices(forward, in_axes=(None, 0))


def _embed(job: Job, name: str, variables: Any, encode: Callable, segments: list[StoredSegment], offsets: np.ndarray) -> None:
    config, batch = job.config, devices.round_up(job.config.embed.batch)
    provenance = _provenance(config, variables, batch)
    variables = folded(ENCODERS[config.encoder.arch], variables)
    writer = FeatureWriter(job.out / name, offsets=offsets, dimension=ENCODERS[config.encoder.arch].feature_dim, provenance=provenance)
    feed = windows_feed(job.workdir / "prepare", segments, "evaluate", crop=config.encoder.crop, batch=batch,
                        length=config.data.clip_frames, stride=config.data.clip_stride, start_batch=-(-writer.done // batch))
    with job.log.progress(f"embed {name}", int(offsets[-1]), unit="windows", start=writer.done) as advance:
        for frames, count in feed:
            vectors = devices.join(encode(variables, devices.split(frames)))
            writer.append(np.asarray(vectors)[:count])
            advance(count)
    job.log.info(f"embed {name}: {offsets[-1]} windows of {len(segments)} segments")


def _provenance(config: ConfigDict, variables: Any, batch: int) -> dict[str, Any]:
    """What the vectors are made from: weights by digest, and the transform of the frames."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.asarray(leaf).tobytes())
    return {"weights": digest.hexdigest(), "encoder": config.encoder.to_dict(), "batch": batch,
            "transform": {"short_side": config.data.short_side, "width": config.data.width, "resample": config.data.resample,
                          "crop": "centre"},
            "windows": {"length": config.data.clip_frames, "stride": config.data.clip_stride}}
