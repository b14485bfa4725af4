"""Small adaptations of noisy videos, for tests of that stage."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from acx_jax.config import default_config
from acx_jax.contracts import ABNORMAL, Coverage, Segment
from acx_jax.data import prepared
from acx_jax.data.builders import records
from acx_jax.data.builders.listing import Listing
from acx_jax.data.builders.reading import Reading
from acx_jax.runtime.checkpoints import load_variables
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import adapt
from acx_jax.stages.adapt_record import LOG
from acx_jax.stages.encoder import pretrained_variables
from acx_jax.stages.job import Job

STEPS, EVERY = 5, 2


def prepare(segments: Sequence[Segment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workdir with prepared noise, 20 frames a segment, each a video of its own; the abnormal ones are bright, the others dark."""
    root, workdir, rng = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    for segment in segments:
        (root / segment.video).mkdir()
        low = 120 * (segment.label == ABNORMAL)
        for frame in range(20):
            Image.fromarray(rng.integers(low, low + 130, (18, 22, 3), dtype=np.uint8)).save(root / segment.video / f"{frame:03}.png")
    count = len(segments)
    listing = Listing(tuple(segments), {s.video: root / s.video for s in segments}, (), count, count)
    reading = Reading(8, 4, 0.0, 18, "nearest", 0, 8, {"adapt": 0, "evaluate": 0})
    built = records.build(listing, workdir / "prepare" / prepared.RECORDS, reading, folder=tmp_path_factory.mktemp("parts"), max_bad_share=0.0)
    value = prepared.to_json(built.stored, Coverage(count, count, count, count, (), ()), prepared.Windows(8, 4), {})
    (workdir / "prepare" / prepared.SEGMENTS).write_text(json.dumps(value))
    return workdir


def job(workdir: Path, out: str, **changes) -> Job:
    config = default_config()
    with config.unlocked():
        config.data.short_side = 18
        config.encoder.update(arch="r2plus1d_tiny", weights="random", crop=16)
        config.adapt.update(ConfigDict(dict(steps=STEPS, batch=4, queue=6, projection=8, learning_rate=0.01, checkpoint_every=EVERY) | changes))
    (workdir / out).mkdir(exist_ok=True)
    return Job(config, workdir, workdir / out, RunLog(terminal=io.StringIO()))


def results(of: Job) -> tuple[list, str, dict]:
    variables = load_variables(of.out / adapt.ENCODER, pretrained_variables(of.config))
    return jax.tree.leaves(variables), (of.out / LOG).read_text(), json.loads((of.out / adapt.SUMMARY).read_text())
