"""Which stages are skipped, redone or gone on with, and what a kill or a failure leaves; on stages that only write a file."""

import io
import json
from typing import NamedTuple

import pytest

from acx_jax import __version__
from acx_jax import config as schema
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.run_log import RunLog
from acx_jax.stages import pipeline, stamps
from acx_jax.stages.pipeline import Stage

NAMES = ("prepare", "adapt", "embed", "meta_train", "evaluate", "report")


class Killed(BaseException):
    """Stands for a kill: nothing in the pipeline may catch it."""


class Bench(NamedTuple):
    """A workdir with fake stages: `ran` collects what was run; `hook`, if set, is called in the running stage."""

    workdir: object
    ran: list
    hooks: dict

    def run(self, goal="all", **values) -> str:
        """Brings `goal` up to date and returns what was said."""
        said = io.StringIO()
        settings = {"data.builder": "synthetic"} | {key.replace("__", "."): value for key, value in values.items()}
        pipeline.refuse(goal, schema.from_flat(settings))
        pipeline.bring_up_to_date(goal, config=schema.from_flat(settings), workdir=self.workdir, log=RunLog(terminal=said))
        return said.getvalue()

    def output(self, name):
        return (self.workdir / name / "out.txt").read_text()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    made = Bench(tmp_path, [], {})
    settings = {"prepare": "data", "adapt": "adapt", "embed": "encoder", "meta_train": "meta", "evaluate": "episodes", "report": "report"}

    def stage(name: str) -> Stage:
        def run(job):
            made.ran.append(name)
            made.hooks.get(name, lambda job: None)(job)
            (job.out / "out.txt").write_text(f"{name} {job.config.episodes.shot}")

        return Stage(pipeline.STAGES[name].needs, lambda config: config[settings[name]].to_dict(), run,
                     lambda config: made.hooks.get("videos") if name == "prepare" else None,
                     check_possible=lambda config, workdir: made.hooks.get(f"check {name}", lambda: None)())

    monkeypatch.setattr(pipeline, "STAGES", {name: stage(name) for name in NAMES})
    monkeypatch.setattr(pipeline.evaluate, "check_possible", lambda config, workdir: made.hooks.get("check", lambda: None)())
    return made


def raises(error):
    def hook(job):
        (job.out / "half.txt").write_text("half")
        raise error

    return hook


def test_first_run_does_all_in_order(bench):
    said = bench.run()
    assert bench.ran == list(NAMES)
    assert all(f"{name}: starts" in said for name in NAMES)


def test_second_run_skips_all_and_says_so(bench):
    bench.run()
    bench.ran.clear()
    said = bench.run()
    assert bench.ran == []
    assert all(f"{name}: up to date, skipped (fingerprint " in said for name in NAMES)


def test_changed_setting_is_named_and_what_reads_it_redone(bench):
    bench.run()
    bench.ran.clear()
    said = bench.run(episodes__shot=2)
    assert bench.ran == ["evaluate", "report"]
    assert "evaluate: is redone: config.shot was 5, is 2" in said
    assert "report: is redone: evaluate changed" in said
    assert bench.output("evaluate") == "evaluate 2"


def test_change_upstream_redoes_everything_below(bench):
    bench.run()
    bench.ran.clear()
    said = bench.run(adapt__steps=3)
    assert bench.ran == ["adapt", "embed", "meta_train", "evaluate", "report"]
    assert "config.steps was 100, is 3" in said


def test_changed_videos_are_named(bench):
    bench.hooks["videos"] = "a"
    bench.run("prepare")
    bench.hooks["videos"] = "b"
    assert "prepare: is redone: the videos or their table changed" in bench.run("prepare")


def test_other_version_redoes_all(bench, monkeypatch):
    bench.run("prepare")
    monkeypatch.setattr(stamps, "__version__", "9.9")
    assert f"prepare: is redone: acx_jax was {__version__}, is 9.9" in bench.run("prepare")


def test_many_changes_are_counted(bench):
    bench.run("adapt")
    said = bench.run("adapt", adapt__steps=3, adapt__batch=4, adapt__queue=1, adapt__momentum=0.5, adapt__projection=4, adapt__temperature=0.2)
    assert "; " in said and "and 2 more" in said


@pytest.mark.parametrize("goal, done", [
    ("prepare", NAMES[:1]), ("adapt", NAMES[:2]), ("embed", NAMES[:3]), ("evaluate", NAMES[:5]), ("report", NAMES),
])
def test_stage_brings_what_it_needs_and_nothing_after_it(bench, goal, done):
    bench.run(goal)
    assert bench.ran == list(done)
    assert not any((bench.workdir / name).exists() for name in NAMES if name not in done)


def test_later_stages_keep_their_output_until_they_are_asked_for(bench):
    bench.run()
    bench.run("evaluate", episodes__shot=2)
    assert bench.output("evaluate") == "evaluate 2" and bench.output("report") == "report 5"


