"""Keeps the user's models: weights files that were checked once, the one in use, and those in use before.

A folder in the user's data directory:

    NAME.safetensors   the weights, copied when they were added
    NAME.json          where they came from, and the hash that they had then
    store.json         the model in use and the ones before it

The shipped presets are always there and listed beside them. Only safetensors is read, never pickle. Neither importing
this module nor listing needs torch: the window does both.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from fusion_core.errors import BadInputError, CheckpointError, RunError, UsageError
from fusion_core.files import make_folder, read_json, write_atomic

__all__ = [
    "ACTIVE",
    "DEFAULT_MODEL",
    "HistoryEntry",
    "ModelStore",
    "StoredModel",
    "default_folder",
    "resolve_weights",
    "shipped_presets",
]

ACTIVE = "active"
"""Stands for the model in use wherever a model's name is wanted."""

DEFAULT_MODEL = "tiny"
"""In use until the user has chosen another one."""

_FOLDER_VARIABLE = "LUMITHERM_MODELS"
_FORMAT = 1
_MAX_HISTORY = 100
_MAX_HEADER_BYTES = 16 << 20
_LOCK_TIMEOUT_S = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".safetensors"
_SHIPPED = Path(__file__).parent / "weights"

PRESET_NAMES = ("tiny", "small", "base")
"""The sizes of the network; a test holds them against `fusion_core.rfvif.PRESETS`, which needs torch."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model of the list.

    origin: "shipped" or "added". facts: what the trainer wrote into the file. sha256: "" for shipped ones. source:
    the file that was added. problem: why it cannot be used, "" when it can as far as the list knows.
    """

    name: str
    path: Path
    origin: str
    in_use: bool
    size_bytes: int
    sha256: str = ""
    source: str = ""
    added: str = ""  # UTC, ISO 8601
    parameters: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A model that was put to use; `at` is UTC, ISO 8601."""

    name: str
    at: str


def default_folder() -> Path:
    """Where the store lies: $LUMITHERM_MODELS, or `models` in the user's data directory."""
    chosen = os.environ.get(_FOLDER_VARIABLE)
    return Path(chosen) if chosen else user_data_path("lumitherm") / "models"


