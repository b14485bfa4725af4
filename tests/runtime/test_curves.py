"""Event files, read back record by record."""

import struct
import subprocess
import sys
from pathlib import Path

from acx_jax.runtime.curves import Curves


def points(folder: Path) -> dict[tuple[str, int], float]:
    """(name, step) -> value of all event files in a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in folder.iterdir():
        data, at = file.read_bytes(), 0
        while at < len(data):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12:at + 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            at += 16 + length
    return found


def test_a_run_that_goes_on_has_its_earlier_points_and_no_others(tmp_path):
    once = Curves(tmp_path / "tensorboard")
    for step in (1, 2, 3):
        once.draw({"step": step, "loss": step / 2, "norm": 1.0})
    once.close()
    assert points(tmp_path / "tensorboard") == {(n, s): v for s in (1, 2, 3) for n, v in (("loss", s / 2), ("norm", 1.0))}
    again = Curves(tmp_path / "tensorboard", [{"step": 1, "loss": 0.5}])
    again.draw({"step": 2, "loss": 4.0})
    again.close()
    assert points(tmp_path / "tensorboard") == {("loss", 1): 0.5, ("loss", 2): 4.0}


def test_a_disk_that_is_full_is_an_error_of_the_call_and_no_traceback_follows():
    """A limit on the size of files stands for it, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("draw File too large, close File too large\n", 0)
    assert "Traceback" not in done.stderr


FULL = """
import resource, tempfile
from pathlib import Path
from acx_jax.runtime.curves import Curves

resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
with tempfile.TemporaryDirectory() as folder:
    curves = Curves(Path(folder) / "curves")
    said = []
    for name, call in (("draw", lambda: [curves.draw({"step": step, "loss": 0.5}) for step in range(500)]), ("close", curves.close)):
        try:
            call()
        except OSError as error:
            said.append(f"{name} {error.strerror}")
print(", ".join(said))
"""