def test_impossible_episodes_are_known_after_prepare(bench):
    def too_few():
        raise UsageError("too few")

    bench.hooks["check"] = too_few
    with pytest.raises(UsageError):
        bench.run()
    assert bench.ran == ["prepare"]


def test_interrupted_stage_goes_on_in_its_folder(bench):
    bench.hooks["adapt"] = raises(Killed())
    with pytest.raises(Killed):
        bench.run()
    found = []
    bench.hooks["adapt"] = lambda job: found.append((job.out / "half.txt").exists())
    assert "adapt: goes on where it was interrupted" in bench.run()
    assert found == [True]
    assert bench.ran == ["prepare", "adapt", *NAMES[1:]]


def test_what_was_interrupted_under_other_settings_is_started_over(bench):
    bench.hooks["adapt"] = raises(Killed())
    with pytest.raises(Killed):
        bench.run()
    found = []
    bench.hooks["adapt"] = lambda job: found.append((job.out / "half.txt").exists())
    assert "adapt: starts" in bench.run(adapt__steps=3)
    assert found == [False]


def test_a_training_that_was_interrupted_under_other_settings_is_kept_for_them(bench):
    def killed(job):
        (job.out / "checkpoints" / "540").mkdir(parents=True)
        raise Killed

    bench.hooks["adapt"] = killed
    with pytest.raises(Killed):
        bench.run("adapt")
    del bench.hooks["adapt"]
    assert "adapt: 540 steps that an interrupted run has saved are put aside, for config.steps was 100, is 3" in bench.run("adapt", adapt__steps=3)
    assert "adapt: goes on where it was interrupted" in bench.run("adapt") and (bench.workdir / "adapt" / "checkpoints" / "540").exists()


def test_settings_that_a_stage_refuses_change_nothing_of_an_interrupted_training(bench):
    def killed(job):
        (job.out / "checkpoints" / "540").mkdir(parents=True)
        raise Killed

    def refuse():
        raise UsageError("no")

    bench.hooks["adapt"] = killed
    with pytest.raises(Killed):
        bench.run("adapt")
    before = sorted(bench.workdir.rglob("*"))
    with pytest.raises(UsageError):
        bench.hooks["check adapt"] = refuse
        bench.run("adapt", adapt__steps=3)
    assert sorted(bench.workdir.rglob("*")) == before


def test_failing_stage_leaves_the_earlier_output_whole(bench):
    bench.run()
    bench.hooks["evaluate"] = raises(WorkError("broken"))
    with pytest.raises(WorkError):
        bench.run(episodes__shot=2)
    assert bench.output("evaluate") == "evaluate 5"
    bench.ran.clear()
    assert "evaluate: up to date" in bench.run()
    assert bench.ran == []


def test_settings_that_go_back_and_forth(bench):
    for shot in (5, 2, 5, 2):
        bench.run(episodes__shot=shot)
        assert bench.output("evaluate") == f"evaluate {shot}"


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_kill_inside_the_swap(bench, monkeypatch, steps):
    bench.run("evaluate")
    left = [steps]

    def counted(real):
        def call(*arguments, **options):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return call

    def swap(*folders, real=pipeline._swap):
        with monkeypatch.context() as patch:
            patch.setattr(type(bench.workdir), "rename", counted(type(bench.workdir).rename))
            patch.setattr(pipeline.shutil, "rmtree", counted(pipeline.shutil.rmtree))
            real(*folders)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_swap", swap)
        with pytest.raises(Killed):
            bench.run("evaluate", episodes__shot=2)
    bench.run("evaluate", episodes__shot=2)
    assert bench.output("evaluate") == "evaluate 2"
    assert sorted(path.name for path in bench.workdir.iterdir()) == sorted(NAMES[:5])


@pytest.mark.parametrize("text", ["", "{", "3", "[]", "{}", '{"depends": 3}'])
def test_damaged_stamp_means_redo(bench, text):
    bench.run("prepare")
    (bench.workdir / "prepare" / stamps.STAMP).write_text(text)
    bench.ran.clear()
    bench.run("prepare")
    assert bench.ran == ["prepare"]
    assert json.loads((bench.workdir / "prepare" / stamps.STAMP).read_text())["fingerprint"]


def test_a_process_that_takes_part_needs_no_data(bench, monkeypatch):
    """What process 0 makes of its videos is what it waits for, wherever and how old its own are."""
    told = []
    monkeypatch.setattr(pipeline.devices, "from_first_process", lambda own: told.append(own) or told[0])
    bench.hooks["videos"] = "of process 0"
    bench.run("embed")
    bench.hooks["videos"] = "of another"
    said = io.StringIO()
    monkeypatch.setattr(pipeline.time, "sleep", lambda seconds: pytest.fail("it waits for ever"))
    pipeline.take_part("embed", config=schema.from_flat({"data.builder": "synthetic"}), workdir=bench.workdir, log=RunLog(terminal=said))
    assert len(told) == 2 and said.getvalue() == "prepare: up to date\nadapt: up to date\nembed: up to date\n"
