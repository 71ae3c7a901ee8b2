"""What the window remembers: for all rigs, and for each rig by its name. One INI file in a place the caller chooses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QByteArray, QEvent, QSettings

from app.gui.theme import Appearance
from app.view_settings import Isotherm, IsothermKind, Picture, ViewMode, ViewSettings

__all__ = ["GuiSettings", "RigProfile", "default_settings_file"]

_RECENT = 8


@dataclasses.dataclass(frozen=True, slots=True)
class RigProfile:
    """What is remembered of one rig. scale: name of a radiometric scale, "" = the rig's default."""

    view: ViewSettings = dataclasses.field(default_factory=ViewSettings)
    hud: bool = True
    panel: bool = True
    scale: str = ""


def default_settings_file() -> Path:
    """In the user's folder for configuration of this system."""
    import platformdirs

    return Path(platformdirs.user_config_dir("lumitherm")) / "window.ini"


class _Store(QSettings):
    """Written by `sync` alone: by itself Qt writes after each change, and waits for the disk, on the GUI thread.

    That took up to 2 s while a recording kept the disk busy.
    """

    def event(self, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.UpdateRequest:
            return True
        return super().event(event)


class GuiSettings:
    """Reads the file, and writes it in `save`; damaged or foreign values fall back to defaults. GUI thread."""

    def __init__(self, file: Path) -> None:
        self._store = _Store(str(file), QSettings.Format.IniFormat)

    # ---- for all rigs

    @property
    def appearance(self) -> Appearance:
        """Light, dark or as the system."""
        try:
            return Appearance(str(self._store.value("appearance", Appearance.SYSTEM.value)))
        except ValueError:
            return Appearance.SYSTEM

    @appearance.setter
    def appearance(self, value: Appearance) -> None:
        self._store.setValue("appearance", value.value)

    @property
    def language(self) -> str:
        """Code of the language, "" = the system's."""
        return str(self._store.value("language", ""))

    @language.setter
    def language(self, code: str) -> None:
        self._store.setValue("language", code)

    @property
    def geometry(self) -> QByteArray | None:
        """Size and place of the window."""
        value = self._store.value("geometry")
        return value if isinstance(value, QByteArray) else None

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self._store.setValue("geometry", value)

    def shortcuts(self) -> dict[str, str]:
        """Changed shortcuts: action name to key sequence in portable text; "" = none."""
        return {str(k): str(v) for k, v in self._json("shortcuts").items()}

    def set_shortcuts(self, shortcuts: dict[str, str]) -> None:
        """Remember all changed shortcuts."""
        self._store.setValue("shortcuts", json.dumps(shortcuts))

    def recent(self, kind: str) -> list[Path]:
        """Files of a kind ("configs", "recordings") opened lately and still there, newest first."""
        files = self._json("recent").get(kind, [])
        return [Path(f) for f in files if isinstance(f, str) and Path(f).exists()] if isinstance(files, list) else []

    def add_recent(self, kind: str, file: Path) -> None:
        """Put a file first among the recent ones."""
        everything = self._json("recent")
        before = [str(path) for path in self.recent(kind)]
        shown = str(file.resolve())
        everything[kind] = [shown, *(name for name in before if name != shown)][:_RECENT]
        self._store.setValue("recent", json.dumps(everything))

    # ---- for each rig

    def profile(self, rig: str) -> RigProfile:
        """What is remembered of this rig."""
        stored = self._json("rigs").get(rig)
        return _profile_from(stored) if isinstance(stored, dict) else RigProfile()

    def set_profile(self, rig: str, profile: RigProfile) -> None:
        """Remember this rig."""
        rigs = self._json("rigs")
        rigs[rig] = dataclasses.asdict(profile)
        self._store.setValue("rigs", json.dumps(rigs))

    def save(self) -> None:
        """Write to disk now, and wait for it: when the window closes, not over live video."""
        self._store.sync()

    def _json(self, key: str) -> dict[str, Any]:
        try:
            value = json.loads(str(self._store.value(key, "{}")))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def _profile_from(stored: dict[str, Any]) -> RigProfile:
    view = stored.get("view")
    return RigProfile(
        view=_view_from(view) if isinstance(view, dict) else ViewSettings(),
        hud=bool(stored.get("hud", True)),
        panel=bool(stored.get("panel", True)),
        scale=str(stored.get("scale", "")),
    )


def _view_from(stored: dict[str, Any]) -> ViewSettings:
    values: dict[str, Any] = {}
    kinds = {"mode": ViewMode, "pip_main": Picture, "pip_inset": Picture, "wipe_left": Picture, "wipe_right": Picture}
    try:
        values.update({name: kind(stored[name]) for name, kind in kinds.items() if name in stored})
        for name in ("blend", "wipe_at"):
            if name in stored:
                values[name] = min(1.0, max(0.0, float(stored[name])))
        if "palette" in stored:
            values["palette"] = str(stored["palette"])
        if "black_hot" in stored:
            values["black_hot"] = bool(stored["black_hot"])
        isotherm = stored.get("isotherm")
        if isinstance(isotherm, dict):
            values["isotherm"] = Isotherm(IsothermKind(isotherm["kind"]), int(isotherm["low"]), int(isotherm["high"]))
        return ViewSettings(**values)
    except (ValueError, TypeError, KeyError):
        return ViewSettings()
