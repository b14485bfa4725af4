"""What `python -m acx_jax.parity` says and with which status it ends."""

import json

import numpy as np
import pytest

from acx_jax import parity
from acx_jax.published import families
from acx_jax.published.bundle import Bundle, Check
from acx_jax.published.measured import measured


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
    error = capsys.readouterr().err
    assert "sums.npz" in error and said in error


def test_the_seed_must_be_a_number(tmp_path):
    (tmp_path / "bundle.json").write_text('{"seed": "three"}')
    with pytest.raises(Exception, match="integer 'seed'"):
        Bundle(tmp_path).seed()
