"""What `python -m acx_jax.parity` says and with which status it ends."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from acx_jax import parity
from acx_jax.published import families
from acx_jax.published.bundle import Bundle, Check
from acx_jax.published.measured import measured, not_recorded

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def sums(monkeypatch):
    """One family of one check: sums of recorded numbers."""

    def check(bundle: Bundle):
        arrays = bundle.arrays("sums.npz")
        yield measured("total", [("total", arrays["x"].sum(), arrays["total"])], tolerance=1e-4)

    monkeypatch.setattr(families, "FAMILIES", {"arithmetic": {"sums": Check(("sums.npz",), check)},
                                               "other": {"products": Check(("products.npz", "bundle.json"), check)}})


def bundle(path, total=6.0):
    np.savez(path / "sums.npz", x=np.array([1.0, 2.0, 3.0]), total=total)
    (path / "bundle.json").write_text(json.dumps({"seed": 3}))
    return str(path)


def test_what_agrees_and_what_lacks(sums, tmp_path, capsys):
    np.savez(tmp_path / "novel.npz", x=1)
    assert parity.main([bundle(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "sums: total" in said and "1 quantities, 1 judged, 0 off; 1 of 2 checks not run" in said
    assert "products: not compared, the bundle has no products.npz" in said and "novel.npz: no check reads it" in said


@pytest.mark.parametrize("only", ["sums", "arithmetic"])
def test_what_is_off_is_named(sums, tmp_path, capsys, only):
    assert parity.main([bundle(tmp_path, total=6.1), f"--only={only}"]) == 1
    said = capsys.readouterr().out
    assert "NO: 1 of 1 off, total most" in said and "1 off; 0 of 1 checks not run" in said


@pytest.mark.parametrize(("arguments", "said"), [
    (["nowhere"], "nowhere is no folder"), ([".", "--only=sum"], "arithmetic, other, sums, products"), (["."], "none of products.npz")])
def test_wrong_usage(sums, tmp_path, monkeypatch, capsys, arguments, said):
    (tmp_path / "bundle.json").write_text("")
    monkeypatch.chdir(tmp_path)
    assert parity.main(arguments) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(("contents", "said"), [(b"", "damaged"), (b"PK\3\4 cut", "damaged"), (None, "no array total; it has x")])
def test_damaged_files_are_named(sums, tmp_path, capsys, contents, said):
    np.savez(tmp_path / "sums.npz", x=1)
    if contents is not None:
        (tmp_path / "sums.npz").write_bytes(contents)
    assert parity.main([str(tmp_path)]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "sums: cannot be compared" in line)
    assert "sums.npz" in line and said in line


@pytest.fixture
def three(monkeypatch):
    """A check that its file breaks, one that the bundle's seed breaks, and a sound one."""

    def broken(bundle: Bundle):
        np.zeros(3)[int(bundle.arrays("text.npz")["x"])]

    def seeded(bundle: Bundle):
        yield measured("seed", [("seed", bundle.seed(), bundle.json("shapes.json")["seed"])], tolerance=0)

    def sound(bundle: Bundle):
        yield measured("one", [("one", 1, bundle.arrays("one.npz")["one"])], tolerance=0)
        yield not_recorded("gradients")

    monkeypatch.setattr(families, "FAMILIES", {"all": {
        "broken": Check(("text.npz",), broken), "seeded": Check(("bundle.json", "shapes.json"), seeded), "sound": Check(("one.npz",), sound)}})


@pytest.mark.parametrize(("files", "said"), [
    ({"bundle.json": "[]", "shapes.json": "{}"}, r"bundle\.json: expected names and their values, it has a list"),
    ({"bundle.json": '{"seed": true}', "shapes.json": "{}"}, r"bundle\.json: expected an integer 'seed', it has True"),
    ({"bundle.json": '{"seed": 3}', "shapes.json": "{}"}, r"shapes\.json: no entry seed; it has none"),
    ({"bundle.json": '{"seed": 3}', "shapes.json": "[1]"}, r"shapes\.json: expected names and their values"),
    ({"bundle.json": '{"seed": 3}', "shapes.json": '{"seed": "abc"}'}, r"bundle\.json, shapes\.json: ValueError: could not convert"),
])
def test_what_cannot_be_compared_is_said_and_the_rest_is_compared(three, tmp_path, capsys, files, said):
    np.savez(tmp_path / "text.npz", x="abc")
    np.savez(tmp_path / "one.npz", one=1)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert parity.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"broken: cannot be compared, text\.npz: ValueError: invalid literal", out), out
    assert re.search(f"seeded: cannot be compared, .*{said}", out), out
    assert re.search("sound: one .* yes\n.*sound: gradients .* not recorded\n", out), out
    assert "2 quantities, 1 judged, 2 off; 0 of 3 checks not run; 2 cannot be compared" in out


def test_a_bundle_of_which_nothing_is_judged_is_wrong_usage(three, tmp_path, capsys):
    np.savez(tmp_path / "one.npz", one=1)
    assert parity.main([str(tmp_path), "--only=sound"]) == 0
    np.savez(tmp_path / "text.npz", x="abc")
    assert parity.main([str(tmp_path), "--only=seeded"]) == 2
    capsys.readouterr()


@pytest.mark.usefixtures("quick_compiler")
def test_a_golden_file_without_gradients_or_without_graphs(tmp_path, capsys):
    for name in ("mcp_shapes.json", "bundle.json"):
        shutil.copy(GOLDEN / name, tmp_path)
    with np.load(GOLDEN / "mcp_k3.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith("grad")}
    np.savez(tmp_path / "mcp_k3.npz", **arrays)
    assert parity.main([str(tmp_path), "--only=mcp_k3"]) == 0
    out = capsys.readouterr().out
    assert re.search("mcp_k3: gradients .* not recorded", out) and " 0 off" in out
    np.savez(tmp_path / "mcp_k3.npz", a=1)
    assert parity.main([str(tmp_path), "--only=mcp_k3"]) == 1
    assert re.search(r"mcp_k3: cannot be compared, .*mcp_k3\.npz: no arrays x1, x2, .*it has a\n", capsys.readouterr().out)


def test_the_seed_must_be_a_number(tmp_path):
    (tmp_path / "bundle.json").write_text('{"seed": "three"}')
    with pytest.raises(Exception, match="integer 'seed'"):
        Bundle(tmp_path).seed()
