"""What is done behind each step of the adaptation, by the process that keeps what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from acx_jax.errors import WorkError
from acx_jax.runtime import devices
from acx_jax.runtime.checkpoints import Checkpoints
from acx_jax.runtime.pace import Pace
from acx_jax.runtime.peak import matrix_rate
from acx_jax.selfsup.training import AdaptState
from acx_jax.stages.adapt_probe import Watch
from acx_jax.stages.adapt_program import handed_on, step_flops
from acx_jax.stages.adapt_record import LOG, SPEED, OneBehind, Record, Speed
from acx_jax.stages.job import Job


class Behind:
    """Notes each step in `record` and in the progress, one step late so that no device waits; probes and saves when it is time.

    pace: of its steps, for the feed to be watched by. speed: what the pace says.
    """

    def __init__(self, job: Job, advance: Any, *, checkpoints: Checkpoints, record: Record, watch: Watch | None):
        self._job, self._advance, self._checkpoints, self._record, self._watch = job, advance, checkpoints, record, watch
        self._late = OneBehind(self._take)
        self._metrics: dict[str, Any] = {}
        self.pace = Pace(busy=lambda: not all(value.is_ready() for value in self._metrics.values()))
        self.speed = Speed(self.pace, clips=job.config.adapt.batch, flops=step_flops(job.config), peak=self._peak)

    def __call__(self, number: int, state: AdaptState, metrics: dict[str, Any], videos: list[str],
                 asked_to_stop: Callable[[int], BaseException | None]) -> BaseException | None:
        """Gives what to raise, None to go on."""
        self._metrics = metrics
        self._late.put(number, metrics, videos)
        stop = asked_to_stop(number)
        watch = self._watch if self._watch and self._watch.due(number) else None
        last = number == self._job.config.adapt.steps
        if stop is not None or watch or last or self._checkpoints.due(number):
            self._late.flush()  # what is probed or saved was found to be finite
        best = watch is not None and watch.look(number, handed_on(devices.first(state), self._job.config))
        self._checkpoints.save(number, lambda: devices.first(state), now=best or last or stop is not None)
        if best:
            self._checkpoints.wait()
            watch.forget()
        return stop

    def _take(self, number: int, metrics: dict[str, Any], videos: list[str]) -> None:
        values = numbers(metrics)
        log_step(self._job, self._record, number, values, videos)
        if (rates := self.speed.step()) is not None:
            self._record.add(SPEED, {"step": number} | rates)
        self._advance(1, f"loss {values['loss']:.3f}")

    def _peak(self) -> float:
        jax.block_until_ready(self._metrics)
        return devices.process()[1] * matrix_rate(self._job.config.encoder.dtype)  # of processes on machines alike


def log_step(job: Job, record: Record, step: int, metrics: dict[str, float], videos: list[str]) -> None:
    """Notes a step. Raises WorkError as `check_finite` does."""
    record.add(LOG, {"step": step} | metrics)
    check_finite(job.config, step, metrics, videos)


def check_finite(config: ConfigDict, step: int, metrics: dict[str, float], videos: list[str]) -> None:
    """Raises WorkError, with the step and the names of its videos, for a loss or a gradient that is not finite."""
    for name, said in (("loss", "loss"), ("gradient_norm", "norm of the gradient")):
        if not np.isfinite(metrics.get(name, 0.0)):
            raise WorkError(f"adapt: the {said} of step {step} is {metrics[name]}, on clips of {', '.join(videos)}{_whose()}: try a lower "
                            f"--config.adapt.learning_rate (it is {config.adapt.learning_rate}), or leave those videos out with "
                            "--config.data.exclude")


def _whose() -> str:
    """Whose videos they are, where processes share each batch."""
    process, count = devices.process()
    return f", the share of process {process}; the other {count - 1} name theirs" if count > 1 else ""


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics of a step, the same on every device."""
    return {name: float(value) for name, value in devices.first(metrics).items()}
