"""Context features: the frozen encoder over every window of every evaluation segment, before and after adaptation, and whitened by normal videos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax.contracts import ContextFeatures, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.builders import features
from acx_jax.data.builders.feature_arrays import read_place
from acx_jax.data.feature_store import FeatureWriter, load_features, take_over
from acx_jax.data.feeds import Process
from acx_jax.data.window_feed import windows_feed
from acx_jax.data.windows import spread, window_count
from acx_jax.errors import WorkError
from acx_jax.models.encoders import folded, normalise
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import load_variables
from acx_jax.runtime.files import write_json
from acx_jax.runtime.stopping import deferred
from acx_jax.stages import adapt, embed_whitened
from acx_jax.stages.encoder import compute_dtype, pretrained_variables, settings as encoder_settings, spec_of
from acx_jax.stages.job import Job

GIVEN = "given"  # features that the user brought
SETS = ("pretrained", "adapted", embed_whitened.WHITENED, GIVEN)


class Part(NamedTuple):
    """What goes into one folder of vectors: the windows of `segments`, all of one split, at most `most` of each (0: all), by encoder `variables`."""

    name: str
    variables: Any
    segments: list[StoredSegment]
    split: str = "evaluate"
    most: int = 0

    def offsets(self, data: ConfigDict) -> np.ndarray:
        """int64 [S + 1]: where the windows of each segment start."""
        counts = [window_count(s.frames, length=data.clip_frames, stride=data.clip_stride) for s in self.segments]
        return np.concatenate([[0], np.cumsum([len(spread(count, self.most)) for count in counts])]).astype(np.int64)


def settings(config: ConfigDict) -> dict[str, Any]:
    """What of the config this stage depends on."""
    return {"seed": config.seed, "encoder": encoder_settings(config)} | embed_whitened.settings(config)


def run(job: Job) -> None:
    """Writes one folder of features a set of weights: `pretrained` and, where there was an adaptation, `adapted`. With `embed.whiten`: also
    `normals`, vectors of windows of normal videos, and `whitened` with its map, which they are learnt from."""
    config = job.config
    if config.data.builder == "features":
        _import_given(job, _stored(job))
        return
    parts, encode = _parts(job), _encoder(config)
    with _stops(config) as stops:
        for part in parts:
            _embed(job, part, encode, stops)
    summary = {"encoder": config.encoder.arch, "weights": config.encoder.weights, "segments": len(parts[0].segments),
               "windows": int(parts[0].offsets(config.data)[-1])}
    if parts[-1].name == embed_whitened.NORMALS:
        embed_whitened.write(job, parts[-2].name)
        summary["whitened"] = {"of": parts[-2].name, "normals": int(parts[-1].offsets(config.data)[-1]), "weight": config.embed.whiten}
    write_json(job.out / "summary.json", summary)


def load_sets(workdir: Path) -> dict[str, ContextFeatures]:
    """The features that the stage has left, by set. Raises WorkError when they are incomplete or broken, or none are there."""
    stage = workdir / "embed"
    found = {name: load_features(stage / name, stage=stage) for name in SETS if (stage / name).is_dir()}
    if not found:
        raise WorkError(f"{stage} holds no features: delete it and run the same command again")
    return found


def take_part(job: Job) -> None:
    """The part of a process that joined another, which does `run`: its share of every batch that is encoded. It writes nothing but its log."""
    if job.config.data.builder == "features":
        return
    parts, encode = _parts(job), _encoder(job.config)
    with _stops(job.config) as stops:
        for part in parts:
            done = int(devices.from_first_process(np.int32(0)))
            for _ in _vectors(job, part, encode, done):
                if (stop := next(stops)) is not None:
                    raise stop
            job.log.info(f"embed {part.name}: took part")


def _stored(job: Job, split: str = "evaluate") -> list[StoredSegment]:
    return [s for s in prepared.load(job.workdir / "prepare")[0] if s.segment.split == split]


def _parts(job: Job) -> list[Part]:
    """What the encoder goes over, in order: each set of weights, then, where they are wanted, the normals of the last one's whitening."""
    parts = [Part(name, variables, _stored(job)) for name, variables in weights_of(job).items()]
    if not job.config.embed.whiten:
        return parts
    normals, most = embed_whitened.normals(job.config, _stored(job, "adapt"))
    if not normals:
        job.log.info("embed: nothing is whitened: the normal segments of the adaptation split have fewer than 2 windows of "
                     f"config.data.clip_frames={job.config.data.clip_frames} to learn from")
        return parts
    return [*parts, Part(embed_whitened.NORMALS, parts[-1].variables, normals, "adapt", most)]


