"""Every action of the window by name: text, key, icon, group. Shortcuts come from here and can be changed."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt6.QtCore import QT_TRANSLATE_NOOP, QCoreApplication

from app.view_settings import ViewMode

__all__ = ["ACTIONS", "VIEW_ICONS", "ActionSpec", "action_text", "group_text", "shortcut_conflicts", "view_text"]


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One action. held: works while its key is down."""

    name: str
    text: str
    key: str
    icon: str
    group: str
    held: bool = False


_T = QT_TRANSLATE_NOOP

VIEW_ICONS = {
    ViewMode.FUSED: "layers",
    ViewMode.VISIBLE: "eye",
    ViewMode.THERMAL: "thermometer",
    ViewMode.BLEND: "opacity",
    ViewMode.PIP: "picture-in-picture-bottom-right",
    ViewMode.SIDE_BY_SIDE: "view-column",
    ViewMode.QUAD: "view-grid",
    ViewMode.WIPE: "compare",
    ViewMode.EDGES: "vector-polyline",
}
_VIEW_TEXTS = {
    ViewMode.FUSED: _T("Actions", "Fused"),
    ViewMode.VISIBLE: _T("Actions", "Visible"),
    ViewMode.THERMAL: _T("Actions", "Thermal"),
    ViewMode.BLEND: _T("Actions", "Blend"),
    ViewMode.PIP: _T("Actions", "Picture in picture"),
    ViewMode.SIDE_BY_SIDE: _T("Actions", "Side by side"),
    ViewMode.QUAD: _T("Actions", "Quad"),
    ViewMode.WIPE: _T("Actions", "Wipe"),
    ViewMode.EDGES: _T("Actions", "Edges"),
}
_VIEWS, _PICTURE, _RIG = _T("Actions", "Views"), _T("Actions", "Picture"), _T("Actions", "Rig and recording")
_PLAYBACK, _WINDOW = _T("Actions", "Playback"), _T("Actions", "Window")

ACTIONS: tuple[ActionSpec, ...] = (
    *(
        ActionSpec(f"view_{mode}", _VIEW_TEXTS[mode], str(number), VIEW_ICONS[mode], _VIEWS)
        for number, mode in enumerate(ViewMode, start=1)
    ),
    ActionSpec("swap", _T("Actions", "Swap pictures (PiP, wipe)"), "X", "swap-horizontal", _VIEWS),
    ActionSpec("next_view", _T("Actions", "Next view"), "V", "chevron-right", _VIEWS),
    ActionSpec("thermal_share", _T("Actions", "What is thermal here? (hold)"), "T", "fire", _PICTURE, held=True),
    ActionSpec("freeze", _T("Actions", "Freeze picture"), "F", "snowflake", _PICTURE),
    ActionSpec("hud", _T("Actions", "Figures over the picture"), "H", "monitor-eye", _PICTURE),
    ActionSpec("measure", _T("Actions", "Measure spot or box"), "M", "crosshairs", _PICTURE),
    ActionSpec("next_palette", _T("Actions", "Next palette"), "P", "palette", _PICTURE),
    ActionSpec("polarity", _T("Actions", "White-hot / black-hot"), "I", "circle-opacity", _PICTURE),
    ActionSpec("blend_less", _T("Actions", "Less thermal in the blend"), "[", "opacity", _PICTURE),
    ActionSpec("blend_more", _T("Actions", "More thermal in the blend"), "]", "opacity", _PICTURE),
    ActionSpec("zoom_in", _T("Actions", "Zoom in"), "+", "magnify-plus", _PICTURE),
    ActionSpec("zoom_out", _T("Actions", "Zoom out"), "-", "magnify-minus", _PICTURE),
    ActionSpec("fit", _T("Actions", "Fit"), "0", "fit-to-screen", _PICTURE),
    ActionSpec("actual_size", _T("Actions", "1:1"), "Ctrl+0", "image-filter-center-focus", _PICTURE),
    ActionSpec("run", _T("Actions", "Start / stop the rig"), "Ctrl+R", "play", _RIG),
    ActionSpec("record", _T("Actions", "Record"), "R", "record-circle", _RIG),
    ActionSpec("event", _T("Actions", "Mark event"), "E", "flag", _RIG),
    ActionSpec("snapshot", _T("Actions", "Snapshot"), "S", "camera", _RIG),
    ActionSpec("play", _T("Actions", "Play / pause"), "Space", "play", _PLAYBACK),
    ActionSpec("step_back", _T("Actions", "Step back"), ",", "step-backward", _PLAYBACK),
    ActionSpec("step_forward", _T("Actions", "Step forward"), ".", "step-forward", _PLAYBACK),
    ActionSpec("loop", _T("Actions", "Loop"), "L", "repeat", _PLAYBACK),
    ActionSpec("open", _T("Actions", "Open configuration or recording"), "Ctrl+O", "folder-open", _WINDOW),
    ActionSpec("home", _T("Actions", "Start page"), "Ctrl+Home", "home", _WINDOW),
    ActionSpec("panel", _T("Actions", "Control panel"), "C", "dock-right", _WINDOW),
    ActionSpec("full_screen", _T("Actions", "Full screen"), "F11", "fullscreen", _WINDOW),
    ActionSpec("log", _T("Actions", "Log"), "Ctrl+L", "text-box-outline", _WINDOW),
    ActionSpec("settings", _T("Actions", "Settings"), "Ctrl+,", "cog", _WINDOW),
    ActionSpec("help", _T("Actions", "Help"), "F1", "help-circle-outline", _WINDOW),
    ActionSpec("quit", _T("Actions", "Quit"), "Ctrl+Q", "close", _WINDOW),
)


def action_text(spec: ActionSpec) -> str:
    """The action's text in the user's language."""
    return QCoreApplication.translate("Actions", spec.text)


def group_text(group: str) -> str:
    """The group's name in the user's language."""
    return QCoreApplication.translate("Actions", group)


def view_text(mode: ViewMode) -> str:
    """The view's name in the user's language."""
    return QCoreApplication.translate("Actions", _VIEW_TEXTS[mode])


def shortcut_conflicts(shortcuts: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of actions with the same key; `shortcuts` holds the changed ones."""
    seen: dict[str, str] = {}
    conflicts = []
    for spec in ACTIONS:
        key = shortcuts.get(spec.name, spec.key)
        if not key:
            continue
        if key in seen:
            conflicts.append((seen[key], spec.name))
        seen.setdefault(key, spec.name)
    return conflicts
