"""Flags, and what they ask for."""

from pathlib import Path

import pytest

from acx_jax.command_line import Request, parse
from acx_jax.contracts import Together
from acx_jax.errors import UsageError


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
