import subprocess
import sys

import pytest

FAULTS_OF_A_SECOND_ARRAY = """
import resource
import numpy as np
from acx_jax.runtime.host_memory import keep_freed_memory
print(keep_freed_memory() if {keep} else None)
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**20, 1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    code = FAULTS_OF_A_SECOND_ARRAY.format(keep=keep)
    answer, count = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    if answer == "False":
        pytest.skip("the C library is not glibc")
    return int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked")
def test_freed_memory_is_used_again_without_asking_the_kernel():
    assert faults(keep=True) < faults(keep=False) / 10
