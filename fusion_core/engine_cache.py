"""Converted and compiled engines on disk: keyed by all that they depend on, written atomically, checked on reading."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from fusion_core.errors import EngineError

__all__ = ["CacheEntry", "EngineCache"]

_LOCK_TIMEOUT_S = 600.0
_log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One engine on disk."""

    name: str
    key: dict[str, Any]
    size_bytes: int
    age_s: float


class EngineCache:
    """A folder of engines, `user cache/lumitherm/engines` by default. Safe for several processes at once.

    Each entry is a folder named by the hash of its key, with the key itself in `key.json`. An entry that cannot be read
    is renamed to `*.bad` and made anew. The folder must belong to the user and not be writable by others.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Raises EngineError when the folder cannot be made, or others may write into it."""
        self.folder = folder if folder is not None else user_cache_path("lumitherm") / "engines"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EngineError(f"the engine cache {self.folder} cannot be made: {error}") from error
        if os.name == "posix":
            status = self.folder.stat()
            if status.st_mode & 0o022 or status.st_uid not in (os.getuid(), 0):
                raise EngineError(
                    f"the engine cache {self.folder} may be written by others; engines from there would be run "
                    f"unseen. Do `chmod go-w` on it, or choose another folder"
                )

    def path_of(self, key: Mapping[str, Any]) -> Path:
        """Where the entry of this key lies, whether or not it exists."""
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{key.get('kind', 'engine')}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def get_or_make(self, key: Mapping[str, Any], load: Callable[[Path], Any], make: Callable[[Path], None]) -> Any:
        """Load the entry, or make it and load it.

        Args:
            load: reads an entry's folder; any exception marks the entry as bad.
            make: fills an empty folder.
        """
        path = self.path_of(key)
        try:
            with FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S):
                if path.is_dir():
                    try:
                        return load(path)
                    except Exception as error:  # whatever a damaged file does to a parser
                        bad = path.with_name(f"{path.name}.{int(time.time())}.bad")
                        path.rename(bad)
                        _log.warning("engine file is damaged, building it anew", entry=path.name, error=str(error))
                temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
                try:
                    make(temporary)
                    (temporary / "key.json").write_text(json.dumps(dict(key), sort_keys=True, indent=1))
                    temporary.rename(path)
                except BaseException:
                    shutil.rmtree(temporary, ignore_errors=True)
                    raise
                return load(path)
        except Timeout as error:
            raise EngineError(
                f"another process has been building {path.name} for {_LOCK_TIMEOUT_S:.0f} s; "
                f"if none is running, remove {path}.lock"
            ) from error

    def openvino_model(self, key: Mapping[str, Any], convert: Callable[[], Any]) -> Any:
        """An OpenVINO model: read from the cache, else converted and kept."""
        import openvino as ov

        return self.get_or_make(
            key,
            load=lambda folder: ov.Core().read_model(folder / "model.xml"),
            make=lambda folder: ov.save_model(convert(), folder / "model.xml", compress_to_fp16=False),
        )

    def entries(self) -> list[CacheEntry]:
        """What is in the cache, newest first; entries whose key cannot be read are listed with an empty key."""
        found = []
        now = time.time()
        for path in self.folder.iterdir():
            if not path.is_dir() or path.name.startswith("."):
                continue
            try:
                key = json.loads((path / "key.json").read_text())
            except (OSError, ValueError):
                key = {}
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found.append(CacheEntry(path.name, key if isinstance(key, dict) else {}, size, now - path.stat().st_mtime))
        return sorted(found, key=lambda entry: entry.age_s)

    def clean(self, *, everything: bool = False) -> int:
        """Remove damaged and abandoned entries, or everything. Returns how many bytes that freed."""
        freed = 0
        for path in list(self.folder.iterdir()):
            if not path.is_dir():
                continue
            if everything or path.name.endswith(".bad") or path.name.startswith(".new-"):
                freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                shutil.rmtree(path, ignore_errors=True)
        return freed
