"""Heap and linear algebra. In processes of their own, since the settings are for good."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_WORK = """
import sys, threading
import numpy as np, psutil
from app.process import bound_heap, return_free_memory
if sys.argv[1] == "bound":
    assert bound_heap()
keep = []
def work(index):
    pictures = [np.full(30_000, index, np.uint8) for _ in range(600)]  # 18 MB in pieces that the arenas serve
    keep.append(pictures[-1])  # the last one pins the arena's end
barrier = threading.Barrier(12)
def run(index):
    barrier.wait()
    work(index)
threads = [threading.Thread(target=run, args=(index,)) for index in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
before = psutil.Process().memory_info().rss
assert return_free_memory()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the heap's settings are those of glibc on Linux")
@pytest.mark.parametrize("how", ["bound", "free"])
def test_what_is_free_goes_back_to_the_system(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", _WORK, how], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10_000_000


_SOLVE = """
import os, sys
from app.process import calm_blas
if sys.argv[1] == "calm":
    assert calm_blas()
import numpy as np
a = np.random.default_rng(0).normal(size=(400, 400))
np.linalg.solve(a, a)
assert not calm_blas()
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize(("how", "chosen"), [("calm", ""), ("free", "2"), ("calm", "2")])
def test_linear_algebra_starts_threads_only_where_it_is_asked_to(how: str, chosen: str) -> None:
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    env |= {"OPENBLAS_NUM_THREADS": chosen} if chosen else {}
    done = subprocess.run([sys.executable, "-c", _SOLVE, how], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == min(int(chosen or 1), len(os.sched_getaffinity(0)))


def test_no_command_loads_numpy_before_its_threads_are_set() -> None:
    code = "import sys, app.__main__; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
