"""report of a run that trains and evaluates nothing: an encoder on source classes, or an adaptation where nothing is labelled abnormal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from acx_jax.data import prepared
from acx_jax.data.episode_file import data_hash
from acx_jax.runtime.files import write_text
from acx_jax.stages import report_curves as curves
from acx_jax.stages import report_page, training_words
from acx_jax.stages.job import Job
from acx_jax.stages.report_inputs import Training, load_training, read_overrides
from acx_jax.stages.report_words import HEADS, count, encoder_name


def settings(config: ConfigDict) -> dict[str, Any]:
    """Nothing of the config is this stage's alone."""
    return {}


def run(job: Job) -> None:
    """Writes job.out/index.html and job.out/report.md."""
    facts, plot = _facts(job.config, job.workdir), _plot(job.config, load_training(job.workdir))
    write_text(job.out / "index.html", report_page.fill("report_training.html.j2", **facts, plot=plot))
    write_text(job.out / "report.md", report_page.fill("report_training.md.j2", **facts))
    job.log.info(f"report: {job.workdir / 'report' / 'index.html'}")


def _facts(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    segments, coverage = prepared.load(workdir / "prepare")
    own = _of_encoder(config, workdir) if config.source.steps else _of_adaptation(config, load_training(workdir))
    own["was_run"] += [f"Trained on {coverage.videos_used} of {coverage.videos_listed} listed videos, data hash {data_hash(segments)}."]
    return report_page.common_facts(config, workdir, segments, coverage, read_overrides(workdir)) | own


def _of_encoder(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    own, lines = config.source, load_training(workdir).meta[0][1]
    summary = json.loads((workdir / "meta_train" / "summary.json").read_text())
    classes = {"trained on": summary["train_classes"], "that judge": summary["validation_classes"]}
    run = (f"{encoder_name(config)}, trained end to end for {count(lines[-1]['step'], 'step')} of {count(own.batch, 'episode')}, {own.way}-way {own.shot}-shot "
           f"{own.query}-query, with {HEADS[own.head]} solved on the support's vectors.")
    return {"title": "An encoder from source classes", "was_run": [run], "classes": classes, "log": "meta_train/log.jsonl",
            "verdict": training_words.judged(lines, what="encoder", steps=own.steps, patience=own.patience, chance=1 / own.way),
            "caption": "Loss and accuracy on the queries of episodes: of the classes trained on, each step, and of the classes that judge. The dotted line "
                       "is the step handed on."}


def _of_adaptation(config: ConfigDict, training: Training) -> dict[str, Any]:
    adapt = config.adapt
    found = training_words.handed_on(adapt.result, adapt.steps, training.probe) if training.losses else "The encoder was not adapted."
    return {"title": "Adaptation", "was_run": [f"{encoder_name(config)}, adapted in {count(len(training.losses), 'step')} of {adapt.batch} clips."], "classes": {},
            "log": "adapt/log.jsonl", "verdict": [found],
            "caption": "Contrastive training on normal clips. A falling loss says that training worked, not that it helps."}


def _plot(config: ConfigDict, training: Training) -> bytes | None:
    if config.source.steps:
        lines = training.meta[0][1]
        best = training_words.chosen(lines)
        return curves.meta_training(lines, chance=1 / config.source.way, chosen=best and best["step"])
    return curves.adaptation(training.losses) if training.losses else None
