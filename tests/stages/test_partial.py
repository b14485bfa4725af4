"""What becomes of the folder of an interrupted stage when its settings change, and change back."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import partial, stamps


def stamp(steps: int) -> stamps.Stamp:
    return stamps.make(settings={"adapt.steps": steps}, inputs=None, stages={})


def begin(workdir: Path, steps: int) -> tuple[bool, str]:
    said = io.StringIO()
    return partial.begin(workdir / "adapt.partial", stamp(steps), RunLog(terminal=said)), said.getvalue()


def save(workdir: Path, step: int, under: str = "checkpoints") -> None:
    (workdir / "adapt.partial" / under / str(step)).mkdir(parents=True)


def saved(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / "adapt.partial").glob("checkpoints/*"))


def beside(workdir: Path) -> list[str]:
    return sorted(path.name for path in workdir.iterdir() if path.name != "adapt.partial")


def test_saved_steps_are_put_aside_and_taken_up_again(tmp_path):
    assert begin(tmp_path, 4000) == (False, "")
    save(tmp_path, 530)
    save(tmp_path, 540)
    goes_on, said = begin(tmp_path, 4001)
    assert not goes_on and saved(tmp_path) == [] and stamps.read(tmp_path / "adapt.partial") == stamp(4001)
    assert "adapt: 540 steps that an interrupted run has saved are put aside, for config.adapt.steps was 4000, is 4001." in said
    assert beside(tmp_path) == [f"adapt.partial.{stamp(4000)['fingerprint']}"]
    save(tmp_path, 20)
    goes_on, said = begin(tmp_path, 4000)  # and the other way round
    assert goes_on and saved(tmp_path) == ["530", "540"] and "20 steps that an interrupted run has saved are put aside" in said
    assert begin(tmp_path, 4000) == (True, "")
    assert begin(tmp_path, 4001)[0] and saved(tmp_path) == ["20"]


def test_one_training_is_kept_the_last(tmp_path):
    (tmp_path / "adapt.partial.mine").mkdir()  # a user's own
    for steps in (1, 2, 3):
        begin(tmp_path, steps)
        save(tmp_path, steps * 10, under="given/checkpoints")  # of a stage that trains on several sets
    _, said = begin(tmp_path, 4)
    aside = tmp_path / f"adapt.partial.{stamp(2)['fingerprint']}"
    assert f"adapt: {aside}, with 20 steps that were put aside before, is deleted: one such training is kept\n" in said
    assert beside(tmp_path) == sorted([f"adapt.partial.{stamp(3)['fingerprint']}", "adapt.partial.mine"])


def test_what_has_no_saved_steps_is_thrown_away(tmp_path):
    begin(tmp_path, 1)
    (tmp_path / "adapt.partial" / "log.jsonl").write_text("")
    assert begin(tmp_path, 2) == (False, "")
    assert beside(tmp_path) == [] and [path.name for path in (tmp_path / "adapt.partial").iterdir()] == [stamps.STAMP]


@pytest.mark.parametrize("text", ["{", "", "3", "{}", '{"fingerprint": "0/1", "depends": {}}', '{"fingerprint": "01", "depends": 3}'])
def test_steps_of_which_nothing_tells_the_settings_are_put_aside_too(tmp_path, text):
    for step in (10, 20):  # the second time one is there already
        begin(tmp_path, 1)
        save(tmp_path, step)
        (tmp_path / "adapt.partial" / stamps.STAMP).write_text(text)
        goes_on, said = begin(tmp_path, 1)
        assert not goes_on and f"adapt: {step} steps that an interrupted run has saved are put aside in {tmp_path}/adapt.partial.unknown: " in said
        assert beside(tmp_path) == ["adapt.partial.unknown"] and saved(tmp_path) == []
