"""Adaptation: clips a second of the whole training step (views, both encoders, gradients, update), beside PyTorch."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import jax
import numpy as np

from acx_jax.benchmark.outcome import OURS, Outcome, Row
from acx_jax.benchmark.suites.embed import DTYPES, flops
from acx_jax.benchmark.timing import Program, call, interleave
from acx_jax.contracts import Clips
from acx_jax.errors import UsageError
from acx_jax.models.encoders import ENCODERS, check_clip_shape, init_variables
from acx_jax.runtime import devices
from acx_jax.selfsup import optimisers, projection, schemes, training
from acx_jax.selfsup.memory import empty_queue
from acx_jax.selfsup.views import ViewOptions

SUMMARY = "One step of the adaptation (DSM) as the stage runs it, from uint8 clips on the device to the updated state."
VIDEOS, EPOCHS = 4136, 200  # of the published recipe on DoTA
QUEUE, DIMENSION, TEMPERATURE, KEY_MOMENTUM = 1024, 128, 0.07, 0.999
RATE, MOMENTUM, DECAY = 0.003, 0.9, 1e-4
FORWARD_PASSES = 7  # worth of products: anchor and negative three each, with their two gradients, and the positive one
SPLIT_CPU = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--encoders, --batch, --frames, --size, --stored, --dtypes."""
    parser.add_argument("--encoders", default="r2plus1d_18", help=f"some of {','.join(ENCODERS)} (default r2plus1d_18)")
    parser.add_argument("--batch", type=int, default=4, help="clips a step, over all devices (default 4)")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip (default 8)")
    parser.add_argument("--size", type=int, default=112, help="height and width of a view in pixels (default 112)")
    parser.add_argument("--stored", type=int, default=0, help="height and width of the frames it is cut from (default 8/7 of --size)")
    parser.add_argument("--dtypes", help=f"some of {','.join(DTYPES)}; default: float32 on a CPU, both elsewhere")


def run(options: argparse.Namespace) -> Outcome:
    """Measures each encoder in each number format; see the package's docstring for what a suite is."""
    names, dtypes = _asked(options)
    side = options.stored or options.size * 8 // 7
    with_hue = importlib.util.find_spec("dm_pix") is not None
    clips = made_clips(options.batch, options.frames, side)
    rows, notes = [], [] if with_hue else ["dm-pix is not installed: no program turns the hue"]
    for name in names:
        for dtype in dtypes:
            print(f"{name} in {dtype} ...", flush=True)
            view = ViewOptions(options.size, "random", "all" if with_hue else "all_but_hue", "sample")
            found, said = _measure(name, clips, dtype, view, options)
            rows, notes = rows + found, notes + said
    return Outcome("clips", {"clips": "x".join(map(str, clips.anchor.shape)), "views": f"{options.size}x{options.size}", "queue": QUEUE}, rows, notes)


