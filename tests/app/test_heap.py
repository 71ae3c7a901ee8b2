"""The heap: two arenas, and what is free goes back. In a process of its own, since the setting is for good."""

from __future__ import annotations

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
