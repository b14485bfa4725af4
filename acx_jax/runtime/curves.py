"""Curves of a training run for TensorBoard."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

FLUSH_EVERY = 10.0  # seconds between writes to the disk, at least


class Curves:
    """Scalars by step in an event file of one folder, which starts anew: a run that goes on gives its earlier steps first.

    It is written where it is asked for, not by a thread, so that a full disk is an OSError of the call and neither a hang nor a traceback.
    """

    def __init__(self, folder: Path, earlier: Iterable[Mapping[str, float]] = ()):
        from tensorboardX.proto.event_pb2 import Event  # here: it loads PyTorch where that is installed, for two seconds
        from tensorboardX.record_writer import RecordWriter

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._event = Event
        self._records = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"))
        self._flushed = 0.0
        self._write(file_version="brain.Event:2")
        for line in earlier:
            self.draw(line)

    def draw(self, line: Mapping[str, float]) -> None:
        """Adds a point at `line["step"]` to the curve of every other name in it. Raises OSError where it cannot be written."""
        values = [{"tag": name, "simple_value": value} for name, value in line.items() if name != "step"]
        self._write(step=int(line["step"]), summary={"value": values})
        if time.monotonic() - self._flushed >= FLUSH_EVERY:
            self._records.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left."""
        try:
            self._records.flush()
        finally:
            self._records.close()  # also of a disk that is full: else Python would try again as it ends

    def _write(self, **event: object) -> None:
        self._records.write(self._event(wall_time=time.time(), **event).SerializeToString())