@contextmanager
def _stops(config: ConfigDict) -> Iterator[Iterator[KeyboardInterrupt | None]]:
    """What to raise behind each batch, None mostly; the same in all processes, whose steps go on behind those of the adaptation."""
    with deferred(devices.process()[1]) as asked_to_stop, devices.others_may_go("embed"):
        yield map(asked_to_stop, count(config.adapt.steps + 1))


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


def weights_of(job: Job) -> dict[str, Any]:
    """The variables of each set of weights whose vectors are wanted."""
    variables = {"pretrained": pretrained_variables(job.config)}
    if adapt.handed_on_any(job.workdir / "adapt"):
        variables["adapted"] = load_variables(job.workdir / "adapt" / adapt.ENCODER, variables["pretrained"])
    return variables


def _encoder(config: ConfigDict) -> Callable[[Any, np.ndarray], jax.Array]:
    spec = spec_of(config)
    encoder = spec.build(compute_dtype(config), folded=True)

    def forward(variables: Any, clips: jax.Array) -> jax.Array:
        return encoder.apply(variables, normalise(spec, clips), train=False)

    return devices.map_over_devices(forward, in_axes=(None, 0), own=True)


def _embed(job: Job, part: Part, encode: Callable, stops: Iterator[KeyboardInterrupt | None]) -> None:
    name, offsets, provenance = part.name, part.offsets(job.config.data), provenance_of(job.config, part.variables, _batch(job.config))
    if embed_whitened.only_whitening_differs(job.workdir / "embed", job.out):
        take_over(job.workdir / "embed" / name, job.out / name, provenance)
    writer = FeatureWriter(job.out / name, offsets=offsets, dimension=spec_of(job.config).feature_dim, provenance=provenance)
    total, done = int(offsets[-1]), int(devices.from_first_process(np.int32(writer.done)))
    with job.log.progress(f"embed {name}", total, unit="windows", start=done) as advance:
        for vectors in _vectors(job, part, encode, done):
            vectors = vectors[:total - writer.done]  # the last batch is filled up
            writer.append(vectors)
            advance(len(vectors))
            if (stop := next(stops)) is not None:
                writer.save()
                job.log.info(f"embed {name}: asked to stop, {writer.done} windows are saved")
                raise stop
    job.log.info(f"embed {name}: {total} windows of {len(part.segments)} segments" + (", which were there" if done == total else ""))


def _vectors(job: Job, part: Part, encode: Callable, done: int) -> Iterator[np.ndarray]:
    """Batches of vectors, float32 [batch, P], of all windows behind the first `done`; each process encodes its part and has the whole."""
    config, batch = job.config, _batch(job.config)
    variables = folded(spec_of(config), devices.from_first_process(part.variables))
    feed = windows_feed(job.workdir / "prepare", part.segments, part.split, crop=config.encoder.crop, batch=batch,
                        length=config.data.clip_frames, stride=config.data.clip_stride, most=part.most, start_batch=-(-done // batch),
                        process=Process(*devices.process()))
    for vectors in _one_ahead(encode(variables, devices.split(frames)) for frames, _ in feed):
        yield devices.from_all_processes(devices.join(vectors))


def _one_ahead(made: Iterator[jax.Array]) -> Iterator[jax.Array]:
    """Each of what devices are made to compute, when the next is on its way: they compute while the last result is fetched and written."""
    before = next(made, None)
    for after in made:
        yield before
        before = after
    if before is not None:
        yield before


def _batch(config: ConfigDict) -> int:
    return devices.round_up(config.embed.batch, together=True)


def provenance_of(config: ConfigDict, variables: Any, batch: int) -> dict[str, Any]:
    """What the vectors are made from: weights by digest, and the transform of the frames."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.asarray(leaf).tobytes())
    return {"weights": digest.hexdigest(), "encoder": encoder_settings(config), "batch": batch,
            "transform": {"short_side": config.data.short_side, "width": config.data.width, "resample": config.data.resample,
                          "crop": "centre"},
            "windows": {"length": config.data.clip_frames, "stride": config.data.clip_stride}}
