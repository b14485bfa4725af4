"""python -m acx_jax.pretrained, and weights by path in the config: what a user types, and what is left on the disk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from acx_jax import pretrained
from acx_jax.command_line import parse
from acx_jax.config import default_config
from acx_jax.errors import UsageError
from acx_jax.models.weight_match import to_tree
from acx_jax.models.weight_names import to_torch, wanted
from acx_jax.remembered import wanted_config
from acx_jax.runtime.checkpoints import save_variables
from acx_jax.stages import adapt, embed, encoder, weights

ARCH = "r2plus1d_tiny"


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    values = {path: draw.standard_normal(shape).astype(np.float32) for path, shape in wanted(ARCH, lambda path: None).items()}
    return to_torch(ARCH, {path: abs(value) if path.endswith("/var") else value for path, value in values.items()})


@pytest.fixture
def file(tmp_path: Path, state) -> Path:
    save_file({f"module.{name}": value for name, value in state.items()} | {"module.more": np.ones(2)}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def run(*arguments: object) -> int:
    return pretrained.main([str(argument) for argument in arguments])


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_in_and_out_again(file: Path, tmp_path: Path, state, capsys) -> None:
    assert run("--from", file, "--arch", ARCH, "--to", tmp_path / "converted") == 0
    said = capsys.readouterr().out
    assert "mapped      105 entries" in said and "1 entries: module.more" in said and "missing     nothing" in said
    assert f"--config.encoder.weights={tmp_path / 'converted'}" in said
    assert json.loads((tmp_path / "converted" / "weights.json").read_text())["left_over"] == ["module.more"]
    assert run("--from", tmp_path / "converted", "--arch", ARCH, "--to", tmp_path / "out.safetensors") == 0
    assert same(load_file(tmp_path / "out.safetensors"), state)
    with safe_open(tmp_path / "out.safetensors", framework="numpy") as archive:
        assert archive.metadata() == {"format": "pt", "arch": ARCH}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted", "out.safetensors", "w.safetensors"]


def test_both_ways_through_pytorch(tmp_path: Path, state) -> None:
    torch = pytest.importorskip("torch")
    theirs = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
    torch.save({"state_dict": theirs}, tmp_path / "w.pth")
    assert run("--from", tmp_path / "w.pth", "--arch", ARCH, "--to", tmp_path / "out.safetensors") == 0
    from safetensors.torch import load_file as load_torch

    back = load_torch(tmp_path / "out.safetensors")
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in theirs.items())


def adapted_run(folder: Path, tree: dict, **encoder: str) -> Path:
    save_variables(folder / "adapt" / "encoder", tree)
    (folder / "adapt" / "stage.json").write_text(json.dumps({"depends": {"settings": {"encoder": {"arch": ARCH} | encoder}}}))
    return folder


def test_an_adapted_run_goes_back_to_pytorch(tmp_path: Path, file: Path, state, capsys) -> None:
    tree = weights.encoder_variables(file, ARCH, (1, 8, 32, 32, 3))
    made = adapted_run(tmp_path / "run", tree)
    for source in (made, made / "adapt" / "encoder"):
        named = ("--arch", ARCH) if source != made else ()
        assert run("--from", source, *named, "--to", tmp_path / "out.safetensors") == 0
        assert same(load_file(tmp_path / "out.safetensors"), state)
    assert run("--from", made, "--arch", "r3d_18") == 2
    assert "holds weights of r2plus1d_tiny" in capsys.readouterr().err


def test_an_encoder_that_a_run_trained_in_part_is_not_taken_for_more_of_it(tmp_path: Path, file: Path, capsys) -> None:
    made = adapted_run(tmp_path / "run", weights.encoder_variables(file, ARCH, (1, 8, 32, 32, 3)), stage="layer2")
    config = default_config()
    config.encoder.arch = ARCH
    for source in (made, made / "adapt", made / "adapt" / "encoder"):
        config.encoder.weights = str(source)
        for stage in ("", "layer3"):
            config.encoder.stage = stage
            with pytest.raises(UsageError, match="a run that trained the encoder up to 'layer2' alone.* Set --config.encoder.stage=layer2"):
                encoder.check_weights(config)
        for stage in ("layer1", "layer2"):
            config.encoder.stage = stage
            encoder.check_weights(config)
    assert run("--from", made, "--to", tmp_path / "written") == 0
    assert capsys.readouterr().out.endswith(f"--config.encoder.weights={tmp_path / 'written'} --config.encoder.stage=layer2\n")
    config.encoder.weights, config.encoder.stage = str(tmp_path / "written"), ""
    encoder.check_weights(config)


def test_the_config_takes_a_file_a_folder_and_a_run(tmp_path: Path, file: Path) -> None:
    run("--from", file, "--arch", ARCH, "--to", tmp_path / "converted")
    config = default_config()
    config.encoder.arch, config.encoder.crop = ARCH, 32
    trees = []
    for path in (file, tmp_path / "converted"):
        config.encoder.weights = str(path)
        trees.append(encoder.pretrained_variables(config))
    config.encoder.weights = str(adapted_run(tmp_path / "run", trees[0]))
    trees.append(encoder.pretrained_variables(config))
    kernels = [np.asarray(tree["params"]["stem"]["spatial"]["kernel"]) for tree in trees]
    assert np.array_equal(kernels[0], kernels[1]) and np.array_equal(kernels[0], kernels[2])


def test_what_a_stage_depends_on_changes_with_the_file(file: Path, state) -> None:
    config = default_config()
    config.encoder.arch, config.encoder.weights = ARCH, str(file)
    before = encoder.inputs(config)
    assert before == encoder.inputs(config) and before["weights"]
    save_file({name: np.asarray(value + np.ones((), value.dtype)) for name, value in state.items()}, file)
    assert encoder.inputs(config) != before
    config.encoder.weights = "random"
    assert encoder.inputs(config) == {"weights": None}
    from acx_jax.stages.pipeline import STAGES

    assert STAGES["adapt"].inputs is STAGES["embed"].inputs is encoder.inputs and adapt.run and embed.run


def test_a_path_is_remembered_whole(file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.py").write_text("from acx_jax.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
                                   "    config.data.builder = 'synthetic'\n    return config\n")
    given = ["--config=c.py", f"--config.encoder.arch={ARCH}", "--workdir=run"]
    assert wanted_config(parse([*given, "--config.encoder.weights=w.safetensors"])).encoder.weights == str(file)
    with pytest.raises(UsageError, match="config.encoder.weights is .*imagenet.*no such file"):
        wanted_config(parse([*given, "--config.encoder.weights=imagenet"]))


def test_wrong_weights_are_known_before_any_work(file: Path) -> None:
    config = default_config()
    config.encoder.arch, config.encoder.weights = "r3d_18", str(file)
    with pytest.raises(UsageError, match="looks like r2plus1d_tiny"):
        encoder.check_weights(config)
    config.encoder.arch = ARCH
    encoder.check_weights(config)
    config.encoder.weights = "random"
    encoder.check_weights(config)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--from", "none.pth", "--arch", ARCH), "none.pth: no such file"),
    (("--from", "w.safetensors"), "--arch is missing"),
    (("--from", "w.safetensors", "--arch", "r3d_18"), "w.safetensors: .*looks like r2plus1d_tiny"),
    (("--from", "text.pth", "--arch", ARCH), "text.pth: no weight file"),
    (("--from", "cut.safetensors", "--arch", ARCH), "cut.safetensors: damaged or truncated"),
    (("--from", "nan.npz", "--arch", ARCH), "nan.npz: entry stem.1.bias holds values that are not finite"),
    (("--from", ".", "--arch", ARCH), "a folder without weights"),
    (("--from", "w.safetensors", "--arch", ARCH, "--to", "full"), "full holds other files"),
    (("--from", "w.safetensors", "--arch", ARCH, "--to", "text.pth"), "text.pth is a file"),
    (("--from", "w.safetensors", "--arch", ARCH, "--to", "new.pth"), "new.pth: files that end in .pth are not written"),
    (("--from", "w.safetensors", "--arch", ARCH, "--to", "new.NPZ"), "new.NPZ: files that end in .NPZ are not written"),
    (("--from", "w.safetensors", "--arch", ARCH, "--to", "circle"), "circle is a link that leads back to itself"),
    (("--from", "w.safetensors", "--arch", ARCH, "--to", "~nobody-here/new"), "~nobody-here/new: .*home"),
    (("--from", "~nobody-here/w.pth", "--arch", ARCH), "~nobody-here/w.pth: .*home"),
])
def test_wrong_usage_and_bad_files_are_said_in_a_line_and_leave_nothing(
        file: Path, tmp_path: Path, state, monkeypatch, capsys, arguments, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("these are no weights, but a text of some length")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-9])
    np.savez(tmp_path / "nan.npz", **(state | {"stem.1.bias": np.full(45, np.nan, np.float32)}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "circle").symlink_to("circle")
    before = sorted(tmp_path.rglob("*"))
    target = () if "--to" in arguments else ("--to", "new")
    assert run(*arguments, *target) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and said.err.startswith("acx_jax: ")
    assert re.search(message, said.err), said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_bytes_that_a_disk_changed_are_noticed_in_what_this_program_wrote(file: Path, tmp_path: Path, state, capsys) -> None:
    """They read as numbers all the same."""
    converted, trained = tmp_path / "converted", tmp_path / "run" / "adapt"
    assert run("--from", file, "--arch", ARCH, "--to", converted) == 0
    save_variables(trained / "encoder", to_tree(weights.read(converted, ARCH)))
    for changed in (converted / "weights.safetensors", max((trained / "encoder").rglob("*"), key=lambda path: path.stat().st_size)):
        data = bytearray(changed.read_bytes())
        data[len(data) // 2] ^= 1
        changed.write_bytes(data)
    capsys.readouterr()
    assert run("--from", converted, "--arch", ARCH) == 1
    assert f"write it anew, with python -m acx_jax.pretrained --from {file} --arch {ARCH} --to {converted}" in capsys.readouterr().err
    for advice in ("copy it anew", "in the run of which it is, rename .*adapt to adapt.partial"):
        assert run("--from", tmp_path / "run", "--arch", ARCH) == 1
        assert re.search(rf"^acx_jax: {trained}/encoder is damaged \(the bytes of .* are not those that were written\): {advice}.*\n$", capsys.readouterr().err)
        (trained / "checkpoints").mkdir(exist_ok=True)
    (converted / "weights.json").write_text("")
    assert run("--from", converted, "--arch", ARCH) == 1
    assert f"{converted}/weights.json is damaged" in capsys.readouterr().err


def test_folders_of_older_versions_noted_no_digests(file: Path, tmp_path: Path) -> None:
    converted = tmp_path / "converted"
    assert run("--from", file, "--arch", ARCH, "--to", converted) == 0
    old = json.loads((converted / "weights.json").read_text())
    old.pop("sha256")
    (converted / "weights.json").write_text(json.dumps(old))
    assert run("--from", converted, "--arch", ARCH) == 0


def test_a_write_that_fails_leaves_the_old_folder(file: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    target = tmp_path / "converted"
    assert run("--from", file, "--arch", ARCH, "--to", target) == 0
    before = (target / "weights.safetensors").read_bytes()
    monkeypatch.setattr(weights, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run("--from", file, "--arch", ARCH, "--to", target) == 1
    assert "No space left" in capsys.readouterr().err
    assert (target / "weights.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted", "w.safetensors"]


def test_a_network_that_is_there_twice_is_said(tmp_path: Path, state, capsys) -> None:
    np.savez(tmp_path / "w.npz", **{f"{name}.{entry}": value for name in ("encoder_q", "encoder_k") for entry, value in state.items()})
    assert run("--from", tmp_path / "w.npz", "--arch", ARCH, "--to", tmp_path / "new") == 0
    assert "under encoder_q.\nalso there  under encoder_k., and not taken\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "weights.json").read_text())["also_under"] == ["encoder_k."]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(file: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    target = tmp_path / "converted"
    assert run("--from", file, "--arch", ARCH, "--to", target) == 0
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    rename = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    assert run("--from", file, "--arch", ARCH, "--to", target) == 1
    assert "Input/output error" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted", "w.safetensors"]


def test_links_are_followed_and_kept(file: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "there").mkdir()
    for name, leads_to in (("link", "disk/there"), ("dangling", "disk/new"), ("link.safetensors", "disk/out")):
        (tmp_path / name).symlink_to(leads_to)
        for _ in range(2):
            assert run("--from", file, "--arch", ARCH, "--to", tmp_path / name) == 0
        assert (tmp_path / name).is_symlink()
    assert same(load_file(tmp_path / "link" / "weights.safetensors"), load_file(tmp_path / "disk" / "new" / "weights.safetensors"))
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["new", "out", "there"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "disk", "link", "link.safetensors", "w.safetensors"]


def test_the_own_folder_is_not_replaced_and_capitals_are_no_other_kind(file: Path, tmp_path: Path, monkeypatch, capsys, state) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert run("--from", file, "--arch", ARCH, "--to", ".") == 2
    assert capsys.readouterr().err.startswith("acx_jax: . is the folder that this runs in")
    assert run("--from", file, "--arch", ARCH, "--to", "OUT.SAFETENSORS") == 0
    assert "OUT.SAFETENSORS, in PyTorch's names" in capsys.readouterr().out
    assert same(load_file("OUT.SAFETENSORS"), state)


def test_an_interrupt_is_said_and_has_its_own_status(file: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(weights, "read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("--from", file, "--arch", ARCH) == 130
    assert capsys.readouterr().err == "acx_jax: interrupted\n"


def test_a_run_on_several_devices_is_read_on_one(tmp_path: Path, file: Path, state, environment: dict[str, str]) -> None:
    mesh = NamedSharding(Mesh(jax.devices(), "d"), PartitionSpec())
    tree = jax.device_put(weights.encoder_variables(file, ARCH, (1, 8, 32, 32, 3)), mesh)
    command = [sys.executable, "-m", "acx_jax.pretrained", "--from", str(adapted_run(tmp_path / "run", tree)), "--to", "out.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, env=environment | {"XLA_FLAGS": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same(load_file(tmp_path / "out.safetensors"), state)


def test_as_a_process(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "acx_jax.pretrained", "--arch", "resnet", "--from", "x"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "r2plus1d_34" in done.stderr and "Traceback" not in done.stderr
