"""Small files of the state folder that a power cut leaves whole: the old text or the new one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["plain_name", "write_state"]


def plain_name(rig: str) -> str:
    """The rig's name as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in rig)


def write_state(file: Path, text: str) -> None:
    """Replace the file by this ASCII text; its folder is made for this user alone. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_suffix(".part")
    with part.open("w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name as well
    finally:
        os.close(folder)
