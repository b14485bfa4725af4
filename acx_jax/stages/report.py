"""report: one page and one text file that say what was run, on what, and what came out."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict
from scipy.special import expit

from acx_jax.runtime.files import write_text
from acx_jax.stages import report_inputs, report_page, report_samples
from acx_jax.stages.job import Job
from acx_jax.stages.report_inputs import Findings
from acx_jax.stages.report_samples import Sample
from acx_jax.stages.report_words import best_row, row_name


def settings(config: ConfigDict) -> dict[str, Any]:
    """The part of the config that this stage alone depends on."""
    return {"samples": config.report.samples, "reported": config.episodes.reported}


def run(job: Job) -> None:
    """Writes job.out/index.html and job.out/report.md. Raises UsageError where there are no results to report."""
    findings = report_inputs.load(job.workdir)
    samples = _samples(job, findings)
    write_text(job.out / "index.html", report_page.html(findings, job.config, job.workdir, samples))
    write_text(job.out / "report.md", report_page.markdown(findings, job.config, job.workdir, samples))
    job.log.info(f"report: {job.workdir / 'report' / 'index.html'}")


def _samples(job: Job, findings: Findings) -> dict[str, list[Sample]]:
    """Best and worst segments of the learner with the highest AUROC, by heading."""
    row = best_row(findings.rows, "auroc") or best_row(findings.rows)
    margins = None if row is None else findings.margins.get((row["features"], row["learner"]))
    if margins is None:
        return {}
    chosen = report_samples.best_and_worst(report_samples.judge(findings.episodes, expit(margins)), job.config.report.samples)
    headings = (f"Recognised best ({row_name(row)})", f"Recognised worst ({row_name(row)})")
    return {heading: report_samples.show(judged, findings.evaluated, job.workdir / "prepare")
            for heading, judged in zip(headings, chosen) if judged}
