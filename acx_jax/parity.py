"""Compares our code with outputs recorded from the published implementation.

    python -m acx_jax.parity BUNDLE_DIR [--only NAME]

Prints a table of quantities with their largest absolute and relative errors. Exit status: 0 when all that is judged is within its
tolerance, 1 when something is off, 2 for wrong usage. What a bundle may hold stands in acx_jax/published.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.run_log import RunLog

if TYPE_CHECKING:
    from acx_jax.published.bundle import Bundle, Check


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line: `bundle` Path and `only` str or None. Exits with 0 for --help, 2 for anything wrong."""
    parser = argparse.ArgumentParser("python -m acx_jax.parity", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE_DIR", help="folder of recorded outputs")
    parser.add_argument("--only", metavar="NAME", help="one check, or one family of checks")
    return parser.parse_args(arguments)


def run(arguments: list[str]) -> int:
    """Compares, prints, and returns the number of quantities that are off."""
    asked = parse(arguments)
    if not asked.bundle.is_dir():
        raise UsageError(f"{asked.bundle} is no folder: name one that holds recorded outputs (*.npz and bundle.json)")
    from acx_jax.published import families, table  # loads jax: only once the arguments are right
    from acx_jax.published.bundle import Bundle
    from acx_jax.runtime import devices

    checks, bundle = _chosen(families, asked.only), Bundle(asked.bundle)
    recorded = [name for name in _files(checks) if name.endswith(".npz")]
    if not any(bundle.has(name) for name in recorded):
        raise UsageError(f"{asked.bundle} holds nothing to compare: none of {', '.join(recorded)}")
    log = RunLog()
    devices.split_cpu()
    log.info(f"device: {devices.describe()}")
    totals = table.run(bundle, checks, log)
    _say_unread(bundle, families, log)
    log.info(f"{totals.quantities} quantities, {totals.judged} judged, {totals.off} off; "
             f"{len(totals.lacking)} of {len(checks)} checks not run" + (f"; {len(totals.failed)} cannot be compared" if totals.failed else ""))
    if not totals.judged and not totals.off:
        raise UsageError(f"{asked.bundle}: nothing of what was asked for could be judged; the lines above say why")
    return totals.off


def _chosen(families: ModuleType, only: str | None) -> dict[str, Check]:
    try:
        return families.checks(only)
    except KeyError:
        names = ", ".join([*families.FAMILIES, *families.checks()])
        raise UsageError(f"--only={only} is none of {names}") from None


def _files(checks: dict[str, Check]) -> list[str]:
    return sorted({name for check in checks.values() for name in check.files})


def _say_unread(bundle: Bundle, families: ModuleType, log: RunLog) -> None:
    """Names recorded arrays that no check reads, so that nothing passes unseen."""
    known = set(_files(families.checks()))
    for path in sorted(bundle.path.glob("*.npz")):
        if path.name not in known:
            log.info(f"{path.name}: no check reads it")


def main(arguments: list[str]) -> int:
    """Runs and returns the exit status: 0, 1 when something is off or cannot be read, 2 for wrong usage, 130 when interrupted."""
    try:
        return 1 if run(arguments) else 0
    except UsageError as error:
        print(f"acx_jax.parity: {error}", file=sys.stderr)
        return 2
    except (WorkError, OSError) as error:
        print(f"acx_jax.parity: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("acx_jax.parity: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
