"""Runs checks and says what came of them, a line a quantity."""

from __future__ import annotations

import time
from collections.abc import Mapping

from acx_jax.errors import UsageError, WorkError
from acx_jax.models.torch_files import WeightsError
from acx_jax.published.bundle import Bundle, Check, Lacking
from acx_jax.published.measured import Measured
from acx_jax.runtime.run_log import RunLog

LONGEST = 200  # letters of a reason
_LINE = "{:<44} {:>6} {:>10} {:>10} {:>10}  {}"


class Totals:
    """Counts of what was compared."""

    def __init__(self) -> None:
        self.quantities = self.judged = self.off = 0
        self.lacking: list[str] = []
        self.failed: list[str] = []

    def fail(self, check: str) -> None:
        """Counts a check that could not go to its end: as one more quantity that is off."""
        self.failed.append(check)
        self.off += 1

    def add(self, row: Measured) -> None:
        """Counts one quantity."""
        self.quantities += 1
        self.judged += row.tolerance is not None
        self.off += row.tolerance is not None and not row.ok


def run(bundle: Bundle, checks: Mapping[str, Check], log: RunLog) -> Totals:
    """Runs every check whose files are there and prints the table; returns the counts.

    A bundle may hold anything at all: what a check cannot make sense of is said in a line, and the next one runs.
    """
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
        except Exception as error:  # JAX, NumPy and the decoder raise what they raise on arrays of a foreign shape or type
            totals.fail(name)
            log.info(f"{name}: cannot be compared, {_reason(error, check)}")
        else:
            log.info(f"  [{number}/{len(checks)}] {name}: {time.monotonic() - began:.1f} s")
    return totals


def _reason(error: Exception, check: Check) -> str:
    """What stopped a check, in a line that names the file, or the files it reads."""
    if isinstance(error, (WorkError, UsageError, WeightsError)):
        return str(error)
    return f"{', '.join(check.files)}: {type(error).__name__}: {' '.join(str(error).split())[:LONGEST]}"


def _require(bundle: Bundle, check: Check) -> None:
    missing = [name for name in check.files if not bundle.has(name)]
    if missing:
        raise Lacking(f"the bundle has no {', '.join(missing)}")


def line(check: str, row: Measured) -> str:
    """One quantity as a line of the table."""
    tolerance = "none" if row.tolerance is None else "exact" if row.tolerance == 0 else f"{row.tolerance:.0e}"
    verdict = "not recorded" if row.tolerance is None and not row.arrays else "not judged" if row.tolerance is None else "yes" if row.ok else f"NO: {row.off} of {row.arrays} off, {row.worst} most"
    errors = (f"{row.error:.2e}", f"{row.relative:.2e}") if row.arrays else ("-", "-")
    return _LINE.format(f"{check}: {row.quantity}", row.arrays, *errors, tolerance, verdict)
