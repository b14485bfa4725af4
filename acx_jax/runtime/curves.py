"""Curves of a training run for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path


class Curves:
    """Scalars by step in event files of one folder, which starts anew: a run that goes on gives its earlier steps first."""

    def __init__(self, folder: Path, earlier: Iterable[Mapping[str, float]] = ()):
        from tensorboardX import SummaryWriter  # here: it loads PyTorch where that is installed, for two seconds

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        for line in earlier:
            self.draw(line)

    def draw(self, line: Mapping[str, float]) -> None:
        """Adds a point at `line["step"]` to the curve of every other name in it."""
        for name, value in line.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(line["step"]))

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
