"""Runs checks and says what came of them, a line a quantity."""

from __future__ import annotations

import time
from collections.abc import Mapping

from acx_jax.published.bundle import Bundle, Check, Lacking
from acx_jax.published.measured import Measured
from acx_jax.runtime.run_log import RunLog

_LINE = "{:<44} {:>6} {:>10} {:>10} {:>10}  {}"


class Totals:
    """Counts of what was compared."""

    def __init__(self) -> None:
        self.quantities = self.judged = self.off = 0
        self.lacking: list[str] = []

    def add(self, row: Measured) -> None:
        """Counts one quantity."""
        self.quantities += 1
        self.judged += row.tolerance is not None
        self.off += row.tolerance is not None and not row.ok


def run(bundle: Bundle, checks: Mapping[str, Check], log: RunLog) -> Totals:
    """Runs every check whose files are there and prints the table; returns the counts."""
    totals = Totals()
    log.info(_LINE.format("quantity", "arrays", "absolute", "relative", "tolerance", "ok"))
    for number, (name, check) in enumerate(checks.items(), start=1):
        began = time.monotonic()
        try:
            _require(bundle, check)
            for row in check.measure(bundle):
                totals.add(row)
                log.info(line(name, row))
        except Lacking as error:
            totals.lacking.append(name)
            log.info(f"{name}: not compared, {error}")
        else:
            log.info(f"  [{number}/{len(checks)}] {name}: {time.monotonic() - began:.1f} s")
    return totals


def _require(bundle: Bundle, check: Check) -> None:
    missing = [name for name in check.files if not bundle.has(name)]
    if missing:
        raise Lacking(f"the bundle has no {', '.join(missing)}")


def line(check: str, row: Measured) -> str:
    """One quantity as a line of the table."""
    tolerance = "none" if row.tolerance is None else "exact" if row.tolerance == 0 else f"{row.tolerance:.0e}"
    verdict = "not judged" if row.tolerance is None else "yes" if row.ok else f"NO: {row.off} of {row.arrays} off, {row.worst} most"
    return _LINE.format(f"{check}: {row.quantity}", row.arrays, f"{row.error:.2e}", f"{row.relative:.2e}", tolerance, verdict)
