import os
import subprocess
import sys

import pytest

LARGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
FAULTS_OF_A_SECOND_ARRAY = """
import resource, sys
import numpy as np
from acx_jax.runtime.host_memory import restart_with_large_pages
restart_with_large_pages()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**24, 1.0)
print(*sys.argv[1:], resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def answer(tmp_path, *arguments, **environment):
    """What the script prints: its arguments and the page faults of an array of 128 MB."""
    (tmp_path / "faults.py").write_text(FAULTS_OF_A_SECOND_ARRAY)
    clean = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    clean["NUMPY_MADVISE_HUGEPAGE"] = "0"  # numpy asks for large pages of its own accord; XLA does not
    done = subprocess.run([sys.executable, tmp_path / "faults.py", *arguments], capture_output=True, text=True,
                          check=True, env=clean | environment | {"PYTHONPATH": os.getcwd()})
    return done.stdout.split()


def large_pages_at_hand():
    try:
        with open(LARGE_PAGES) as file:
            return "[madvise]" in file.read()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
def test_the_command_starts_anew_once_with_its_arguments(tmp_path):
    assert answer(tmp_path, "one", "--two=2 3")[:-1] == ["one", "--two=2", "3"]


@pytest.mark.skipif(not large_pages_at_hand(), reason="the kernel gives no large pages where they are asked for")
def test_large_arrays_cost_few_page_faults(tmp_path):
    assert int(answer(tmp_path)[0]) < int(answer(tmp_path, GLIBC_TUNABLES="glibc.malloc.hugetlb=0")[0]) / 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
def test_what_the_environment_says_stands(tmp_path):
    (tmp_path / "said.py").write_text("import os\nfrom acx_jax.runtime.host_memory import restart_with_large_pages\n"
                                      "restart_with_large_pages()\nprint(os.environ['GLIBC_TUNABLES'])\n")
    done = subprocess.run([sys.executable, tmp_path / "said.py"], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": os.getcwd(), "GLIBC_TUNABLES": "glibc.malloc.perturb=0"})
    assert done.stdout.strip() == "glibc.malloc.perturb=0"
