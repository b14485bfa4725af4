"""The devices of this process; the only file that names pmap."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acx_jax.errors import WorkError

AXIS = "devices"  # the mapped axis's name, for collectives inside a mapped function
MOST_CPU_DEVICES = 4


def count() -> int:
    """Devices of this process."""
    return jax.local_device_count()


def everywhere() -> int:
    """Devices of all processes."""
    return jax.device_count()


def process() -> tuple[int, int]:
    """(which this process is, from 0; how many work together)."""
    return jax.process_index(), jax.process_count()


def join_processes(index: int, count: int, coordinator: str) -> None:
    """Makes this process number `index` of `count` that work together; before JAX's first use. Waits for process 0 at `coordinator`, host:port.

    Where `coordinator` is "auto", SLURM or the TPU says all of it.
    """
    if coordinator == "auto":
        jax.distributed.initialize()
    else:
        jax.distributed.initialize(coordinator, count, index)


def from_first_process(tree: Any) -> Any:
    """Process 0's arrays, in every process."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return jax.tree.map(jnp.asarray, multihost_utils.broadcast_one_to_all(tree))


def from_all_processes(part: np.ndarray) -> np.ndarray:
    """[n, ...] of each process -> [processes x n, ...], one after the other, in every process."""
    if jax.process_count() == 1:
        return part
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(part, tiled=True))


@contextmanager
def others_may_go(stage: str) -> Iterator[None]:
    """Raises WorkError, which names the stage, where a process that works with this one is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise WorkError(f"{stage}: another of the processes that work together is gone, or cannot be reached ({reason}): start all of them "
                        "again, and they go on from what is saved") from error


def describe() -> str:
    """Such as '1 x cpu' or '4 x NVIDIA H200'."""
    kinds = {device.device_kind for device in jax.local_devices()}
    whose = f" in process {jax.process_index()} of {jax.process_count()}" if jax.process_count() > 1 else ""
    return f"{count()} x {', '.join(sorted(kinds))}{whose}"


def split_cpu(batch: int = MOST_CPU_DEVICES) -> None:
    """Splits the CPU into devices, as many as share `batch` equally, unless the environment says how many; before JAX's first use.

    A CPU device runs small operations on one core: episodes of small graphs take half the time on two.
    """
    if "host_platform_device_count" in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = [n for n in (1, 2, MOST_CPU_DEVICES) if n <= cores and batch % n == 0]
    jax.config.update("jax_num_cpu_devices", max(fitting))


def on_cpu() -> bool:
    """Whether the devices are shares of a CPU."""
    return jax.local_devices()[0].platform == "cpu"


def memory() -> int | None:
    """Bytes that a device has for arrays, the least of all; None where they do not say, as CPUs do not."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    return None if None in limits else min(limits)


def map_over_devices(function: Callable[..., Any], *, in_axes: Any = 0, donate: tuple[int, ...] = (), own: bool = False) -> Callable[..., Any]:
    """`function` compiled once and run on every device over the leading axis of its arguments.

    in_axes as in vmap: 0 for arguments with a leading axis of `count()`, None for those every device gets whole. Inside,
    collectives use the axis name AXIS. Where processes work together all of them must call it, unless it is for this one's `own` devices.
    """
    mapped = jax.pmap(function, axis_name=AXIS, in_axes=in_axes, donate_argnums=donate, devices=jax.local_devices() if own else None)
    return _one_at_a_time(mapped) if on_cpu() and everywhere() > 1 else mapped


def _one_at_a_time(mapped: Callable[..., Any]) -> Callable[..., Any]:
    """`mapped`, done when it returns.

    Programs in flight on a split CPU can take all of XLA's threads to wait for devices that then find none: XLA ends the process
    after 40 seconds of that ("Expected 4 threads to join the rendezvous").
    """
    def call(*arguments: Any) -> Any:
        return jax.block_until_ready(mapped(*arguments))

    call.lower = mapped.lower
    return call


def map_small(function: Callable[..., Any], *arguments: Any, in_axes: Any = 0) -> Callable[..., Any]:
    """`map_over_devices` compiled at once for arguments like these, for programs of many small operations.

    Where a CPU is split into devices, each operation of a device then stays on its core: handing small matrix products to
    the threads that all devices share made the fitting of episodes 2.5 times slower.
    """
    alone = {"xla_cpu_multi_thread_eigen": False} if on_cpu() and count() > 1 else None
    return map_over_devices(function, in_axes=in_axes).lower(*arguments).compile(compiler_options=alone)


def split(tree: Any) -> Any:
    """[B, ...] arrays -> [devices, B / devices, ...]. Raises ValueError where B is no multiple of the devices."""
    return jax.tree.map(lambda x: x.reshape(count(), _share(x.shape[0]), *x.shape[1:]), tree)


def join(tree: Any) -> Any:
    """The inverse of `split`, as arrays of NumPy: on the devices it would be a program in which they wait for each other."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def replicate(tree: Any) -> Any:
    """One copy a device, behind a new leading axis; placed as a mapped function leaves its results."""
    placed = NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))
    copies = jax.tree.map(lambda x: jnp.broadcast_to(_strong(x), (count(), *jnp.shape(x))), tree)
    return jax.device_put(copies, placed)  # placed otherwise, a step would be compiled anew for its own results


def _strong(x: Any) -> jax.Array:
    """Of the same type, but not weakly so, as `jnp.ones(n) * 1.0` may be: a step's results are not, and it would be compiled anew for them."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype)


def first(tree: Any) -> Any:
    """The first device's copy, taken there: `x[0]` would be a program of all devices, one for each array."""
    return jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)


def round_up(number: int, *, together: bool = False) -> int:
    """The smallest multiple of the devices of this process, or of all that work `together`, that is at least `number`."""
    devices = everywhere() if together else count()
    return -(-number // devices) * devices


def _share(batch: int) -> int:
    if batch % count():
        raise ValueError(f"a batch of {batch} cannot be shared equally by {count()} devices")
    return batch // count()
