"""Converts engines in a child process at low priority: in the live process it would hold the interpreter's lock.

`python -P -m fusion_core.engines.convert` fills the cache of engines and says how far it is on standard output;
`convert_in_child` runs it and waits. The engine is then made as always, and finds everything in the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from fusion_core.engines.video_options import VideoOptions

__all__ = ["convert_in_child"]

_NICENESS: Final = 5  # a quarter of a busy core beside what is live, all of an idle one
_LIMIT_S: Final = 1800.0
_POLL_S: Final = 0.1
_WORD: Final = "progress "
_log = structlog.get_logger("engine")


def convert_in_child(
    name: str,
    preset: str,
    weights: Path | None,
    threads: int | None,
    video: VideoOptions,
    size: tuple[int, int],
    *,
    wanted: Callable[[], bool],
    progress: Callable[[float], None],
    program: Sequence[str] = (sys.executable, "-P", "-m", "fusion_core.engines.convert"),
) -> str:
    """Fill the cache with this engine in a child process, and wait for it.

    Args:
        name, preset, weights, threads, video: as `create_engine`.
        size: (height, width).
        wanted: asked ten times a second; the child is ended when it says no.
        progress: told the share that is done, 0..1.
        program: a test's stand-in.

    Returns:
        What was in the way, "" when everything is in the cache or it is no longer wanted. It is logged.
    """
    options = [video.align_every, video.align_smoothing, video.kernels_every, video.kernels_smoothing]
    call = [*program, "--engine", name, "--preset", preset, "--size", *map(str, size), "--video", *map(str, options)]
    call += ["--weights", str(weights)] if weights is not None else []
    call += ["--threads", str(threads)] if threads is not None else []
    flags = int(getattr(subprocess, "IDLE_PRIORITY_CLASS", 0))  # of Windows; elsewhere the child is nice by itself
    try:
        child = subprocess.Popen(
            call,
            stdin=subprocess.PIPE,  # its end tells the child that nobody waits any more
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            creationflags=flags,
        )
    except OSError as error:
        _log.warning("no process to convert the network in", reason=str(error))
        return f"no process can be started: {error}"
    said: list[str] = []
    readers = [
        threading.Thread(target=_follow, args=(child.stdout, progress), name="conversion progress"),
        threading.Thread(target=_keep_last, args=(child.stderr, said), name="conversion errors"),
    ]
    for reader in readers:
        reader.start()
    waited_s = 0.0
    while child.poll() is None and wanted() and waited_s < _LIMIT_S:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_S)
        waited_s += _POLL_S
    ended = child.poll()
    if ended is None:
        child.kill()
        child.wait()
    for reader in readers:
        reader.join()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    if ended == 0 or not wanted():
        return ""
    what = f"ended with code {ended}" if ended is not None else f"took longer than {_LIMIT_S / 60:.0f} minutes"
    reason = f"{what}; {said[-1]}" if said else what
    _log.warning("converting in a process of its own failed", engine=name, reason=reason)
    return reason


def _follow(lines: object, progress: Callable[[float], None]) -> None:
    for line in lines:  # type: ignore[attr-defined]
        if line.startswith(_WORD):
            with contextlib.suppress(ValueError):
                progress(min(1.0, max(0.0, float(line.removeprefix(_WORD)))))


def _keep_last(lines: object, said: list[str]) -> None:
    for line in lines:  # type: ignore[attr-defined]
        if line.strip():
            said[:] = [line.strip()[:500]]


# ------------------------------------------------------------------ in the child


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the engine that the arguments name, and with it its files in the cache. The exit code is 0."""
    parser = argparse.ArgumentParser(prog="fusion_core.engines.convert")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--video", type=float, nargs=4, required=True)
    given = parser.parse_args(arguments)
    _give_way()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _say(0.05)
    from fusion_core.engines.cache import BEFORE_MAKING
    from fusion_core.engines.engine import create_engine

    every, smoothing, kernels_every, kernels_smoothing = given.video
    video = VideoOptions(int(every), smoothing, kernels_every=int(kernels_every), kernels_smoothing=kernels_smoothing)
    parts = 2 if kernels_every <= 1 else 3  # the estimate, and the fusion in one or two
    if given.engine == "tensorrt":
        parts += every > 1  # the estimate around an earlier one
    made = 0

    def before_making(kind: str) -> None:
        nonlocal made
        _say(0.25 + 0.7 * min(made / parts, 1.0))
        made += 1

    BEFORE_MAKING.set(before_making)
    engine = create_engine(given.engine, given.preset, given.weights, given.threads, video=video)
    _say(0.25)
    try:
        engine.warm_up(*given.size)
    finally:
        engine.close()
    _say(1.0)
    return 0


def _say(share: float) -> None:
    print(f"{_WORD}{share:.2f}", flush=True)


def _give_way() -> None:
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def _end_with_parent() -> None:
    """End at once when the parent has ended or lost interest: nobody reads the result."""
    while os.read(0, 64):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
