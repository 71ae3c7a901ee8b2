"""A file that grows at its end and says honestly what is in it: below the video and its sidecar."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from fusion_core.files import refuse_planted

__all__ = ["DiskFile"]

_NOT_FOR_FOLDERS = (errno.EINVAL, errno.EACCES, errno.ENOTSUP)  # file systems that sync no folder


class DiskFile:
    """A new file, without a buffer of its own. One owner thread.

    What is behind the last `sync` may be lost when the power goes, in parts and in any order; what is before it is
    there. A write is whole in the file or not there, except when the process is killed in the middle of it.

    Raises:
        OSError: the file exists, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """Bytes in the file."""
        self._named = False  # whether the folder on the disk knows it
        refuse_planted(path.parent)
        self._file = path.open("xb", buffering=0)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def append(self, data: bytes) -> None:
        """Write at the end. Raises OSError (disk full); the file then ends as it did before."""
        try:
            self._put(self.size, data)
        except OSError:
            self._file.truncate(self.size)  # shrinking needs no space, so it works on a full disk
            raise
        self.size += len(data)

    def patch(self, offset: int, data: bytes) -> None:
        """Write over bytes that are there. Raises OSError."""
        self._put(offset, data)

    def _put(self, offset: int, data: bytes) -> None:
        self._file.seek(offset)
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += self._file.write(view[done:]) or 0

    def sync(self) -> None:
        """Have the disk hold everything written so far, and the file's name. Raises OSError."""
        os.fsync(self._file.fileno())
        if not self._named:
            self._sync_folder()
            self._named = True

    def _sync_folder(self) -> None:
        if os.name == "nt":
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in _NOT_FOR_FOLDERS:
                raise
        finally:
            os.close(folder)

    def close(self) -> None:
        """Sync as well as it goes, and close. Safe to call twice."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):
            self.sync()
        self._file.close()
