"""Weights in and out: python -m acx_jax.pretrained --from FILE --arch r2plus1d_34 --to DIR

Says what of a weight file is taken, left over and missing, and writes a folder for config.encoder.weights, or a
.safetensors file in PyTorch's names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acx_jax.errors import UsageError, WorkError

if TYPE_CHECKING:
    from acx_jax.models.weight_match import Found


def _parser() -> argparse.ArgumentParser:
    from acx_jax.models.weight_names import ARCHS

    parser = argparse.ArgumentParser(prog="python -m acx_jax.pretrained", description=__doc__.split("\n\n")[1], allow_abbrev=False)
    parser.add_argument("--from", dest="source", required=True, metavar="FILE", help=(
        "weights: a PyTorch file, .npz, .safetensors, i3d_kinetics400, or the folder of a run that adapted its encoder"))
    parser.add_argument("--arch", choices=ARCHS, help="the network they belong to; a run knows its own")
    parser.add_argument("--to", metavar="DIR", help="folder to write, or FILE.safetensors in PyTorch's names; without it, only look")
    return parser


def run(arguments: list[str]) -> None:
    """Reads, says what was found, writes."""
    flags = _parser().parse_args(arguments)
    from acx_jax.models.pretrained import i3d_path
    from acx_jax.stages import weights

    source = i3d_path() if flags.source == "i3d_kinetics400" else _path(flags.source)
    target = None if flags.to is None else _path(flags.to)
    known, stage = weights.run_encoder(source) if flags.source != "i3d_kinetics400" else ("i3d", "")
    arch = _arch(flags.arch, known, source)
    if target is not None:
        weights.check_target(target)
    found = weights.read(source, arch)
    summary = _summary(found, str(source), weights.digest(source))
    print("\n".join(f"{name:<11} {value}" for name, value in _words(summary).items()))
    if target is None:
        return
    weights.write(found, target, summary)
    print(f"{'written':<11} {target}{_use(found.arch, stage, target)}")


def _path(given: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # of a user that is not there
        raise UsageError(f"{given}: {error}") from None


def _arch(asked: str | None, known: str, source: Path) -> str:
    if not asked and not known:
        raise UsageError("--arch is missing: say which network the weights belong to; see --help")
    if asked and known and asked != known:
        raise UsageError(f"{source}: holds weights of {known}, not of --arch {asked}")
    return asked or known


def _summary(found: Found, source: str, digest: str) -> dict[str, Any]:
    return {
        "arch": found.arch, "source": source, "digest": digest, "names": found.style, "under": found.prefix, "also_under": list(found.others),
        "entries": len(found.mapped), "numbers": sum(value.size for value in found.variables.values()), "classes": found.classes,
        "left_over": list(found.left_over), "elsewhere": found.elsewhere,
    }


def _words(summary: dict[str, Any]) -> dict[str, str]:
    under = f", under {summary['under']}" if summary["under"] else ""
    left = summary["left_over"]
    also = {"also there": f"under {', '.join(summary['also_under'])}, and not taken"} if summary["also_under"] else {}
    return {
        "from": summary["source"],
        "read as": f"{summary['arch']}, in {summary['names']}{under}",
        **also,
        "mapped": f"{summary['entries']} entries, {summary['numbers'] / 1e6:.2f} million numbers",
        "missing": "nothing",
        "left over": f"{len(left)} entries: {', '.join(left)}" if left else "nothing",
        "elsewhere": ", ".join(f"{name} ({count} entries)" for name, count in summary["elsewhere"].items()) or "nothing",
        "classifier": f"{_classes(summary)}, kept; the encoder does without" if summary["classes"] else "none",
    }


def _classes(summary: dict[str, Any]) -> str:
    """Their number, and which published weights have so many."""
    from acx_jax.models.resnet3d import FORMS

    forms = [f"{form.data}, {form.frames} frames" for form in FORMS if form[0] == summary["arch"] and form.classes == summary["classes"]]
    return f"{summary['classes']} classes" + (f", as in the weights of {' or '.join(forms)}" if forms else "")


def _use(arch: str, stage: str, target: Path) -> str:
    """How a run takes what was written; stage: up to which it was trained, where that is not all of it."""
    from acx_jax.models.weight_names import CONTEXT_HEAD
    from acx_jax.stages import weights

    if weights.is_torch_file(target):
        return ", in PyTorch's names"
    up_to = f" --config.encoder.stage={stage}" if stage else ""
    return "" if arch == CONTEXT_HEAD else f"; use it with --config.encoder.arch={arch} --config.encoder.weights={target}{up_to}"


def main(arguments: list[str]) -> int:
    """Runs and returns the exit status: 0, 1 for failed work, 2 for wrong usage or a file that cannot be used, 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        run(arguments)
        return 0
    except (UsageError, WorkError, OSError, ValueError) as error:
        print(f"acx_jax: {error}", file=sys.stderr)
        return 1 if isinstance(error, (WorkError, OSError)) else 2
    except KeyboardInterrupt:
        print("acx_jax: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
