"""A probe that watches the adaptation: whether nearest neighbours tell abnormal segments by the encoder as it is. No episode has its segments."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

from acx_jax.contracts import LABELS, StoredSegment
from acx_jax.data import prepared
from acx_jax.data.episodes import group_segments
from acx_jax.data.meta_split import PROBE
from acx_jax.data.window_feed import windows_feed
from acx_jax.data.windows import spread, window_count
from acx_jax.errors import UsageError
from acx_jax.fewshot.neighbours import neighbour_scores
from acx_jax.models.encoders import folded, normalise
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import load_variables, save_variables
from acx_jax.stages import meta_parts
from acx_jax.stages.adapt_record import PROBES, Record, lines
from acx_jax.stages.encoder import compute_dtype, spec_of
from acx_jax.stages.job import Job

AUROC, BEST = "probe_auroc", "best"
Probe = Callable[[Any], float]


class Watch:
    """Probes every so many steps, and keeps the variables of the best one where those are to be handed on.

    What `record` has of earlier steps counts. The order of what is written lets a run be killed anywhere: variables, then the line
    that names them, then the checkpoint behind which nothing is repeated, and only then are those of the best before removed.
    """

    def __init__(self, job: Job, probe: Probe, record: Record):
        self._job, self._probe, self._record = job, probe, record
        self._seen = {line["step"]: line[AUROC] for line in lines(job.out / PROBES)}
        self._kept = job.config.adapt.result == "best"
        self._held = {step: value for step, value in self._seen.items() if not self._kept or (job.out / BEST / str(step)).is_dir()}
        if self._held:
            self.forget()  # what a kill left

    def due(self, step: int) -> bool:
        """Whether `look` is to be called behind this step: before the first, every `probe.every`-th, and the last one."""
        return step not in self._seen and (step % self._job.config.probe.every == 0 or step == self._job.config.adapt.steps)

    def look(self, step: int, variables: Any) -> bool:
        """Probes. Gives whether `variables` are kept as the best so far, so that a checkpoint is to be saved, and `forget` to be called."""
        value = round(self._probe(variables), 6)
        better = value > max(self._held.values(), default=-1.0)
        if better and self._kept:
            save_variables(self._job.out / BEST / str(step), variables)
        self._seen[step] = value
        if better or not self._kept:
            self._held[step] = value
        self._record.add(PROBES, {"step": step, AUROC: value})
        self._job.log.info(f"adapt: the probe's AUROC at step {step} is {value:.3f}" + (", the best so far" if better and step else ""))
        return better and self._kept

    def best(self) -> int:
        """The step of the best probe, the first of them."""
        return max(self._held, key=lambda step: (self._held[step], -step))

    def forget(self) -> None:
        """Removes the kept variables of all steps but the best."""
        for folder in (self._job.out / BEST).glob("*"):
            if folder.name != str(self.best()):
                shutil.rmtree(folder)

    def variables(self, like: Any) -> Any:
        """The variables of the best step."""
        return load_variables(self._job.out / BEST / str(self.best()), like, stage=self._job.out)

    def summary(self) -> dict[str, float]:
        """The best step and its AUROC, and that before the first step."""
        return {"best_step": self.best(), "best": self._held[self.best()], "before": self._seen[0]}


def make_probe(job: Job) -> Probe | None:
    """The probe: variables of the encoder -> the AUROC of its neighbours' scores; None where the config asks for none."""
    if not job.config.probe.share:
        return None
    picked = _picked(job.config, job.workdir)
    labels, groups = np.array([s.segment.label for s in picked], int), group_segments([s.segment for s in picked]).of_segment
    encode = _encoder(job)

    def probe(variables: Any) -> float:
        vectors = _vectors(job, picked, encode, variables)
        return float(roc_auc_score(labels, neighbour_scores(vectors, labels, groups, neighbours=job.config.probe.neighbours)))

    job.log.info(f"adapt: a probe of {len(picked)} segments of {len({s.segment.video for s in picked})} videos watches; no episode has them")
    return probe


def _picked(config: ConfigDict, workdir: Path) -> list[StoredSegment]:
    """The segments that the probe has."""
    evaluated = [s for s in prepared.load(workdir / "prepare")[0] if s.segment.split == "evaluate"]
    return [evaluated[i] for i in meta_parts.indices_of(config, [s.segment for s in evaluated], PROBE)]


def check_possible(config: ConfigDict, workdir: Path) -> None:
    """Raises UsageError where the config asks for a probe and its segments are all of one class."""
    if not config.probe.share:
        return
    counts = np.bincount([s.segment.label for s in _picked(config, workdir)], minlength=len(LABELS))
    if counts.min() == 0:
        have = " and ".join(f"{n} {name}" for n, name in zip(counts, LABELS))
        raise UsageError(f"config.probe.share is {config.probe.share}, which gives the probe {have} segments, and it needs both: raise it, or set it to 0")


def _encoder(job: Job) -> Callable[[Any, np.ndarray], jax.Array]:
    spec = spec_of(job.config)
    encoder = spec.build(compute_dtype(job.config), folded=True)

    def forward(variables: Any, clips: jax.Array) -> jax.Array:
        return encoder.apply(variables, normalise(spec, clips), train=False)

    return devices.map_over_devices(forward, in_axes=(None, 0), own=True)


def _vectors(job: Job, picked: list[StoredSegment], encode: Callable, variables: Any) -> np.ndarray:
    """The mean vector of each segment's windows, float [S, D]."""
    config, data = job.config, job.config.data
    feed = windows_feed(job.workdir / "prepare", picked, "evaluate", crop=config.encoder.crop, batch=devices.round_up(config.embed.batch),
                        length=data.clip_frames, stride=data.clip_stride, most=config.probe.windows)
    variables = folded(spec_of(config), variables)
    vectors = np.concatenate([np.asarray(devices.join(encode(variables, devices.split(frames))))[:count] for frames, count in feed])
    counts = [len(spread(window_count(s.frames, length=data.clip_frames, stride=data.clip_stride), config.probe.windows)) for s in picked]
    return np.stack([part.mean(axis=0) for part in np.split(vectors, np.cumsum(counts)[:-1])])
