"""The config that a workdir remembers."""

import json

import pytest
from remembering import start, write_config

from acx_jax import config as schema
from acx_jax.errors import UsageError
from acx_jax.remembered import MEMORY


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


def test_what_a_run_refuses_later_is_not_remembered(tmp_path):
    """Such as more shots than the data allow, which are known once they are read."""
    config = write_config(tmp_path / "mine.py")
    start(tmp_path / "w", config, episodes__shot="2")
    before = (tmp_path / "w" / MEMORY).read_bytes()
    for file in (None, config):
        with pytest.raises(UsageError, match="do not allow"):
            start(tmp_path / "w", file, refused=True, episodes__shot="9", seed="4")
        assert (tmp_path / "w" / MEMORY).read_bytes() == before
        again = start(tmp_path / "w", file)
        assert (again.episodes.shot, again.seed) == (2, 0)


@pytest.mark.parametrize("made, kept", [("adapt", True), ("prepare", True), ("check", False), ("adapt.partial", False), ("", False)])
def test_settings_that_work_was_done_with_are_kept_although_the_run_was_refused(tmp_path, made, kept):
    """Else the next run would redo hours of adaptation for the settings of before."""
    start(tmp_path / "w", write_config(tmp_path / "mine.py"), made="adapt", adapt__steps="3")
    with pytest.raises(UsageError, match="do not allow"):
        start(tmp_path / "w", refused=True, made=made, adapt__steps="5000", episodes__shot="9")
    assert start(tmp_path / "w", episodes__shot="2").adapt.steps == (5000 if kept else 3)


def test_a_first_run_that_is_refused_can_be_mended_and_is_forgotten_where_the_config_is_named_anew(tmp_path):
    config = write_config(tmp_path / "mine.py")
    for _ in range(2):
        with pytest.raises(UsageError, match="do not allow"):
            start(tmp_path / "w", config, refused=True, episodes__shot="9", seed="4")
    anew = start(tmp_path / "w", config)
    assert (anew.episodes.shot, anew.seed) == (5, 0)
    for file in (config, None):
        with pytest.raises(UsageError, match="do not allow"):
            start(tmp_path / "v", file, refused=True, seed="4")
    mended = start(tmp_path / "v", episodes__shot="1")
    assert (mended.episodes.shot, mended.seed) == (1, 4)
    assert start(tmp_path / "v", config).seed == 4  # it is as any other run from now on


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


def test_a_damaged_note_of_what_a_stage_was_made_from_stops_nothing(tmp_path):
    config = write_config(tmp_path / "c.py")
    start(tmp_path / "w", config, made="prepare")
    (tmp_path / "w" / "prepare" / "stage.json").write_bytes(b"{\xff")
    (tmp_path / "w" / "adapt" / "stage.json").mkdir(parents=True)
    assert start(tmp_path / "w").data.builder == "synthetic"


def test_a_setting_that_is_no_more_is_forgotten(tmp_path):
    start(tmp_path / "w", write_config(tmp_path / "mine.py"), seed="4")
    memory = json.loads((tmp_path / "w" / MEMORY).read_text())
    for part in ("overrides", "values"):
        memory[part]["embed.centre"] = True
    (tmp_path / "w" / MEMORY).write_text(json.dumps(memory))
    assert start(tmp_path / "w").seed == 4
    assert "embed.centre" not in (tmp_path / "w" / MEMORY).read_text()


def test_memory_is_json_of_every_setting(tmp_path):
    config = start(tmp_path / "w", write_config(tmp_path / "mine.py"))
    assert json.loads((tmp_path / "w" / MEMORY).read_text())["values"] == json.loads(json.dumps(schema.flatten(config)))
