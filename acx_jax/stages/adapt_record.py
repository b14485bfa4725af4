"""What a run of the adaptation leaves to look at: its losses, its speed, and curves of both for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from acx_jax.runtime.curves import Curves
from acx_jax.runtime.files import write_text
from acx_jax.runtime.pace import Pace, Read

LOG, SPEED, PROBES, CURVES = "log.jsonl", "speed.jsonl", "probes.jsonl", "curves"
SPEED_EVERY = 10.0  # seconds between lines of SPEED, at least


class Record:
    """The lines of a run that goes on behind step `done`, each of them also points of the curves; what was written of later steps is cut off.

    LOG and PROBES have the same bytes however often a run was interrupted; what depends on the machine's mood stands in SPEED.
    """

    def __init__(self, folder: Path, *, done: int):
        self._folder = folder
        earlier = [line for name in (LOG, SPEED, PROBES) for line in _cut(folder / name, done)]
        self._curves = Curves(folder / CURVES, earlier)

    def add(self, name: str, line: Mapping[str, float]) -> None:
        """Appends a line, which has a `step`, to the file LOG, SPEED or PROBES."""
        rounded = {key: value if key == "step" else round(value, 6) for key, value in line.items()}
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        self._curves.draw(rounded)

    def close(self) -> None:
        """Writes what is left of the curves."""
        self._curves.close()


class Speed:
    """Rates of a training loop from its `pace`: clips a second, the share of time that waits for data and that of the devices' matrix rate.

    clips: a step. flops: a step. peak: gives the matrix rate in GFLOP/s; asked once, when there is enough to say, with the devices idle.
    """

    def __init__(self, pace: Pace, *, clips: int, flops: float, peak: Callable[[], float]):
        self._pace, self._clips, self._flops, self._peak = pace, clips, flops, peak
        self._steps, self._total, self._rate = 0, Read(0, 0.0, 0.0), 0.0

    def step(self) -> dict[str, float] | None:
        """To be called when a step is done. Gives the rates since it last did, every SPEED_EVERY seconds."""
        if self._pace.seconds() is None:  # the first step compiles
            self._pace.start()
            return None
        self._steps += 1
        if self._pace.seconds() < SPEED_EVERY:
            return None
        read = self._read()
        if not self._rate:
            self._rate = self._peak()
            self._pace.start()
        return self._rates(read)

    def whole(self) -> dict[str, float] | None:
        """The rates of all steps but the first; None of a run too short to say."""
        self._read()
        return self._rates(self._total) if self._rate else None

    def _read(self) -> Read:
        read, self._steps = self._pace.read(self._steps) or Read(0, 0.0, 0.0), 0
        self._total = Read(*(a + b for a, b in zip(self._total, read, strict=True)))
        return read

    def _rates(self, read: Read) -> dict[str, float]:
        return {"clips_per_second": self._clips * read.steps / read.seconds, "waiting_share": read.waited / read.seconds,
                "peak_share": self._flops * read.steps / read.seconds / 1e9 / self._rate}


class OneBehind:
    """Hands things on to `take` one call late: a step's results are fetched once the next one is on its way, so that no device waits."""

    def __init__(self, take: Callable[..., None]):
        self._take = take
        self._held: tuple[Any, ...] | None = None

    def put(self, *item: Any) -> None:
        """Hands on the item before, and holds this one."""
        self.flush()
        self._held = item

    def flush(self) -> None:
        """Hands on what is held."""
        held, self._held = self._held, None
        if held is not None:
            self._take(*held)


def in_words(rates: Mapping[str, float]) -> str:
    """The rates of `Speed` for people."""
    return (f"{rates['clips_per_second']:.3g} clips/s, {100 * rates['waiting_share']:.1f} % of the time waiting for data, "
            f"{100 * rates['peak_share']:.0f} % of the devices' rate of large matrix products")


def _cut(path: Path, done: int) -> list[dict[str, Any]]:
    kept = [line for line in lines(path) if line["step"] <= done]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Those of a file that are whole, from the first; none where there is no file."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:  # the line that a kill cut short
            return