def _asked(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    default = "float32" if jax.default_backend() == "cpu" else "float32,bfloat16"
    asked = {"encoders": (options.encoders, ENCODERS), "dtypes": (options.dtypes or default, DTYPES)}
    for option, (value, choices) in asked.items():
        for name in value.split(","):
            if name not in choices:
                raise UsageError(f"--{option}={value}: {name!r} is not one of {', '.join(choices)}")
    if options.batch < 1 or options.batch % devices.count():
        raise UsageError(f"--batch={options.batch}: a multiple of the {devices.count()} devices is needed")
    if options.stored and options.stored < options.size:
        raise UsageError(f"--stored={options.stored}: at least --size={options.size} is needed")
    for name in options.encoders.split(","):
        try:
            check_clip_shape(ENCODERS[name], (options.batch, options.frames, options.size, options.size, 3))
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    return options.encoders.split(","), (options.dtypes or default).split(",")


def made_clips(batch: int, frames: int, side: int) -> Clips:
    """Random bytes, each clip of a video of its own, each with another moment."""
    draw = np.random.default_rng(0)
    anchor, negative = (draw.integers(0, 256, (batch, frames, side, side, 3), dtype=np.uint8) for _ in range(2))
    return Clips(anchor, negative, np.ones(batch, bool), np.arange(batch, dtype=np.int32))


def first_params(name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Random parameters {"encoder", "head"} and fresh statistics."""
    spec = ENCODERS[name]
    variables = init_variables(spec, jax.random.key(0), shape)
    head = projection.init_head(jax.random.key(1), inputs=spec.feature_dim, outputs=DIMENSION)
    return {"encoder": variables["params"], "head": head}, variables["batch_stats"]


def our_step(name: str, params: Any, dtype: Any, options: ViewOptions) -> tuple[Any, Any]:
    """The step of the stage, to be mapped over devices, and its optimiser."""
    optimiser = optimisers.make_optimiser(params, {"encoder": True, "head": True}, name="sgd", rate=optimisers.learning_rate(
        "constant", peak=RATE, steps=1, warmup=0), momentum=MOMENTUM, decay=DECAY, decay_norms=False)
    project = projection.make_projection(ENCODERS[name], dtype=dtype, axis=devices.AXIS, train_norm=True, frozen=None)
    scheme = schemes.contrastive(negatives=(schemes.NEGATIVE,), warp=True, broken="any", loss="info_nce", temperature=TEMPERATURE, n_data=1,
                                 exclude_own=True)
    return training.make_step(project, optimiser, scheme, options=options, key_momentum=KEY_MOMENTUM, axis=devices.AXIS), optimiser


def ours(name: str, params: Any, statistics: Any, clips: Clips, dtype: Any, options: ViewOptions) -> Program:
    """The step, compiled, over all devices; each call goes on from the state that the one before left."""
    step, optimiser = our_step(name, params, dtype, options)
    mapped = devices.map_over_devices(step, in_axes=(0, 0, None), donate=(0,))
    state = devices.replicate(training.initial_state(params, statistics, optimiser, empty_queue(QUEUE, DIMENSION)))
    clips = jax.device_put(devices.split(clips))

    def program() -> jax.Array:
        nonlocal state
        state, metrics = mapped(state, clips, jax.random.key(0))
        return jax.block_until_ready((state, metrics))[1]["loss"]

    return program


def torch_programs(name: str, params: Any, statistics: Any, clips: Clips, dtype: str, options: ViewOptions) -> dict[str, Program]:
    """The same step in PyTorch, eager and with the encoders compiled; on a GPU with channels last and, for bfloat16, autocast."""
    from acx_jax.benchmark.peers.torch_adapt import AdaptStep

    return {f"torch {kind}": AdaptStep(
        name, params, statistics, clips, size=options.size, with_hue=options.jitter == "all", queue=QUEUE, temperature=TEMPERATURE,
        key_momentum=KEY_MOMENTUM, rate=RATE, momentum=MOMENTUM, decay=DECAY, bfloat16=dtype == "bfloat16",
        compiled=kind == "compiled", on_gpu=jax.default_backend() == "gpu") for kind in ("eager", "compiled")}


def _measure(name: str, clips: Clips, dtype: str, view: ViewOptions, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    shape = (*clips.anchor.shape[:2], view.size, view.size, 3)
    params, statistics = first_params(name, shape)
    programs: dict[str, Program] = {OURS: ours(name, params, statistics, clips, DTYPES[dtype], view)}
    notes: list[str] = []
    if options.peer == "torch":
        programs |= torch_programs(name, params, statistics, clips, dtype, view)
    first = {}
    for program in list(programs):
        try:
            first[program] = call(programs[program])
        except Exception as error:  # torch.compile raises whatever its compilers do
            if program == OURS:
                raise
            notes.append(f"{name} {dtype}: {program} could not run here: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
            del programs[program]
    timings = interleave(programs, repeats=options.repeats, first=first, settle=True)
    work = FORWARD_PASSES * flops(ENCODERS[name], shape)
    rows = [Row(f"{name} {dtype}", program, timing, options.batch, work, dtype) for program, timing in timings.items()]
    return rows, notes + [_projected(row) for row in rows]


def _projected(row: Row) -> str:
    hours = VIDEOS * EPOCHS * row.timing.median / row.items / 3600
    return (f"{row.case}: {row.program} would take {hours:,.1f} hours on this device for the published recipe "
            f"({VIDEOS:,} videos, {EPOCHS} epochs), at these sizes")
