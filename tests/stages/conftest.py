"""What tests of the adaptation, of processes that work together, and of the report share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import together
from ml_collections import ConfigDict
from report_case import make_case
from report_made import FEW, make_report

from acx_jax.stages import adapt


@pytest.fixture(scope="module")
def kept_programs() -> Iterator[None]:
    """Runs of the same settings share their compiled step, as a run and its rerun do through JAX's folder of programs."""
    made, kept = adapt.make_program, {}

    def program(config: ConfigDict, **options: Any) -> tuple[Any, Any]:
        step, state = made(config, **options)
        settings = {name: value for name, value in config.adapt.to_dict().items() if name not in ("checkpoint_every", "result")}
        return kept.setdefault(json.dumps([settings, config.encoder.to_dict(), options], sort_keys=True), step), state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt, "make_program", program)
        yield


@pytest.fixture
def pairs(environment, tmp_path) -> Iterator:
    """Starts one of two processes of a run; what it says goes to output-<index>-<port>.txt. What still runs is killed in the end."""
    started = []

    def process(index: int, port: int, *arguments: str):
        output = tmp_path / f"output-{index}-{port}.txt"
        started.append(together.start(environment, output, *arguments, f"--join={index}/2@localhost:{port}"))
        return started[-1]

    yield process
    for one in started:
        one.kill()
        one.wait()


@pytest.fixture(scope="session")
def small_report(tmp_path_factory) -> tuple[str, str]:
    """The page and the text of a run with one learner."""
    return make_report(make_case(**FEW), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def usual_report(tmp_path_factory) -> tuple[str, str]:
    """The page and the text of a run with all learners."""
    return make_report(make_case(), tmp_path_factory.mktemp("usual"))
