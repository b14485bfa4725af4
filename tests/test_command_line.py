"""Flags, the config that a workdir remembers, and what a config file may do wrong."""

import json
from pathlib import Path

import pytest

from acx_jax import command_line
from acx_jax.command_line import MEMORY, Request, parse, remember, wanted_config
from acx_jax.contracts import Together
from acx_jax.errors import UsageError

CONFIG = """
from acx_jax.config import default_config
def get_config():
    config = default_config()
    config.data.builder = "synthetic"
    {}
    return config
"""


def write_config(path: Path, line: str = "pass") -> Path:
    path.write_text(CONFIG.format(line))
    return path


def start(workdir: Path, config_file: Path | None = None, **overrides: str):
    """One run up to where its config is settled; dots of the overrides' keys as double underscores."""
    request = Request(config_file, {key.replace("__", "."): value for key, value in overrides.items()}, workdir, "all")
    wanted_config(request)
    command_line.make_workdir(workdir)
    return remember(request)


def test_flags():
    assert parse(["--config=configs/demo.py", "--workdir=w", "--stage=embed"]) == Request(Path("configs/demo.py"), {}, Path("w"), "embed")
    assert parse(["--workdir=w"]) == Request(None, {}, Path("w"), "all")


@pytest.mark.parametrize("text, together", [("1/4@node-1:9876", Together(1, 4, "node-1:9876")), ("auto", Together(0, 0, "auto"))])
def test_joining_others(text, together):
    assert parse(["--workdir=w", "--stage=adapt", f"--join={text}"]).together == together


def test_flags_with_a_space():
    assert parse(["--config", "configs/demo.py", "--stage", "embed"]).stage == "embed"


def test_default_workdir():
    assert parse(["--config=configs/demo.py"]).workdir == Path("runs/demo")


def test_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    request = parse(["--config=~/mine.py", "--workdir=~/runs"])
    assert (request.config_file, request.workdir) == (Path("/somewhere/mine.py"), Path("/somewhere/runs"))


@pytest.mark.parametrize("arguments", [
    ["--config.data.root=my videos", "--config.seed=-1", "--workdir=w", "--stage=adapt"],
    ["--stage=adapt", "--config.seed", "-1", "--workdir=w", "--config.data.root", "my videos"],
    ["--workdir", "w", "-config.seed=-1", "--config.data.root=my videos", "--stage", "adapt"],
])
def test_overrides_in_any_place_and_form(arguments):
    assert parse(arguments) == Request(None, {"data.root": "my videos", "seed": "-1"}, Path("w"), "adapt")


def test_override_values_are_kept_whole_and_the_last_one_counts():
    assert parse(["--workdir=w", "--config.name=a=b", "--config.seed=1", "--config.seed=2"]).overrides == {"name": "a=b", "seed": "2"}


@pytest.mark.parametrize("arguments, said", [
    ([], "say what to run"),
    (["--stage=adapt"], "say what to run"),
    (["--config.seed=1"], "say what to run"),
    (["--config=c.py", "--wordir=w"], "wordir.*workdir"),
    (["--config=c.py", "--stage=evalute"], "evalute.*evaluate"),
    (["--config=c.py", "--stage="], "prepare"),
    (["--config=c.py", "evaluate"], "unexpected argument 'evaluate'"),
    (["configs/demo.py"], "unexpected argument 'configs/demo.py'"),
    (["--workdir=w", "--config.seed"], "config.seed has no value"),
    (["--config.seed", "--workdir=w"], "config.seed has no value"),
    (["--config"], "config"),
    (["--workdir=w", "--stage=adapt", "--join=2/2@node:9876"], "--join=2/2@node:9876: expected i/n@host:port"),
    (["--workdir=w", "--stage=adapt", "--join=0/2"], "--join=0/2: expected i/n@host:port"),
    (["--workdir=w", "--stage=adapt", "--join=0/2@node"], "--join=0/2@node: expected i/n@host:port"),
    (["--workdir=w", "--join=0/2@node:9876"], "is for --stage=adapt and --stage=embed alone.*the stage is all"),
])
def test_wrong_flags(arguments, said):
    with pytest.raises(UsageError, match=f"(?s){said}"):
        parse(arguments)


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_names_flags_stages_and_settings(flag, capsys):
    assert parse([flag]) is None
    said = capsys.readouterr().out
    for name in ("--config", "--workdir", "--stage", "evaluate", "--config.episodes.shot=5"):
        assert name in said


def test_workdir_remembers_config_and_overrides(tmp_path):
    config = write_config(tmp_path / "mine.py", "config.adapt.steps = 7")
    start(tmp_path / "w", config, episodes__shot="2")
    config.unlink()
    again = start(tmp_path / "w")
    assert (again.name, again.adapt.steps, again.episodes.shot) == ("mine", 7, 2)


