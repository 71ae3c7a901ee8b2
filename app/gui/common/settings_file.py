"""A JSON object on disk that is changed key by key, and written a moment later on a thread of its own."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, Final

import structlog

from fusion_core.files import read_json, write_atomic

__all__ = ["SettingsFile"]

_DELAY_S: Final = 2.0


class SettingsFile:
    """Values by key; what changed is on disk `delay_s` later. Any thread; only `save` waits for the disk.

    However much changes meanwhile, one write waits, and it writes the newest values. It goes into a file beside this
    one, to the disk, and then takes this one's place: a power cut leaves the old values or the new ones. Keys that
    another window has written meanwhile are kept.

    Thread `settings writer`: from a change until it is written. It is no daemon, so that a program that ends lets it.

    Args:
        file: made, with its folder, at the first write. What is there and cannot be read counts as empty.
        delay_s: from the first change to the write.
    """

    def __init__(self, file: Path, delay_s: float = _DELAY_S) -> None:
        self.file = file
        self._delay_s = delay_s
        self._changed = threading.Condition()
        self._values = _read(file)
        self._unsaved: dict[str, Any] = {}
        self._due_s = 0.0
        self._thread: threading.Thread | None = None
        self._told = False  # that it cannot be written

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, as JSON has it."""
        with self._changed:
            return self._values.get(key, default)

    def put(self, key: str, value: Any) -> None:
        """Change a key; `value` is JSON-able and left alone by the caller from now on. Returns at once."""
        with self._changed:
            if key in self._values and self._values[key] == value:
                return
            self._values[key] = self._unsaved[key] = value
            if self._thread is None:
                self._begin(time.monotonic() + self._delay_s)

    def save(self, timeout_s: float = 5.0) -> bool:
        """Write what waits now, and wait for it: not on the GUI thread. Whether everything is on disk."""
        with self._changed:
            if self._thread is None and self._unsaved:  # it could not be written before
                self._begin(0.0)
            self._due_s = 0.0
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        with self._changed:
            return self._thread is None and not self._unsaved

    # ------------------------------------------------------------------ the thread

    def _begin(self, due_s: float) -> None:
        self._due_s = due_s
        self._thread = threading.Thread(target=self._run, name="settings writer")
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (wait_s := self._due_s - time.monotonic()) > 0:
                    self._changed.wait(wait_s)
                values, self._unsaved = self._unsaved, {}
            error = self._write(values)
            with self._changed:
                if error is not None:
                    self._unsaved = values | self._unsaved  # goes with the next change, or with `save`
                if error is not None or not self._unsaved:
                    self._thread = None
                    return

    def _write(self, values: dict[str, Any]) -> OSError | None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(_read(self.file) | values, indent=1, sort_keys=True)
            write_atomic(self.file, text + "\n")
        except OSError as error:
            if not self._told:
                self._told = True
                structlog.get_logger("window").warning(
                    f"the window's settings cannot be written to {self.file} ({error.strerror or error}); they hold"
                    " until the window is closed. Make the folder writable to have them remembered."
                )
            return error
        self._told = False
        return None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (OSError, ValueError):  # not there, or damaged: the defaults serve
        return {}
    return found if isinstance(found, dict) else {}
