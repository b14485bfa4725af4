"""How the host's memory allocator treats the large temporary arrays of compiled programs."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory for the next allocation; to be called before other threads start. False without glibc.

    XLA on the CPU allocates its temporary arrays anew in every run. glibc takes arrays of that size from the kernel and gives
    them back each time, and the kernel's clearing of their pages cost as much time as I3D's arithmetic: 44,000 page faults a
    clip of 8x112x112, 1,300 with this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    wanted = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1, _TOP_PAD: 64 * 2**20}
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted.items())
