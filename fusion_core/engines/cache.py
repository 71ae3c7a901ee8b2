"""Converted and compiled engines on disk: keyed by all that they depend on, written atomically, checked on reading."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from fusion_core.engines.openvino_runtime import load_openvino
from fusion_core.errors import EngineError
from fusion_core.files import make_folder, read_json, sync

__all__ = ["BEFORE_MAKING", "CacheEntry", "EngineCache"]

_LOCK_TIMEOUT_S = 600.0
_LIMIT_BYTES = 2 * 2**30
_LIMIT_ENTRIES = 200
_KEY, _FILES = "key.json", "files.json"
_NEW, _BAD = ".new-", ".bad"
_log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One engine on disk."""

    name: str
    key: dict[str, Any]
    size_bytes: int
    age_s: float


BEFORE_MAKING: ContextVar[Callable[[str], None] | None] = ContextVar("BEFORE_MAKING", default=None)
"""Called in this thread with the kind of a missing entry before it is made, not under its lock: another process may
make it meanwhile. Raises EngineError where it is not to be made here."""


class EngineCache:
    """A folder of engines, `user cache/lumitherm/engines` by default. Safe for several processes at once.

    Each entry is a folder named by the hash of its key, with the key itself in `key.json` and the SHA-256 of its files
    in `files.json`. It is written beside, flushed, and renamed, so that a crash leaves a whole entry or none. An entry
    that is not exactly what was written, or holds another key, is never given to a parser: it is renamed to `*.bad`
    and made anew. The folder must belong to the user and not be writable by others. What has not been used for longest
    goes when there is too much: every size and every trained network leaves an entry.
    """

    def __init__(
        self, folder: Path | None = None, *, limit_bytes: int = _LIMIT_BYTES, limit_entries: int = _LIMIT_ENTRIES
    ) -> None:
        """Make the folder if there is none.

        Args:
            limit_bytes, limit_entries: how much is kept beside the entry that was used last.

        Raises:
            EngineError: the folder cannot be made, or others may write into it.
        """
        self._limit_bytes, self._limit_entries = limit_bytes, limit_entries
        self.folder = folder if folder is not None else user_cache_path("lumitherm") / "engines"
        try:
            make_folder(self.folder, 0o700, ours=True)
        except OSError as error:
            raise EngineError(f"the engine cache {self.folder} cannot be made: {error}") from error
        _refuse_if_others_may_write(self.folder)

    def path_of(self, key: Mapping[str, Any]) -> Path:
        """Where the entry of this key lies, whether or not it exists."""
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{key.get('kind', 'engine')}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def get_or_make(self, key: Mapping[str, Any], load: Callable[[Path], Any], make: Callable[[Path], None]) -> Any:
        """Load the entry, or make it and load it.

        Args:
            load: reads an entry's folder. EngineError means that it cannot be used now (no memory) and passes on; any
                other exception marks the entry as bad.
            make: fills an empty folder; what it raises passes on, and nothing is left behind.

        Raises:
            EngineError: it cannot be written, or another process has held it for ten minutes.
        """
        path = self.path_of(key)
        ahead = BEFORE_MAKING.get()
        if ahead is not None and not path.exists():
            ahead(str(key.get("kind", "engine")))
        try:
            with FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S):
                if path.is_symlink() or path.exists():
                    try:
                        _check_entry(path, key)
                        loaded = load(path)
                        with contextlib.suppress(OSError):
                            os.utime(path)  # used last
                        return loaded
                    except EngineError:
                        raise
                    except Exception as error:  # whatever a damaged file does to a parser
                        self._set_aside(path, error)
                self._make(path, key, make)
                self._make_room(path)
                try:
                    return load(path)
                except EngineError:
                    raise
                except Exception as error:
                    self._set_aside(path, error)
                    raise EngineError(f"the engine that was just built cannot be read: {error}") from error
        except Timeout as error:
            raise EngineError(
                f"another process has been building {path.name} for {_LOCK_TIMEOUT_S:.0f} s; "
                f"if none is running, remove {path}.lock"
            ) from error

    def openvino_model(self, key: Mapping[str, Any], convert: Callable[[], Any]) -> Any:
        """An OpenVINO model: read from the cache, else converted and kept.

        Where it cannot be kept (disk full), the converted one is returned all the same and the log says so.
        """
        ov = load_openvino()
        converted: list[Any] = []

        def make(folder: Path) -> None:
            converted.append(convert())
            try:
                ov.save_model(converted[0], folder / "model.xml", compress_to_fp16=False)
            except RuntimeError as error:
                raise EngineError(f"{folder} cannot be written: {error}") from error

        try:
            return self.get_or_make(key, lambda folder: ov.Core().read_model(folder / "model.xml"), make)
        except EngineError as error:
            if not converted:
                raise
            _log.warning("the converted network cannot be kept; the next start converts it again", reason=str(error))
            return converted[0]

    def _make(self, path: Path, key: Mapping[str, Any], make: Callable[[Path], None]) -> None:
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f"{_NEW}{path.name}-", dir=self.folder))
        except OSError as error:
            raise EngineError(f"the engine cache {self.folder} cannot be written: {error}") from error
        try:
            make(temporary)
            digests = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
            (temporary / _KEY).write_text(json.dumps(dict(key), sort_keys=True, indent=1))
            (temporary / _FILES).write_text(json.dumps(digests, indent=1))
            for file in temporary.iterdir():
                sync(file)
            temporary.rename(path)
            sync(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise EngineError(
                f"the engine cannot be kept in {self.folder}: {error}. Make room there, or mend its permissions"
            ) from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _make_room(self, newest: Path) -> None:
        """Remove what has not been used for longest until the limits hold; what another process has in hand stays."""
        entries = [entry for entry in self.entries() if entry.name != newest.name]
        size = sum(entry.size_bytes for entry in entries)
        count = len(entries)
        for entry in reversed(entries):
            if size <= self._limit_bytes and count < self._limit_entries:
                return
            try:
                with FileLock(self.folder / f"{entry.name}.lock", timeout=0):
                    shutil.rmtree(self.folder / entry.name, ignore_errors=True)
            except Timeout:
                continue
            size, count = size - entry.size_bytes, count - 1
            _log.info(
                "engine removed: the cache is full", entry=entry.name, not_used_for_days=round(entry.age_s / 86400, 1)
            )

    def _set_aside(self, path: Path, error: Exception) -> None:
        bad = path.with_name(f"{path.name}.{time.time_ns()}{_BAD}")
        try:
            path.rename(bad)
        except OSError as problem:
            raise EngineError(f"{path} is damaged ({error}) and cannot be set aside: {problem}; remove it") from problem
        _log.warning("engine file is damaged or foreign, building it anew", entry=path.name, error=str(error))

    def entries(self) -> list[CacheEntry]:
        """What is in the cache, used last first; damaged entries have an empty key."""
        found = []
        now = time.time()
        for path in self.folder.iterdir():
            if not path.is_dir() or path.name.startswith("."):
                continue
            try:
                key = {} if path.name.endswith(_BAD) else read_json(path / _KEY)
            except (OSError, ValueError):
                key = {}
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found.append(CacheEntry(path.name, key if isinstance(key, dict) else {}, size, now - path.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.age_s)

    def clean(self, *, everything: bool = False) -> int:
        """Remove damaged and abandoned entries, or everything. What is being built just now stays.

        Returns:
            How many bytes that freed.
        """
        freed = 0
        for path in list(self.folder.iterdir()):
            if path.is_symlink() or not path.is_dir():
                continue
            if path.name.startswith(_NEW):
                if not self._abandoned(path):
                    continue
            elif not everything and not path.name.endswith(_BAD):
                continue
            freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            shutil.rmtree(path, ignore_errors=True)
        return freed

    def _abandoned(self, new: Path) -> bool:
        """Whether no process holds the lock of the entry that this folder was to become."""
        entry = new.name.removeprefix(_NEW).rpartition("-")[0]
        try:
            with FileLock(self.folder / f"{entry}.lock", timeout=0):
                return True
        except Timeout:
            return False


def _check_entry(path: Path, key: Mapping[str, Any]) -> None:
    """Raises ValueError or OSError unless the folder is what `_make` wrote for this key, file by file."""
    if path.is_symlink() or not path.is_dir():
        raise ValueError("it is no folder")
    if os.name == "posix":
        status = path.stat()
        if status.st_mode & 0o022 or status.st_uid not in (os.getuid(), 0):
            raise ValueError("others may write into it")
    if read_json(path / _KEY) != json.loads(json.dumps(dict(key))):
        raise ValueError("it was made for something else: its key differs")
    digests = read_json(path / _FILES)
    if not isinstance(digests, dict) or not digests:
        raise ValueError("its list of files is empty")
    for name, digest in digests.items():
        if Path(name).name != name or (path / name).is_symlink() or _sha256(path / name) != digest:
            raise ValueError(f"{name} is not as it was written")


def _refuse_if_others_may_write(folder: Path) -> None:
    """Raises EngineError: engines from there would be run unseen."""
    if os.name != "posix":
        return
    resolved = folder.resolve()
    for place in (resolved, *resolved.parents):
        status = place.stat()
        itself = place == resolved
        # Above the folder itself it is enough that others cannot rename what is ours.
        writable = status.st_mode & 0o022 if itself else status.st_mode & 0o002 and not status.st_mode & 0o1000
        if writable or (itself and status.st_uid not in (os.getuid(), 0)):
            raise EngineError(
                f"the engine cache {folder} may be written by others ({place}); engines from there would be run "
                f"unseen. Do `chmod go-w {place}`, or choose another folder"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
