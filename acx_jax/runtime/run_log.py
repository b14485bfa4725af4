"""What a run says: lines to the terminal and to a file, and progress that is readable in both."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal to redraw


class RunLog:
    """Writes lines to `terminal` and appends them, with the time, to `file` (none: nowhere)."""

    def __init__(self, file: Path | None = None, terminal: TextIO | None = None):
        self._file = file
        self._terminal = terminal

    def info(self, line: str) -> None:
        """Says one line."""
        print(line, file=self._terminal or sys.stdout, flush=True)
        self._to_file(line)

    @contextlib.contextmanager
    def progress(self, what: str, total: int, *, unit: str, start: int = 0) -> Iterator[Callable[..., None]]:
        """Gives `advance(n=1, note='')`; shows count, rate and time left: redrawn on a terminal, else a line every 10 s.

        `start` of the `total` were done by an earlier run and do not count towards the rate.
        """
        terminal = self._terminal or sys.stdout
        if terminal.isatty():
            with tqdm(total=total, initial=start, desc=what, unit=unit, file=terminal, leave=True) as bar:
                yield lambda n=1, note="": (bar.set_postfix_str(note, refresh=False), bar.update(n))
        else:
            lines = _ProgressLines(what, total, unit=unit, start=start, say=self.info)
            yield lines.advance
            lines.finish()

    def _to_file(self, line: str) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8", errors="backslashreplace") as out:
                out.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


class _ProgressLines:
    """Progress as whole lines, at most one every LINE_EVERY seconds and one at the end of what took longer."""

    def __init__(self, what: str, total: int, *, unit: str, start: int, say: Callable[[str], None]):
        self._what, self._total, self._unit, self._say = what, total, unit, say
        self._start = self._done = start
        self._began = self._said = time.monotonic()
        self._said_done = start
        self._note = ""

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done, self._note = self._done + n, note
        if time.monotonic() - self._said >= LINE_EVERY:
            self._line()

    def finish(self) -> None:
        said_something = self._said > self._began
        if self._done != self._said_done if said_something else time.monotonic() - self._began >= 1:
            self._line()

    def _line(self) -> None:
        self._said, self._said_done = time.monotonic(), self._done
        elapsed = self._said - self._began
        meter = tqdm.format_meter(
            self._done, self._total, elapsed, initial=self._start, ncols=100, unit=self._unit, ascii=True,
            bar_format="{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]",
        )
        self._say(f"{self._what}: {meter} {self._note}".rstrip())
