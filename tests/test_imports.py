"""Which file may import what: leaves <- data, models, selfsup, runtime <- fewshot <- stages <- command line."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "acx_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
LEAVES = {"__init__", "config", "contracts", "errors", "randomness", "relations", "settings"}
BESIDE = {"data", "models", "selfsup", "runtime"}  # side by side, above the leaves
RANK = {part: 0 for part in LEAVES} | {part: 1 for part in BESIDE} | {
    "fewshot": 2, "stages": 3, "command_line": 3, "config_file": 3, "remembered": 4, "main": 5,
    "published": 3, "parity": 5,
    "benchmark": 5,
    "pretrained": 5,
}
COMMAND = ("command_line", "config_file", "remembered", "main")
NEEDED = {("data", "runtime"), ("selfsup", "models")}  # of those side by side, who may import whom


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """The folder under acx_jax that a file lies in, or the file's own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported anywhere in `tree`; `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import escapes these rules"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: Path) -> set[str]:
    return imported(ast.parse(path.read_text(encoding="utf-8")))


def parts_imported(path: Path) -> set[str]:
    """Parts of acx_jax that a file imports."""
    names = {name.removeprefix("acx_jax.").split(".")[0] for name in imports_of(path) if name.startswith("acx_jax.")}
    return {name for name in names if not name.startswith("__")}


def packages_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def may_import(own: str, other: str) -> bool:
    if own == other:
        return True
    if RANK[own] == 0:
        return RANK[other] == 0
    if other in ("config", "relations", "settings"):
        return own in ("stages", *COMMAND) or (own, other) == ("benchmark", "settings")
    return RANK[other] < RANK[own] or (own, other) in NEEDED


def test_the_files_are_found():
    assert {"main.py", "runtime/devices.py", "data/decode.py"} <= {name_of(path) for path in FILES}


def test_every_part_has_its_place():
    assert {part_of(path) for path in FILES} <= RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    wrong = {other for other in parts_imported(path) if not may_import(part_of(path), other)}
    assert not wrong, f"{name_of(path)} imports {sorted(wrong)}"


@pytest.mark.parametrize("own, other, allowed", [
    ("data", "stages", False), ("models", "config", False), ("fewshot", "config", False), ("contracts", "data", False),
    ("models", "fewshot", False), ("data", "models", False), ("stages", "main", False), ("stages", "fewshot", True),
])
def test_the_rule_itself(own, other, allowed):
    assert may_import(own, other) == allowed


def test_only_the_stages_and_the_command_line_import_config():
    importers = {part_of(path) for path in FILES if "config" in parts_imported(path)}
    assert importers <= {"stages", *COMMAND} and importers


def names_pmap(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(getattr(node, "attr", getattr(node, "id", getattr(node, "name", None))) == "pmap" for node in ast.walk(tree))


def test_only_devices_names_pmap():
    assert {name_of(path) for path in FILES if names_pmap(path)} == {"runtime/devices.py"}


def test_only_decode_and_the_scenes_read_or_write_pictures():
    users = {name_of(path) for path in FILES if packages_imported(path) & {"av", "PIL"}}
    users = {name for name in users if not name.startswith(("data/builders/scenes/", "benchmark/"))}
    assert users == {"data/check/copies.py", "data/decode.py", "data/image_folder.py", "data/jpegs.py", "data/probe.py", "data/scaling.py", "data/video_file.py",
                     "stages/report_samples.py"}
    assert not packages_imported(PACKAGE / "stages" / "report_samples.py") & {"av"}


@pytest.mark.parametrize("path", [path for path in FILES if part_of(path) == "data"], ids=name_of)
def test_data_imports_no_jax(path):
    assert not packages_imported(path) & {"jax", "jaxlib", "flax", "optax", "orbax"}
    of_runtime = {name.split(".")[2] for name in imports_of(path) if name.startswith("acx_jax.runtime.")}
    assert of_runtime <= {"files"}  # the one file of runtime that needs no jax


@pytest.mark.parametrize("name", ["randomness.py", "contracts.py", "errors.py", "runtime/files.py", "command_line.py", "config_file.py", "remembered.py", "main.py"])
def test_what_must_load_fast_imports_no_jax_at_the_top(name):
    top = [node for node in ast.parse((PACKAGE / name).read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    packages = {found.split(".")[0] for node in top for found in imported(node)}
    assert not packages & {"jax", "flax", "optax", "orbax", "tensorflow_datasets"}
    assert not any(found.startswith("acx_jax.stages") for node in top for found in imported(node))


def test_no_tensorflow_and_no_torch():
    assert not {name_of(path) for path in FILES if packages_imported(path) & {"tensorflow", "cv2"}}
    assert not {name_of(path) for path in FILES if packages_imported(path) & {"torch"} and part_of(path) != "benchmark"}


def test_there_is_no_drawer():
    assert not [name_of(path) for path in FILES if path.stem in ("utils", "util", "helpers", "misc", "common")]
