"""What a user sees of a save that the disk refuses, and of a checkpoint that is damaged."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
from absl import logging as absl_logging

from acx_jax.runtime import quiet

STATE = """
import resource, sys
from pathlib import Path
import jax
from acx_jax.runtime.checkpoints import Checkpoints, save_variables
folder, state = Path(sys.argv[1]), {str(i): jax.random.normal(jax.random.key(i), (3000,)) for i in range(60)}
checkpoints = Checkpoints(folder, every=1)
checkpoints.save(1, lambda: state)
checkpoints.save(2, lambda: state)
checkpoints.wait()
"""

REFUSED = STATE + """
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
for save in (lambda: (checkpoints.save(3, lambda: state), checkpoints.close()), lambda: save_variables(folder.with_name("variables"), state)):
    try:
        save()
    except OSError as error:
        print(error.strerror, error.filename == str(folder), flush=True)
"""

DAMAGED = STATE + """
for file in (folder / "2" / "default").rglob("*"):
    if file.parent.name == "d" or file.name == "manifest.ocdbt":
        file.write_bytes(file.read_bytes()[::-1])
print(sorted(checkpoints.restore_newest(state, print)) == sorted(state))
"""


@pytest.mark.parametrize("code, said", [
    (REFUSED, r"File too large True\nFile too large False\n"), (DAMAGED, r"the checkpoint of step 2 is damaged and put aside \(.*\)\nTrue\n"),
])
def test_a_failure_below_is_not_told_there_too(environment, tmp_path, code, said):
    """A real one, of a limit that the system sets to the size of files: the stores' threads fail one after the other."""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "checkpoints"], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and re.fullmatch(said, done.stdout), done


def test_others_are_heard_of(caplog, monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    quiet.quieten_orbax()
    for error in (RuntimeError("Event loop is closed"), RuntimeError("something else")):
        sys.unraisablehook(type("Unraisable", (), {"exc_value": error}))
    absl_logging.error("of others")
    assert [str(one.exc_value) for one in heard] == ["something else"]
    record = logging.makeLogRecord({"name": "absl", "pathname": f"{quiet.ORBAX}/checkpoint_manager.py"})
    assert not logging.getLogger("absl").filter(record) and "of others" in caplog.text
