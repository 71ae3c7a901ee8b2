"""Files that a kill or a power cut leaves whole: the old contents or the new ones, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["plain_name", "put_in_place", "replacing", "sync", "write_atomic"]

_STEM_BYTES = 200  # a name of up to 255 bytes must leave room for what is put round it


def write_atomic(path: Path, content: str | bytes) -> None:
    """Make these the contents of the file; text is written as UTF-8. Raises OSError, and leaves what was there."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, with its suffix, to write the new file to; at the end it takes the place of `path`.

    After an error `path` is as it was. Raises OSError.
    """
    stem = os.fsencode(path.stem)[:_STEM_BYTES].decode("utf-8", "ignore")
    part = path.with_name(f".{stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path) -> None:
    """Rename a finished file of one folder onto `path`, with contents and name forced to the disk. Raises OSError."""
    sync(part)
    part.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk. Raises OSError."""
    if os.name != "posix":
        return  # a folder cannot be opened there, and a rename is ordered
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain_name(text: str) -> str:
    """A name, e.g. of a rig, as part of a file name: all but letters, digits, - and _ become _."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in text)
