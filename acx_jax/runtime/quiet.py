"""What Orbax and the stores below it print of a failed save or read is held back: the same failure is raised to us, and said in one line."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import orbax.checkpoint

ORBAX = str(Path(orbax.checkpoint.__file__).parent)


def quieten_orbax() -> None:
    """From now on, nothing of it is printed: neither its log, nor what its threads still hear of when their event loop is closed."""
    logging.getLogger("absl").addFilter(_of_others)
    logging.getLogger("asyncio").addFilter(_of_others)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not _late(unraisable.exc_value):
            before(unraisable)

    sys.unraisablehook = hook


def _of_others(record: logging.LogRecord) -> bool:
    """Whether a record of a log is not of Orbax, nor of what it left in asyncio, which nothing else uses."""
    return record.name != "asyncio" and not record.pathname.startswith(ORBAX)


def _late(error: BaseException | None) -> bool:
    """Whether it is a store's second failure, told to the event loop that the first one has closed."""
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
