"""What the window remembers: for all rigs, and for each rig by its name. One file in a place the caller chooses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QByteArray

from app.gui.common.settings_file import SettingsFile
from app.gui.common.theme import Appearance
from app.view.alarms import Alarm, AlarmKind, KeptMark
from app.view.measuring import Mark, MarkKind
from app.view.settings import HEAT_SHARE_MAX, HEAT_SHARE_MIN, Isotherm, IsothermKind, Picture, ViewMode, ViewSettings
from fusion_core.colour import STRENGTH_MAX

__all__ = ["GuiSettings", "RigProfile", "default_recordings_folder", "default_settings_file"]

_RECENT = 8
_MARKED = 32  # recordings whose marks are kept
_POINTS = {MarkKind.SPOT: (1, 1), MarkKind.BOX: (2, 2), MarkKind.LINE: (2, 2), MarkKind.POLYGON: (3, 200)}


@dataclasses.dataclass(frozen=True, slots=True)
class RigProfile:
    """What is remembered of one rig.

    scale: name of a radiometric scale, "" = the rig's default. strength: of thermal in the fused picture, None = as the
    configuration has it. marks: what is measured on its picture.
    """

    view: ViewSettings = dataclasses.field(default_factory=ViewSettings)
    hud: bool = True
    panel: bool = True
    scale: str = ""
    strength: float | None = None
    marks: tuple[KeptMark, ...] = ()


def default_settings_file() -> Path:
    """In the user's folder for configuration of this system."""
    import platformdirs

    return Path(platformdirs.user_config_dir("lumitherm")) / "window.json"


def default_recordings_folder() -> Path:
    """Where the window records unless a configuration says otherwise: in the user's folder for videos."""
    import platformdirs

    return Path(platformdirs.user_videos_dir()) / "Lumitherm"


class GuiSettings:
    """What is read and changed here is on disk a few seconds later, written by a thread; see `SettingsFile`.

    Damaged or foreign values fall back to defaults. GUI thread; nothing waits for the disk but `save`.
    """

    def __init__(self, file: Path) -> None:
        self._store = SettingsFile(file)

    @property
    def file(self) -> Path:
        """Where they are kept."""
        return self._store.file

    # ---- for all rigs

    @property
    def appearance(self) -> Appearance:
        """Light, dark or as the system."""
        try:
            return Appearance(str(self._store.get("appearance", Appearance.SYSTEM.value)))
        except ValueError:
            return Appearance.SYSTEM

    @appearance.setter
    def appearance(self, value: Appearance) -> None:
        self._store.put("appearance", value.value)

    @property
    def language(self) -> str:
        """Code of the language, "" = the system's."""
        return str(self._store.get("language", ""))

    @language.setter
    def language(self, code: str) -> None:
        self._store.put("language", code)

    @property
    def expert(self) -> bool:
        """Whether the expert view is shown; the operator's is the default."""
        return bool(self._store.get("level") == "expert")

    @expert.setter
    def expert(self, expert: bool) -> None:
        self._store.put("level", "expert" if expert else "operator")

    @property
    def geometry(self) -> QByteArray | None:
        """Size and place of the window."""
        value = self._store.get("geometry")
        if not isinstance(value, str) or not value.isascii():
            return None
        return QByteArray.fromBase64(value.encode())

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self._store.put("geometry", value.toBase64().data().decode())

    def shortcuts(self) -> dict[str, str]:
        """Changed shortcuts: action name to key sequence in portable text; "" = none."""
        return {str(k): str(v) for k, v in self._dict("shortcuts").items()}

    def set_shortcuts(self, shortcuts: dict[str, str]) -> None:
        """Remember all changed shortcuts."""
        self._store.put("shortcuts", dict(shortcuts))

    def recent(self, kind: str) -> list[Path]:
        """Files of a kind ("configs", "recordings") opened lately and still there, newest first.

        Any thread; not the GUI's, because it looks for each on its disk, which may be one behind a network.
        """
        return [path for path in self._listed(kind) if path.exists()]

    def add_recent(self, kind: str, file: Path) -> None:
        """Put a file first among the recent ones."""
        first = file.absolute()
        others = [path for path in self._listed(kind) if path != first]
        self._store.put(f"recent/{kind}", [str(path) for path in (first, *others)][:_RECENT])

    def _listed(self, kind: str) -> list[Path]:
        files = self._store.get(f"recent/{kind}")
        return [Path(name) for name in files if isinstance(name, str)] if isinstance(files, list) else []

    # ---- for each rig

    def profile(self, rig: str) -> RigProfile:
        """What is remembered of this rig."""
        return _profile_from(self._dict(f"rig/{rig}"))

    def set_profile(self, rig: str, profile: RigProfile) -> None:
        """Remember this rig."""
        self._store.put(f"rig/{rig}", dataclasses.asdict(profile))

    # ---- for each recording

    def recording_marks(self, file: Path) -> tuple[KeptMark, ...] | None:
        """What was measured in this recording; None = nobody has measured there, or that was long ago."""
        stored = self._dict("marks").get(str(file.absolute()))
        return None if stored is None else _marks_from(stored)

    def set_recording_marks(self, file: Path, marks: tuple[KeptMark, ...]) -> None:
        """Remember what is measured in this recording, in place of that of the one longest ago."""
        others = {key: value for key, value in self._dict("marks").items() if key != str(file.absolute())}
        newest = list(others.items())[-_MARKED + 1 :]
        self._store.put("marks", dict(newest) | {str(file.absolute()): [dataclasses.asdict(each) for each in marks]})

    def save(self, timeout_s: float = 5.0) -> bool:
        """Write to disk now, and wait for it: on a thread of the tasks. Whether everything is there."""
        return self._store.save(timeout_s)

    def _dict(self, key: str) -> dict[str, Any]:
        value = self._store.get(key)
        return value if isinstance(value, dict) else {}


