"""Flags and dispatch of the benchmarks: measures a suite, prints a table, writes JSON where asked.

    python -m acx_jax.benchmark --suite=embed --peer=torch --out=measured
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from acx_jax.benchmark import suites
from acx_jax.errors import UsageError
from acx_jax.runtime.files import write_json
from acx_jax.runtime.host_memory import restart_with_large_pages


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, those of the asked suite among them; exits with 2 on bad usage."""
    names = suites.names()
    first = _parser(names, add_help=False)
    asked = first.parse_known_args([a for a in arguments if a not in ("-h", "--help")])[0].suite if _asks(arguments) else None
    parser = _parser(names, add_help=True)
    if asked:
        suite = suites.load(asked)
        parser.description = suite.SUMMARY
        suite.add_arguments(parser)
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats={options.repeats}: at least 1 is needed")
    return options


def _asks(arguments: list[str]) -> bool:
    return any(argument.split("=")[0] == "--suite" for argument in arguments)


def _parser(names: list[str], *, add_help: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m acx_jax.benchmark", add_help=add_help, allow_abbrev=False)
    parser.add_argument("--suite", required=True, choices=names, help="what to measure; its own options: --suite=NAME --help")
    parser.add_argument("--peer", choices=["torch"], help="measure this beside it, in the same run")
    parser.add_argument("--out", type=Path, help="folder for NAME.json; made where it is not there")
    parser.add_argument("--repeats", type=int, default=7, help="measured calls of each program (default 7)")
    return parser


def run(options: argparse.Namespace) -> None:
    """Measures, prints, writes. Raises UsageError before anything is measured."""
    if options.peer and not importlib.util.find_spec(options.peer):
        raise UsageError(f"--peer={options.peer}: it is not installed here (pip install {options.peer}), or leave --peer out")
    if options.out is not None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out={options.out}: no folder can be made there ({error.strerror})") from None
    from acx_jax.benchmark import machine, outcome  # load jax: only once the flags are right
    from acx_jax.runtime import devices

    suite = suites.load(options.suite)
    if getattr(suite, "SPLIT_CPU", False):
        devices.split_cpu()
    described = machine.describe()
    print(f"{options.suite} on {described['devices']} x {described['device']}, jax {described['jax']}", flush=True)
    found, rates = suite.run(options), machine.matrix_rates()
    print("one large matrix product:", ", ".join(f"{rate:.0f} GFLOP/s in {dtype}" for dtype, rate in rates.items()))
    for line in (", ".join(f"{key} {value}" for key, value in found.sizes.items()), *outcome.table(found, rates), *found.notes):
        print(line)
    if options.out is not None:
        rows = [outcome.as_dict(row, found.rows, rates) for row in found.rows]
        given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        write_json(options.out / f"{options.suite}.json", {
            "suite": options.suite, "options": given, "machine": described, "matrix_gflops": rates, "unit": found.unit,
            "sizes": found.sizes, "rows": rows, "notes": found.notes})
        print(f"written: {options.out / f'{options.suite}.json'}")


def main(arguments: list[str]) -> int:
    """Runs and returns the exit status: 0, 2 for wrong usage."""
    try:
        run(parse(arguments))
        return 0
    except UsageError as error:
        print(f"acx_jax.benchmark: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    restart_with_large_pages()
    sys.exit(main(sys.argv[1:]))
