"""Encoders: clips a second of the forward pass that features are made with, beside PyTorch eager and compiled."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from acx_jax.benchmark.outcome import OURS, Outcome, Row
from acx_jax.benchmark.timing import Program, call, interleave
from acx_jax.errors import UsageError
from acx_jax.models.encoders import ENCODERS, EncoderSpec, check_clip_shape, folded, init_variables
from acx_jax.models.operations import forward_flops

SUMMARY = "Forward pass of the encoders over a batch of clips, evaluation mode, the same random weights in all programs."
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--encoders, --batch, --frames, --size, --dtypes."""
    parser.add_argument("--encoders", default="r2plus1d_34,r3d_18,i3d", help=f"some of {','.join(ENCODERS)}")
    parser.add_argument("--batch", type=int, default=4, help="clips a call (default 4)")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip (default 8)")
    parser.add_argument("--size", type=int, default=112, help="height and width in pixels (default 112)")
    parser.add_argument("--dtypes", help=f"some of {','.join(DTYPES)}; default: float32 on a CPU, both elsewhere")


def run(options: argparse.Namespace) -> Outcome:
    """Measures each encoder in each number format; see the package's docstring for what a suite is."""
    names, dtypes = _asked(options)
    shape = (options.batch, options.frames, options.size, options.size, 3)
    rows, notes = [], []
    for name in names:
        try:
            check_clip_shape(ENCODERS[name], shape)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    for name in names:
        clips = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        variables = varied(init_variables(ENCODERS[name], jax.random.key(0), shape))
        for dtype in dtypes:
            print(f"{name} in {dtype} ...", flush=True)
            found, said = _measure(name, variables, clips, dtype, options)
            rows, notes = rows + found, notes + said
    return Outcome("clips", {"clips": "x".join(map(str, shape))}, rows, notes)


def _asked(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    default = "float32" if jax.default_backend() == "cpu" else "float32,bfloat16"
    asked = {"encoders": (options.encoders, ENCODERS), "dtypes": (options.dtypes or default, DTYPES)}
    for option, (value, choices) in asked.items():
        for name in value.split(","):
            if name not in choices:
                raise UsageError(f"--{option}={value}: {name!r} is not one of {', '.join(choices)}")
    if options.batch < 1:
        raise UsageError(f"--batch={options.batch}: at least 1 clip is needed")
    return options.encoders.split(","), (options.dtypes or default).split(",")


def varied(variables: Any) -> Any:
    """`variables` with norms that do something, drawn with a fixed seed: scales and variances in [0.5, 1.5], small biases and means."""
    draw, flat = np.random.default_rng(1), traverse_util.flatten_dict(dict(variables), sep="/")
    for name in sorted(flat):
        leaf = name.rsplit("/", 1)[1]
        if leaf in ("scale", "var"):
            flat[name] = jnp.asarray(draw.uniform(0.5, 1.5, flat[name].shape), jnp.float32)
        elif leaf in ("bias", "mean"):
            flat[name] = jnp.asarray(draw.normal(0, 0.1, flat[name].shape), jnp.float32)
    return traverse_util.unflatten_dict(flat, sep="/")


def _measure(name: str, variables: Any, clips: np.ndarray, dtype: str, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    programs: dict[str, Program] = {OURS: ours(ENCODERS[name], variables, clips, DTYPES[dtype])}
    notes: list[str] = []
    if options.peer == "torch":
        programs |= torch_programs(name, variables, clips, dtype)
    first, results = {}, {}
    for program in list(programs):
        try:
            first[program] = call(programs[program])
            results[program] = np.asarray(programs[program](), np.float32)
        except Exception as error:  # torch.compile raises whatever its compilers do
            if program == OURS:
                raise
            notes.append(f"{name} {dtype}: {program} could not run here: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
            del programs[program]
    timings = interleave(programs, repeats=options.repeats, first=first)
    work, largest = flops(ENCODERS[name], clips.shape), np.abs(results[OURS]).max()
    error = {program: None if program == OURS else float(np.abs(result - results[OURS]).max() / largest)
             for program, result in results.items()}
    return [Row(f"{name} {dtype}", program, timing, len(clips), work, dtype, error[program])
            for program, timing in timings.items()], notes


def ours(spec: EncoderSpec, variables: Any, clips: np.ndarray, dtype: Any) -> Program:
    """The encoder as acx_jax runs it, on clips that lie on the device already."""
    forward = jax.jit(partial(spec.build(dtype, folded=True).apply, train=False))
    variables, clips = jax.device_put((folded(spec, variables), clips))
    return lambda: forward(variables, clips)


def torch_programs(name: str, variables: Any, clips: np.ndarray, dtype: str) -> dict[str, Program]:
    """PyTorch eager and compiled; on a GPU with channels last and, for bfloat16, autocast."""
    import torch

    from acx_jax.benchmark.peers.torch_encoders import build

    network, x = build(name, variables), torch.from_numpy(clips.transpose(0, 4, 1, 2, 3).copy())
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if on_gpu:
        network, x = network.to(device, memory_format=torch.channels_last_3d), x.to(device, memory_format=torch.channels_last_3d)

    def forward(network: Any) -> np.ndarray:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            features = network(x)
        return features.float().cpu().numpy()  # waits; a few kB

    return {f"torch {kind}": partial(forward, made) for kind, made in (("eager", network), ("compiled", torch.compile(network)))}


def flops(spec: EncoderSpec, shape: tuple[int, ...]) -> float:
    """Two for every multiplication of a forward pass over clips [B, T, H, W, 3] that its convolutions ask for, padding included."""
    return sum(forward_flops(spec, shape).values())
