"""Keeps Python's garbage collector from halting every thread: a full round looks at all objects, libraries' included.

With window and pipeline loaded a round takes some 50 ms, with PyTorch and OpenVINO 150 ms, and nothing else runs.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freeze_imports", "held_collector"]

_MANY = 50  # modules more than at the last time: a library has come
_known = 0


def freeze_imports() -> bool:
    """If libraries have been imported since the last call, take all that is alive out of the collector's rounds.

    Reference counting still frees it. Call it after imports, not again and again: what is garbage now, and only a
    round would find, stays. Returns whether it did.
    """
    global _known
    modules = len(sys.modules)
    if modules < _known + _MANY:
        return False
    _known = modules
    gc.freeze()
    return True


@contextmanager
def held_collector() -> Iterator[None]:
    """No rounds while libraries are imported, which would begin one after another; afterwards they are frozen."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        freeze_imports()
