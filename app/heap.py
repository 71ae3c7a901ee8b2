"""Keeps the C library's heap from hoarding: pictures are large, threads come and go, and each has its own arena.

Every arena of glibc keeps the most that it ever held. With the dozen and a half threads of a pipeline, started anew a
few times, that came to hundreds of MB that nothing used.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

__all__ = ["bound_heap", "give_back"]

_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def bound_heap() -> bool:
    """Let all threads share two arenas from now on. Call it before they start; whether the C library can (glibc)."""
    libc = _libc()
    return libc is not None and libc.mallopt(_M_ARENA_MAX, _ARENAS) == 1


def give_back() -> bool:
    """Return what is free to the system, some tens of ms for a large heap; whether anything was."""
    libc = _libc()
    return libc is not None and libc.malloc_trim(0) == 1
