"""How the host's memory allocator treats the large temporary arrays of compiled programs."""

from __future__ import annotations

import os
import sys

TUNABLES, WANTED = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


def restart_with_large_pages() -> None:
    """Starts this Python command anew, in the same process, with memory in large pages; to be called before anything else.

    XLA on the CPU takes its temporary arrays from the kernel in every run and gives them back, and clearing them in pages of
    4 kB took a quarter of I3D's time: 84,000 page faults for 8 clips of 8x112x112, 240 in pages of 2 MB. The setting is read as
    a process starts. (One pool of freed memory for all threads, which glibc can be asked for later, helps I3D as much, but then
    two devices on a CPU fit episodes 2.5 times slower: they hand each other their arrays, out of each other's caches.)
    Where the environment says anything of glibc's settings, or the system is not Linux, nothing is done.
    """
    if sys.platform != "linux" or TUNABLES in os.environ:
        return
    sys.stdout.flush()
    os.environ[TUNABLES] = WANTED
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
