"""Event files, read back record by record."""

import struct
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