class ModelStore:
    """The store in one folder, which the first added model creates. Several processes may use it at once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else default_folder()

    # ---- what there is

    def models(self) -> list[StoredModel]:
        """List the shipped presets whose weights are installed, then added models by name. Loads nothing.

        Raises:
            BadInputError: the store's own files are damaged.
        """
        chosen = self.active()
        found = [_shipped(name, path, chosen == name) for name, path in _shipped_files()]
        if self.folder.is_dir():
            for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
                if not path.name.startswith("."):
                    found.append(self._added(path, chosen == path.stem))
        return found

    def get(self, name: str) -> StoredModel:
        """The model of this name; ACTIVE is the one in use.

        Raises:
            CheckpointError: there is none.
        """
        wanted = self.active() if name == ACTIVE else name
        for model in self.models():
            if model.name == wanted:
                return model
        known = ", ".join(model.name for model in self.models()) or "none"
        raise CheckpointError(
            f"there is no model {wanted!r}; the models are: {known}. `lumitherm models add FILE` adds a weights file"
        )

    def active(self) -> str:
        """Name of the model in use."""
        return str(self._state()["active"])

    def history(self) -> list[HistoryEntry]:
        """What was put to use, oldest first; `rollback` goes back along it."""
        return [HistoryEntry(str(entry["name"]), str(entry["at"])) for entry in self._state()["history"]]

    # ---- changing it

    def add(self, source: Path, name: str | None = None, *, replace: bool = False) -> StoredModel:
        """Check a weights file and copy it into the store.

        Args:
            name: in the store; by default the name of the file.
            replace: an added model of that name may be replaced.

        Raises:
            CheckpointError: it holds no Lumitherm weights, is too large or damaged, or does not fit its network.
            UsageError: the name is taken or unusable. RunError: it cannot be copied.
        """
        from fusion_core.checkpoint import load_checkpoint

        if source.is_dir():
            raise CheckpointError(
                f"{source} is a folder, wanted weights in a plain file; give the {_SUFFIX} file in it"
            )
        if source.suffix.lower() != _SUFFIX:
            raise CheckpointError(
                f"{source} is not a {_SUFFIX} file; other formats (.pt, .pth, .bin, .ckpt) can run code when they are "
                "read and are refused. Ask for the weights as safetensors"
            )
        name = name if name is not None else source.stem
        self._check_name(name)
        loaded = load_checkpoint(source)
        target = self.folder / f"{name}{_SUFFIX}"
        entry = {
            "format": _FORMAT,
            "sha256": loaded.sha256,
            "source": str(source.resolve()),
            "added": _now(),
            "parameters": sum(parameter.numel() for parameter in loaded.network.parameters()),
            "config": loaded.config.to_dict(),
            "facts": loaded.facts,
        }
        with self._locked():
            if target.exists() and not replace:
                raise UsageError(f"there is a model {name!r} already; give another --name, or --overwrite")
            data = source.read_bytes()
            if hashlib.sha256(data).hexdigest() != loaded.sha256:
                raise CheckpointError(f"{source} changed while it was read; add it again when it is complete")
            write_atomic(target, data)
            write_atomic(target.with_suffix(".json"), json.dumps(entry, indent=1).encode())
        return self.get(name)

    def check(self, name: str) -> StoredModel:
        """Load the model once. Compare an added one with the hash that it had when it was added.

        Raises:
            CheckpointError: it cannot be used, and why.
        """
        from fusion_core.checkpoint import load_checkpoint

        model = self.get(name)
        if model.problem:
            raise CheckpointError(f"model {model.name!r} cannot be used: {model.problem}")
        loaded = load_checkpoint(model.path)
        if model.sha256 and loaded.sha256 != model.sha256:
            raise CheckpointError(
                f"{model.path} is not the file that was added: its SHA-256 is {loaded.sha256[:16]}, "
                f"it was {model.sha256[:16]}. Add it again with --overwrite if that is what you want"
            )
        return model

    def use(self, name: str) -> StoredModel:
        """Check the model and put it to use; remember the one before.

        Raises:
            CheckpointError: there is no such model, or it cannot be used.
        """
        model = self.check(name)
        with self._locked():
            state = self._state()
            if state["active"] != model.name:
                state["history"] = [*state["history"], {"name": model.name, "at": _now()}][-_MAX_HISTORY:]
                state["active"] = model.name
                self._save(state)
        return self.get(model.name)

    def rollback(self) -> StoredModel:
        """Put the model to use that was in use before the present one.

        Raises:
            UsageError: nothing was in use before. CheckpointError: that model is gone or cannot be used.
        """
        with self._locked():
            state = self._state()
            if not state["history"]:
                raise UsageError("there is nothing to roll back to: no other model was in use before")
            rest = state["history"][:-1]
            before = str(rest[-1]["name"]) if rest else DEFAULT_MODEL
            self.check(before)
            self._save({**state, "active": before, "history": rest})
        return self.get(before)

    def remove(self, name: str) -> None:
        """Delete an added model.

        Raises:
            UsageError: it is in use, or shipped. CheckpointError: there is none of this name.
        """
        model = self.get(name)
        if model.origin == "shipped":
            raise UsageError(f"{name!r} ships with Lumitherm and cannot be removed")
        if model.in_use:
            raise UsageError(f"{name!r} is in use; use another model first (lumitherm models use NAME)")
        with self._locked():
            model.path.unlink(missing_ok=True)
            model.path.with_suffix(".json").unlink(missing_ok=True)

    # ---- inside

    def _check_name(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name == "store":
            raise UsageError(
                f"{name!r} is no name for a model: letters, digits, '.', '-' and '_', at most 64, not 'store'"
            )
        if name == ACTIVE or name in PRESET_NAMES:
            raise UsageError(f"{name!r} is a reserved name; give the model another one (--name)")

    def _added(self, path: Path, in_use: bool) -> StoredModel:
        size = path.stat().st_size
        try:
            entry = read_json(path.with_suffix(".json"))
            return StoredModel(
                name=path.stem,
                path=path,
                origin="added",
                in_use=in_use,
                size_bytes=size,
                sha256=str(entry["sha256"]),
                source=str(entry["source"]),
                added=str(entry["added"]),
                parameters=int(entry["parameters"]),
                config=dict(entry["config"]),
                facts=dict(entry["facts"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            problem = "it was not added by `lumitherm models add`, or its .json is damaged; add the file again"
            return StoredModel(path.stem, path, "added", in_use, size, problem=problem)

    def _state(self) -> dict[str, Any]:
        path = self.folder / "store.json"
        try:
            state = read_json(path)
        except FileNotFoundError:
            return {"format": _FORMAT, "active": DEFAULT_MODEL, "history": []}
        except (OSError, ValueError) as error:
            raise BadInputError(f"{path} cannot be read ({error}); delete it, the models themselves stay") from error
        good = isinstance(state, dict) and state.get("format") == _FORMAT and isinstance(state.get("active"), str)
        entries = state.get("history") if good else None
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and {"name", "at"} <= e.keys() for e in entries
        ):
            raise BadInputError(f"{path} is damaged or of another version; delete it, the models themselves stay")
        return dict(state)

    def _save(self, state: dict[str, Any]) -> None:
        write_atomic(self.folder / "store.json", json.dumps(state, indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            make_folder(self.folder, ours=True)
            with FileLock(self.folder / ".lock", timeout=_LOCK_TIMEOUT_S):
                yield
        except Timeout as error:
            raise RunError(f"another program holds {self.folder}; try again when it is done") from error
        except OSError as error:
            raise RunError(f"the model store {self.folder} cannot be written: {error}") from error


def shipped_presets() -> tuple[str, ...]:
    """The presets that ship with weights, from the smallest network to the largest."""
    return tuple(name for name, _ in _shipped_files())


def resolve_weights(name_or_path: str | Path) -> Path:
    """Find the weights file behind a name: a preset's shipped weights, a file, or a model of the user's store.

    A preset comes first, then a file that exists, then the store: "active" is the model in use there.

    Raises:
        CheckpointError: the preset ships without weights, or there is no such file or model.
    """
    if isinstance(name_or_path, str) and name_or_path in PRESET_NAMES:
        path = _SHIPPED / f"{name_or_path}{_SUFFIX}"
        if not path.is_file():
            shipped = " or ".join(name for name, _ in _shipped_files()) or "weights of your own"
            raise CheckpointError(
                f"preset {name_or_path!r} is untrained: no weights ship with it. Train it with "
                f"`lumitherm train --set preset={name_or_path}` (a GPU is advised), or use {shipped}"
            )
        return path
    path = Path(name_or_path)
    if path.is_file():
        return path
    if len(path.parts) == 1 and path.suffix != _SUFFIX:
        return ModelStore().check(str(path)).path
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, wanted weights in a plain file; give the {_SUFFIX} file in it")
    raise CheckpointError(
        f"{name_or_path} is neither a preset ({', '.join(PRESET_NAMES)}), a model of the store "
        "(lumitherm models list), nor a weights file that exists"
    )


def _shipped_files() -> list[tuple[str, Path]]:
    files = [(name, _SHIPPED / f"{name}{_SUFFIX}") for name in PRESET_NAMES]
    return [(name, path) for name, path in files if path.is_file()]


def _shipped(name: str, path: Path, in_use: bool) -> StoredModel:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(_MAX_HEADER_BYTES, size - 8):
                raise ValueError("header too long")
            tensors = json.loads(file.read(length))
        header = json.loads(tensors.pop("__metadata__")["lumitherm"])
        return StoredModel(
            name,
            path,
            "shipped",
            in_use,
            size,
            parameters=sum(_count(entry) for key, entry in tensors.items() if "running_" not in key),
            config=dict(header["config"]),
            facts=dict(header["facts"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        return StoredModel(name, path, "shipped", in_use, size, problem=f"damaged ({error}); install Lumitherm again")


def _count(entry: dict[str, Any]) -> int:
    if entry["dtype"] not in ("F16", "F32", "BF16"):
        return 0
    count = 1
    for side in entry["shape"]:
        count *= int(side)
    return count


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