def test_overrides_change_what_is_remembered(tmp_path):
    start(tmp_path / "w", write_config(tmp_path / "mine.py"), episodes__shot="2")
    start(tmp_path / "w", episodes__shot="3", seed="4")
    again = start(tmp_path / "w")
    assert (again.episodes.shot, again.seed) == (3, 4)


def test_naming_the_config_again_reads_it_anew_under_the_overrides(tmp_path):
    start(tmp_path / "w", write_config(tmp_path / "mine.py"), episodes__shot="2")
    again = start(tmp_path / "w", write_config(tmp_path / "mine.py", "config.adapt.steps = 9; config.episodes.shot = 8"))
    assert (again.adapt.steps, again.episodes.shot) == (9, 2)


def test_config_of_another_name_is_refused(tmp_path):
    start(tmp_path / "w", write_config(tmp_path / "mine.py"))
    before = (tmp_path / "w" / MEMORY).read_bytes()
    with pytest.raises(UsageError, match="holds a run of the config 'mine'.*'other'.*choose another --workdir"):
        start(tmp_path / "w", write_config(tmp_path / "other.py"))
    assert (tmp_path / "w" / MEMORY).read_bytes() == before


def test_a_renamed_run_is_still_of_the_same_config(tmp_path):
    config = write_config(tmp_path / "mine.py")
    start(tmp_path / "w", config, name="first try")
    assert start(tmp_path / "w", config).name == "first try"
    assert start(tmp_path / "w").name == "first try"


@pytest.mark.parametrize("overrides", [{"sede": "1"}, {"seed": "x"}, {"seed": "-1"}, {"data__min_frames": "2"}])
def test_a_bad_override_is_not_remembered(tmp_path, overrides):
    start(tmp_path / "w", write_config(tmp_path / "mine.py"))
    before = (tmp_path / "w" / MEMORY).read_bytes()
    with pytest.raises(UsageError):
        start(tmp_path / "w", **overrides)
    assert (tmp_path / "w" / MEMORY).read_bytes() == before
    assert start(tmp_path / "w").seed == 0


def test_wrong_usage_makes_no_workdir(tmp_path):
    config = write_config(tmp_path / "mine.py")
    for file, overrides in ((None, {}), (tmp_path / "none.py", {}), (config, {"seed": "x"})):
        with pytest.raises(UsageError):
            start(tmp_path / "w", file, **overrides)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("in_file", [True, False])
def test_relative_root_is_remembered_whole(tmp_path, monkeypatch, in_file):
    monkeypatch.chdir(tmp_path)
    lines, overrides = ("config.data.root = 'videos'", {}) if in_file else ("pass", {"data__root": "videos"})
    start(tmp_path / "w", write_config(tmp_path / "mine.py", lines), **overrides)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert start(tmp_path / "w").data.root == str(tmp_path / "videos")


@pytest.mark.parametrize("text", [
    "", "{", "[]", "3", '{"config": "mine"}', '{"config": "mine", "overrides": {}, "values": 3}', "\x00\xff",
    '{"config": "mine", "overrides": [], "values": {"seed": "x"}}', '{"config": "mine", "overrides": {}, "values": {"sede": 1}}',
    '{"config": "mine", "overrides": {"seed": "x"}, "values": {}}',
])
def test_damaged_memory_is_named(tmp_path, text):
    start(tmp_path / "w", write_config(tmp_path / "mine.py"))
    (tmp_path / "w" / MEMORY).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=f"{MEMORY} is damaged.*delete it and name the config"):
        start(tmp_path / "w")


def test_memory_is_json_of_every_setting(tmp_path):
    config = start(tmp_path / "w", write_config(tmp_path / "mine.py"))
    assert json.loads((tmp_path / "w" / MEMORY).read_text())["values"] == json.loads(json.dumps(command_line.schema.flatten(config)))


@pytest.mark.parametrize("text, said", [
    (CONFIG.format("config.adapt.step = 4"), 'line 6: .*Did you mean "steps"'),
    (CONFIG.format("config.seed = 'x'"), "line 6: TypeError"),
    (CONFIG.format("1 / 0"), "line 6: ZeroDivisionError"),
    (CONFIG.format("raise SystemExit(3)"), "line 6: SystemExit: 3"),
    ("def get_config(:", "SyntaxError"),
    ("seed = 3", "get_config"),
    ("def get_config(): return {}", "gave dict"),
    ("\x00", "cannot be used"),
])
def test_config_file_that_cannot_be_used(tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=said) as error:
        start(tmp_path / "w", tmp_path / "mine.py")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["none.py", ".", "mine", "nowhere/mine.py"])
def test_missing_config_file_names_those_that_are_there(tmp_path, name):
    write_config(tmp_path / "mine.py")
    with pytest.raises(UsageError, match="is no file; .*(mine.py|no .py file)"):
        start(tmp_path / "w", tmp_path / name)
