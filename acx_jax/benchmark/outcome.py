"""What a suite found, as a table for the terminal and as JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from acx_jax.benchmark.timing import Timing

OURS = "acx_jax"


class Row(NamedTuple):
    """One program measured on one case.

    Attributes:
      case: what is computed; the programs of a case are compared.
      program: `OURS`, or a name that begins so (a variant of ours), or a peer's.
      timing: of one call.
      items: clips, episodes or steps that a call works through.
      flops: floating-point operations that the mathematics of a call asks for, or None where that says little.
      dtype: number format of the products: "float32" or "bfloat16".
      error: largest difference of the result from that of `OURS`, as a share of the largest magnitude, or None.
    """

    case: str
    program: str
    timing: Timing
    items: int
    flops: float | None = None
    dtype: str = "float32"
    error: float | None = None


class Outcome(NamedTuple):
    """What a suite returns.

    Attributes:
      unit: of the items, such as "clips".
      sizes: of what was computed, for the reader.
      rows: in the order of the table.
      notes: what could not be measured and why, and whatever else a reader must know.
    """

    unit: str
    sizes: dict[str, Any]
    rows: list[Row]
    notes: list[str]


def as_dict(row: Row, rows: list[Row], rates: dict[str, float]) -> dict[str, Any]:
    """All numbers of a row, with its speed relative to the others: `times` says how many times faster OURS is."""
    timing, ours = row.timing, next((r for r in rows if r.case == row.case and r.program == OURS), None)
    gflops = row.flops / timing.median / 1e9 if row.flops else None
    return {
        "case": row.case, "program": row.program, "dtype": row.dtype, "items": row.items, "flops": row.flops,
        "seconds": list(timing.seconds), "median": timing.median, "low": timing.low, "high": timing.high,
        "first_call": timing.first, "per_second": row.items / timing.median, "gflops": gflops,
        "share_of_matrix_rate": gflops / rates[row.dtype] if gflops and row.dtype in rates else None,
        "times": timing.median / ours.timing.median if ours and row.program != OURS else None, "error": row.error,
    }


def table(outcome: Outcome, rates: dict[str, float]) -> list[str]:
    """Lines of aligned columns."""
    head = ("case", "program", "ms", "low..high", f"{outcome.unit}/s", "GFLOP/s", "of peak", "acx_jax is", "error", "first call")
    lines = [head, *(_cells(as_dict(row, outcome.rows, rates)) for row in outcome.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True)))
            for line in lines]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str, form: str) -> str:
        return "" if row[key] is None else form.format(row[key])

    return (row["case"], row["program"], f"{row['median'] * 1e3:.1f}", f"{row['low'] * 1e3:.1f}..{row['high'] * 1e3:.1f}",
            f"{row['per_second']:.2f}", shown("gflops", "{:.0f}"), shown("share_of_matrix_rate", "{:.0%}"),
            shown("times", "{:.2f} times as fast"), shown("error", "{:.1e}"), f"{row['first_call']:.1f} s")
