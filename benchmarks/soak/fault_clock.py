"""Moves the wall clock of a process that is started for it, and no other clock. Linux, with a C compiler.

A library that is loaded before the others answers for the wall clock with an offset that it reads from a file; what
waits by the monotonic clock notices nothing, as with a real step. (libfaketime moves the sleeps as well.)
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["StepClock", "missing_reason"]

_OFFSET: Final = "LUMITHERM_CLOCK_OFFSET"
_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const long long *offset_s;

__attribute__((constructor)) static void open_offset(void) {
    const char *path = getenv("LUMITHERM_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset_s = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, id, now);
    if (!failed && offset_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds) *seconds = now.tv_sec;
    return now.tv_sec;
}
"""


def missing_reason() -> str | None:
    """Why no clock can be moved here; None if one can."""
    return None if shutil.which("cc") is not None else "there is no C compiler (cc)"


class StepClock:
    """A wall clock in `folder` that steps on demand.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be built.
    """

    def __init__(self, folder: Path) -> None:
        source, self._library = folder / "clock.c", folder / "clock.so"
        source.write_text(_SOURCE, encoding="ascii")
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(self._library), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        self._file = folder / "clock.offset"
        self._file.write_bytes(struct.pack("q", 0))

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process must be started with."""
        return {"LD_PRELOAD": str(self._library), _OFFSET: str(self._file)}

    def step(self, seconds: int) -> None:
        """From now on the wall clock is this far from the true one."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))
