"""Checkpoints: what is kept, what comes back, and what an interrupted save leaves."""

import errno
import json
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acx_jax.errors import WorkError
from acx_jax.runtime.checkpoints import KEPT, Checkpoints, load_variables, mend, save_variables
from acx_jax.runtime.sums import SUMS


class State(NamedTuple):
    weights: Any
    step: jax.Array
    half: jax.Array


def state_at(step: int) -> State:
    values = jnp.arange(3.0) + step / 3
    return State({"layer": {"kernel": values, "empty": jnp.zeros((0, 4))}}, jnp.int32(step), values.astype(jnp.bfloat16))


def steps_of(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def save_steps(folder, steps):
    checkpoints = Checkpoints(folder, every=2)
    for step in steps:
        checkpoints.save(step, lambda: state_at(step))
    checkpoints.close()


def newest(folder) -> State | None:
    checkpoints = Checkpoints(folder, every=2)
    state = checkpoints.restore_newest(state_at(0))
    checkpoints.close()
    return state


def assert_equal(one: State, other: State) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    assert newest(tmp_path / "checkpoints") is None


def test_the_newest_state_comes_back_as_it_was(tmp_path):
    save_steps(tmp_path, range(1, 8))
    assert steps_of(tmp_path) == [4, 6] and KEPT == 2
    assert_equal(newest(tmp_path), state_at(6))


def test_saving_goes_on_after_a_restart(tmp_path):
    save_steps(tmp_path, range(1, 5))
    save_steps(tmp_path, range(5, 7))
    assert_equal(newest(tmp_path), state_at(6))


def test_what_is_passed_over_is_not_even_asked_for(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=5)
    checkpoints.save(5, lambda: state_at(5))
    checkpoints.save(6, lambda: pytest.fail("the state of a step that is not saved was asked for"))
    checkpoints.close()


def test_a_save_that_a_kill_cut_short_is_passed_over(tmp_path):
    """Orbax writes into a folder of another name first; some file systems leave one of the final name without its last file."""
    save_steps(tmp_path, [2, 4])
    for name in ("6.orbax-checkpoint-tmp", "8.orbax-checkpoint-tmp-123"):
        (tmp_path / name / "default").mkdir(parents=True)
        (tmp_path / name / "default" / "array_metadatas").write_text(json.dumps({}))
    assert_equal(newest(tmp_path), state_at(4))
    save_steps(tmp_path, [6])
    assert_equal(newest(tmp_path), state_at(6))


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def to_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("hurt", [cut, lambda file: file.unlink(), lambda file: file.write_bytes(b""), to_folder])
def test_a_damaged_newest_one_is_named_and_the_one_before_taken(tmp_path, hurt):
    said = []
    save_steps(tmp_path, [2, 4])
    for file in (tmp_path / "4").rglob("*"):
        if file.is_file():
            hurt(file)
    checkpoints = Checkpoints(tmp_path, every=2)
    assert_equal(checkpoints.restore_newest(state_at(0), said.append), state_at(2))
    checkpoints.save(4, lambda: state_at(4))
    checkpoints.close()
    assert not said or "checkpoint of step 4 is damaged" in said[0]  # Orbax itself passes over one without its metadata
    assert_equal(newest(tmp_path), state_at(4))


def test_a_byte_that_the_disk_changed_is_noticed(tmp_path):
    """Nothing below notices: arrays of plain numbers have no checksum there."""
    big = jax.tree.map(lambda x: jnp.tile(x, 4000) if x.ndim == 1 else x, state_at(2))
    random = big._replace(weights={"kernel": jax.random.normal(jax.random.key(0), (40000,))})
    checkpoints = Checkpoints(tmp_path / "run", every=1)
    for step in (1, 2):
        checkpoints.save(step, lambda: random)
    checkpoints.close()
    file = max((tmp_path / "run" / "2").rglob("*"), key=lambda path: path.stat().st_size)
    flip(file)
    said = []
    checkpoints = Checkpoints(tmp_path / "run", every=1)
    assert_equal(checkpoints.restore_newest(random, said.append), random)
    checkpoints.close()
    assert "checkpoint of step 2 is damaged and put aside" in said[0]
    assert [path.name for path in (tmp_path / "run.damaged").iterdir()] == ["2"] and steps_of(tmp_path / "run") == [1]


def test_a_named_tuple_may_be_read_as_a_dictionary(tmp_path):
    save_steps(tmp_path, [2])
    checkpoints = Checkpoints(tmp_path, every=2)
    assert_equal(State(**checkpoints.restore_newest(state_at(0)._asdict(), pytest.fail)), state_at(2))
    checkpoints.close()


def test_a_disk_that_cannot_be_read_costs_no_checkpoint(tmp_path, monkeypatch):
    save_steps(tmp_path, [2, 4])
    checkpoints = Checkpoints(tmp_path, every=2)
    monkeypatch.setattr(checkpoints._manager, "restore", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.restore_newest(state_at(0))
    checkpoints.close()
    assert steps_of(tmp_path) == [2, 4]


@pytest.mark.parametrize("call", ["save", "wait_until_finished"])
@pytest.mark.parametrize("number, words", [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded")])
def test_a_full_disk_is_said_as_one_whatever_the_words_below(tmp_path, monkeypatch, call, number, words):
    checkpoints = Checkpoints(tmp_path, every=2)
    text = f"RESOURCE_EXHAUSTED: Error writing \"x/0\" ... {words} [os_error_code='{number}']"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, call, lambda *_, **__: (_ for _ in ()).throw(ValueError(text)))
        with pytest.raises(OSError) as caught:
            checkpoints.save(2, lambda: state_at(2))
            checkpoints.wait()
    checkpoints.close()
    assert caught.value.errno == number and caught.value.filename == str(tmp_path)


def test_one_is_saved_at_once_where_that_is_asked(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=100)
    checkpoints.save(3, lambda: state_at(3), now=True)
    checkpoints.save(3, lambda: state_at(3), now=True)
    checkpoints.close()
    assert_equal(newest(tmp_path), state_at(3))


def test_a_save_that_fails_on_the_way_leaves_the_one_before(tmp_path, monkeypatch):
    save_steps(tmp_path, [2])
    checkpoints = Checkpoints(tmp_path, every=2)
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", _no_space)
        with pytest.raises(Exception, match="no space"):
            checkpoints.save(4, lambda: state_at(4))
            checkpoints.close()
    assert_equal(newest(tmp_path), state_at(2))


def _no_space(*_, **__):
    raise OSError("no space left")


def test_variables_replace_what_was_there(tmp_path):
    like = {"params": {"kernel": jnp.zeros((2, 3))}, "batch_stats": {"mean": jnp.zeros(3)}}
    for value in (1.0, 2.0):
        save_variables(tmp_path / "encoder", jax.tree.map(lambda x: x + value, like))
    loaded = load_variables(tmp_path / "encoder", like)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 2.0), loaded)
    assert jax.tree.structure(loaded) == jax.tree.structure(like)


@pytest.mark.parametrize("hurt", [cut, lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
def test_damaged_variables_are_named_with_what_to_do(tmp_path, hurt):
    like = {"kernel": jnp.arange(6.0)}
    for name, stage, advice in (("adapt/encoder", None, "rename .*/adapt to adapt.partial and run the same command again: "),
                                ("adapt.partial/best/4", tmp_path / "adapt.partial", "delete .*/adapt.partial and run the same command again")):
        folder = tmp_path / name
        folder.parent.mkdir(parents=True)
        save_variables(folder, like)
        for file in folder.rglob("*"):
            if file.is_file():
                hurt(file)
        with pytest.raises(WorkError, match=rf"{folder} is damaged \(.*\): {advice}"):
            load_variables(folder, like, stage=stage)


@pytest.mark.parametrize("hurt", [flip, cut, lambda file: file.unlink(), to_folder])
def test_whatever_happens_to_a_file_of_variables_is_noticed(tmp_path, hurt):
    """Nothing below notices a changed byte: arrays of plain numbers have no checksum there."""
    like = {"kernel": jax.random.normal(jax.random.key(0), (4000,))}
    save_variables(tmp_path / "encoder", like)
    files = [file.relative_to(tmp_path / "encoder") for file in (tmp_path / "encoder").rglob("*") if file.is_file()]
    for number, file in enumerate(files):
        copy = shutil.copytree(tmp_path / "encoder", tmp_path / "copies" / str(number))
        hurt(copy / file)
        if file.name == SUMS and not (copy / file).exists():  # as in those that older versions wrote
            np.testing.assert_array_equal(load_variables(copy, like)["kernel"], like["kernel"])
            continue
        with pytest.raises(WorkError, match="is damaged"):
            load_variables(copy, like)


def test_a_folder_of_other_settings_is_not_in_the_way_of_mending(tmp_path):
    assert mend(tmp_path / "adapt").startswith("rename ") and "first" not in mend(tmp_path / "adapt")
    (tmp_path / "adapt.partial").mkdir()  # where `mv` would put the other folder inside
    assert mend(tmp_path / "adapt").startswith(f"rename {tmp_path}/adapt.partial, which is of other settings, to another name first; then rename ")


def test_variables_on_a_disk_that_cannot_be_read_are_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.restore", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        load_variables(tmp_path / "encoder", {"kernel": jnp.arange(6.0)})
