"""Times programs against each other: in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Program = Callable[[], Any]  # does its work once; what it returns is waited for


class Timing(NamedTuple):
    """Seconds a call.

    Attributes:
      first: of the first call, which compiles.
      seconds: of each measured call.
    """

    first: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        return min(self.seconds)

    @property
    def high(self) -> float:
        return max(self.seconds)


def call(program: Program) -> float:
    """Seconds of one call, to the end of its work on the device."""
    start = time.perf_counter()
    wait(program())
    return time.perf_counter() - start


def wait(result: Any) -> None:
    """Returns when all arrays in `result` are computed: JAX's here, a peer's program waits for its own."""
    import jax

    jax.block_until_ready([leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)])


def interleave(programs: Mapping[str, Program], *, repeats: int, first: Mapping[str, float] | None = None, settle: bool = False,
               before: Callable[[], Any] = lambda: None) -> dict[str, Timing]:
    """Calls every program once, or takes `first`, then once more to warm up, then all of them in turns `repeats` times.

    With `settle` each measured call follows an unmeasured one of the same program: what counts is then a call among others of its kind, as
    in training, and not the first after another program, which has to get the memory back that this other one took. before: called before each
    measured call, and not measured.
    """
    started = {name: (first or {}).get(name) or call(program) for name, program in programs.items()}
    for program in programs.values():
        call(program)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats):
        for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
            if settle:
                call(programs[name])
            before()
            seconds[name].append(call(programs[name]))
    return {name: Timing(started[name], tuple(values)) for name, values in seconds.items()}
