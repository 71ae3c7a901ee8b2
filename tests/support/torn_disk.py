"""A disk that keeps less than the file system promises: what was not synced is lost in parts, torn, and in any order.

`TornDisk.file` stands for `DiskFile` and notes what is asked of each file; `crash` then makes the folder as it may be
found after the power went: every sector that was written since the last sync of its file is there or not, by chance,
whatever the order in which it was written; the file is as long as its last surviving byte, or longer with zeros; a file
whose name was not synced may be gone. So SQLite tests itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.recording.disk_file import DiskFile

__all__ = ["TornDisk"]

SECTOR = 512


class TornDisk:
    """All files that were made through `file`. ops: how many writes and syncs there were in all."""

    def __init__(self) -> None:
        self.files: dict[Path, _Noted] = {}
        self.journal: list[tuple[str, Path, int, bytes]] = []  # write | cut | sync, offset or size, data

    def file(self, path: Path) -> DiskFile:
        """In place of `DiskFile(path)`."""
        noted = _Noted(path, self.journal)
        self.files[path] = noted
        return noted

    def synced_size(self, path: Path, until: int) -> int:
        """How much of a file was safe after the first `until` entries of the journal."""
        size = safe = 0
        for what, where, at, data in self.journal[:until]:
            if where != path:
                continue
            if what == "write":
                size = max(size, at + len(data))
            elif what == "cut":
                size = at
            else:
                safe = size
        return safe

    def crash(self, folder: Path, until: int, rng: np.random.Generator) -> None:
        """Make the files as they may be when the power goes after the first `until` entries of the journal."""
        for path in self.files:
            data = self._torn(path, until, rng)
            if data is not None:
                (folder / path.name).write_bytes(data)

    def _torn(self, path: Path, until: int, rng: np.random.Generator) -> bytes | None:
        disk, memory = bytearray(), bytearray()
        dirty: set[int] = set()
        named = False
        for what, where, at, data in self.journal[:until]:
            if where != path:
                continue
            if what == "write":
                memory.extend(bytes(max(0, at + len(data) - len(memory))))
                memory[at : at + len(data)] = data
                dirty.update(range(at // SECTOR, (at + len(data) - 1) // SECTOR + 1))
            elif what == "cut":
                del memory[at:]
                dirty.add(at // SECTOR)
            else:
                disk, named = bytearray(memory), True
                dirty.clear()
        if not named and rng.random() < 0.5:
            return None  # the folder never knew it
        survive = [sector for sector in sorted(dirty) if rng.random() < 0.6]
        for sector in survive:
            part = memory[sector * SECTOR : (sector + 1) * SECTOR]
            if len(part) and rng.random() < 0.1:
                part = part[: int(rng.integers(1, len(part) + 1))]  # torn within the sector
            disk.extend(bytes(max(0, sector * SECTOR + len(part) - len(disk))))
            disk[sector * SECTOR : sector * SECTOR + len(part)] = part
        if rng.random() < 0.3:
            disk.extend(bytes(max(0, len(memory) - len(disk))))  # its length was noted, what is in it was not
        return bytes(disk)


class _Noted(DiskFile):
    """Writes as it is told, and notes it."""

    def __init__(self, path: Path, journal: list[tuple[str, Path, int, bytes]]) -> None:
        super().__init__(path)
        self._journal = journal

    def _put(self, offset: int, data: bytes) -> None:
        super()._put(offset, data)
        self._journal.append(("write", self.path, offset, bytes(data)))

    def sync(self) -> None:
        super().sync()
        self._journal.append(("sync", self.path, 0, b""))
