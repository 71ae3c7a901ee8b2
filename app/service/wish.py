"""What somebody last asked of the recorder, so that a restart goes on with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.service.systemd import boot_id
from fusion_core.files import write_atomic

__all__ = ["RecordingWish", "Wish"]

_MAX_LABEL = 40


@dataclass(frozen=True, slots=True)
class Wish:
    """wanted: somebody began a recording, or ended it. label: of the recording."""

    wanted: bool
    label: str | None = None


class RecordingWish:
    """Keeps it in a file. A recording that was begun is wanted until somebody ends it, whatever happens in between.

    One that was ended stays so until the computer is switched off and on: then the configuration's `autostart` decides
    again. A damaged file counts as none.
    """

    def __init__(self, file: Path, boot: str | None = None) -> None:
        self._file = file
        self._boot = boot if boot is not None else boot_id()

    def read(self) -> Wish | None:
        """What holds now; None = nobody has said anything."""
        try:
            data = json.loads(self._file.read_text(encoding="ascii"))
            wanted, label, boot = data["recording"], data["label"], data["boot"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(wanted, bool) or not (wanted or boot == self._boot):
            return None
        return Wish(wanted, label if isinstance(label, str) and 0 < len(label) <= _MAX_LABEL else None)

    def note(self, wanted: bool, label: str | None) -> None:
        """Write it down. A folder that cannot be written is logged: the recording itself goes on."""
        text = json.dumps({"recording": wanted, "label": label, "boot": self._boot})
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._file, text)
        except OSError as error:
            structlog.get_logger("service").warning(
                "a restart will not know what is to be recorded", file=str(self._file), reason=str(error)
            )