def _profile_from(stored: dict[str, Any]) -> RigProfile:
    view = stored.get("view")
    return RigProfile(
        view=_view_from(view) if isinstance(view, dict) else ViewSettings(),
        hud=bool(stored.get("hud", True)),
        panel=bool(stored.get("panel", True)),
        scale=str(stored.get("scale", "")),
        strength=_strength_from(stored.get("strength")),
        marks=_marks_from(stored.get("marks")),
    )


def _marks_from(stored: object) -> tuple[KeptMark, ...]:
    """Those that can be read."""
    marks = [_mark_from(each) for each in stored[:64]] if isinstance(stored, list | tuple) else []
    return tuple(mark for mark in marks if mark is not None)


def _mark_from(stored: Any) -> KeptMark | None:
    try:
        mark, alarm = stored["mark"], stored.get("alarm")
        kind = MarkKind(mark["kind"])
        points = tuple((float(y), float(x)) for y, x in mark["points"])
        least, most = _POINTS[kind]
        if not least <= len(points) <= most or not all(0.0 <= value <= 1.0 for point in points for value in point):
            return None
        kept = None
        if alarm is not None:
            kept = Alarm(AlarmKind(alarm["kind"]), float(alarm["limit"]), bool(alarm["sound"]), bool(alarm["event"]))
        return KeptMark(Mark(kind, points, str(mark["name"])[:40]), kept, bool(stored["degrees"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _strength_from(stored: object) -> float | None:
    return min(STRENGTH_MAX, max(0.0, float(stored))) if isinstance(stored, int | float) else None


def _view_from(stored: dict[str, Any]) -> ViewSettings:
    values: dict[str, Any] = {}
    kinds = {"mode": ViewMode, "pip_main": Picture, "pip_inset": Picture, "wipe_left": Picture, "wipe_right": Picture}
    try:
        values.update({name: kind(stored[name]) for name, kind in kinds.items() if name in stored})
        for name in ("blend", "wipe_at"):
            if name in stored:
                values[name] = min(1.0, max(0.0, float(stored[name])))
        if "heat_share" in stored:
            values["heat_share"] = min(HEAT_SHARE_MAX, max(HEAT_SHARE_MIN, float(stored["heat_share"])))
        if isinstance(stored.get("heat_from"), int):
            values["heat_from"] = min(65535, max(0, stored["heat_from"]))
        if "heat" in stored:
            values["heat"] = bool(stored["heat"])
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
