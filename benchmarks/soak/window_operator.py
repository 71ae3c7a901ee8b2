"""A pair of hands for a window on an X display: real key presses and mouse moves through xdotool.

Needs the programs Xvfb (where there is no display) and xdotool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from PyQt6.QtCore import QObject, Qt, pyqtSignal

from fusion_core.errors import RunError

__all__ = ["GuiCalls", "Operator", "missing_programs", "private_display"]

_T = TypeVar("_T")
_START_S = 20.0
_STEP_S = 0.03  # between two positions of a drag: a hand is no faster


def missing_programs() -> list[str]:
    """Programs that an operator needs and that are not there."""
    return [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]


@contextmanager
def private_display(width: int, height: int) -> Iterator[str]:
    """An X server of its own without a screen, as DISPLAY; ends with the context.

    Raises:
        RunError: Xvfb does not start.
    """
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    with subprocess.Popen(
        command, pass_fds=(write_end,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        os.close(write_end)
        try:
            with os.fdopen(read_end) as answers:
                number = answers.readline().strip()  # an end of file if the server dies
            if not number:
                raise RunError("Xvfb did not start; is another server in its way? Set DISPLAY to use a real one")
            before = os.environ.get("DISPLAY")
            os.environ["DISPLAY"] = f":{number}"
            try:
                yield f":{number}"
            finally:
                os.environ.pop("DISPLAY") if before is None else os.environ.update(DISPLAY=before)
        finally:
            server.terminate()
            server.wait(_START_S)


class GuiCalls(QObject):
    """Lets another thread ask the GUI thread something and wait for the answer. Made on the GUI thread."""

    _asked = pyqtSignal(object)

    def __init__(self) -> None:
        super().__init__()
        self._asked.connect(self._run, type=Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]

    def ask(self, question: Callable[[], _T], timeout_s: float = 60.0) -> _T:
        """Run `question` on the GUI thread. Raises what it raises, or RunError when the thread does not answer."""
        done = threading.Event()
        answer: list[Any] = [None, None]

        def job() -> None:
            try:
                answer[0] = question()
            except Exception as error:  # goes to the asker
                answer[1] = error
            done.set()

        self._asked.emit(job)
        if not done.wait(timeout_s):
            raise RunError(f"the GUI thread did not answer within {timeout_s:g} s")
        if answer[1] is not None:
            raise answer[1]
        result: _T = answer[0]
        return result

    def _run(self, job: Callable[[], None]) -> None:
        job()


class Operator:
    """Types and points on DISPLAY. One thread uses it; its xdotool process ends in `close`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["xdotool", "-"], stdin=subprocess.PIPE, text=True, bufsize=1)

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(_START_S)

    def focus(self, window: int) -> None:
        """Give the keyboard to this X window: there is no window manager that would."""
        self._do(f"windowfocus {window}")

    def key(self, *names: str) -> None:
        """Press and release keys, by their X names: r, F1, ctrl+q, bracketleft."""
        for name in names:
            self._do(f"key {name}")

    def hold(self, name: str, seconds: float) -> None:
        """Keep a key down."""
        self._do(f"keydown {name}")
        time.sleep(seconds)
        self._do(f"keyup {name}")

    def click(self, x: float, y: float, button: int = 1) -> None:
        """Click at a place of the screen, px; buttons 4 and 5 turn the wheel."""
        self._do(f"mousemove {round(x)} {round(y)}", f"click {button}")

    def drag(self, places: Sequence[tuple[float, float]]) -> None:
        """Move with the left button down, through these places."""
        first, *others = places
        self._do(f"mousemove {round(first[0])} {round(first[1])}", "mousedown 1")
        for x, y in others:
            time.sleep(_STEP_S)
            self._do(f"mousemove {round(x)} {round(y)}")
        time.sleep(_STEP_S)
        self._do("mouseup 1")

    def _do(self, *commands: str) -> None:
        if self._process.stdin is None or self._process.poll() is not None:
            raise RunError("xdotool has ended; is the display still there?")
        for command in commands:
            self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
