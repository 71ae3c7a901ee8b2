"""Every action of the window by name: text, key, icon, group. Shortcuts come from here and can be changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from PyQt6.QtCore import QT_TRANSLATE_NOOP, QCoreApplication

from app.view.settings import ViewMode

__all__ = [
    "ACTIONS",
    "VIEW_ICONS",
    "ActionSpec",
    "PageKind",
    "action_text",
    "group_text",
    "shortcut_conflicts",
    "view_text",
]


class PageKind(StrEnum):
    """What the window shows, as far as actions care."""

    LIVE = "live"
    PLAYBACK = "playback"
    OTHER = "other"  # start page and assistants


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One action. held: works while its key is down. pages: where it can be used. expert: not for operators."""

    name: str
    text: str
    key: str
    icon: str
    group: str
    held: bool = False
    pages: frozenset[PageKind] | None = None
    expert: bool = False

    def works_on(self, page: PageKind) -> bool:
        """Whether it can be used there."""
        return page in (self.pages if self.pages is not None else _PAGES[self.group])


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
    ViewMode.FUSED: QT_TRANSLATE_NOOP("Actions", "Fused"),
    ViewMode.VISIBLE: QT_TRANSLATE_NOOP("Actions", "Visible"),
    ViewMode.THERMAL: QT_TRANSLATE_NOOP("Actions", "Thermal"),
    ViewMode.BLEND: QT_TRANSLATE_NOOP("Actions", "Blend"),
    ViewMode.PIP: QT_TRANSLATE_NOOP("Actions", "Picture in picture"),
    ViewMode.SIDE_BY_SIDE: QT_TRANSLATE_NOOP("Actions", "Side by side"),
    ViewMode.QUAD: QT_TRANSLATE_NOOP("Actions", "Quad"),
    ViewMode.WIPE: QT_TRANSLATE_NOOP("Actions", "Wipe"),
    ViewMode.EDGES: QT_TRANSLATE_NOOP("Actions", "Edges"),
}
_VIEWS, _PICTURE, _RIG = (
    QT_TRANSLATE_NOOP("Actions", "Views"),
    QT_TRANSLATE_NOOP("Actions", "Picture"),
    QT_TRANSLATE_NOOP("Actions", "Rig and recording"),
)
_PLAYBACK, _WINDOW = QT_TRANSLATE_NOOP("Actions", "Playback"), QT_TRANSLATE_NOOP("Actions", "Window")
_LIVE, _PICTURES = frozenset({PageKind.LIVE}), frozenset({PageKind.LIVE, PageKind.PLAYBACK})
_PAGES = {
    _VIEWS: _PICTURES,
    _PICTURE: _PICTURES,
    _RIG: _LIVE,
    _PLAYBACK: frozenset({PageKind.PLAYBACK}),
    _WINDOW: frozenset(PageKind),
}

ACTIONS: tuple[ActionSpec, ...] = (
    *(
        ActionSpec(f"view_{mode}", _VIEW_TEXTS[mode], str(number), VIEW_ICONS[mode], _VIEWS)
        for number, mode in enumerate(ViewMode, start=1)
    ),
    ActionSpec("swap", QT_TRANSLATE_NOOP("Actions", "Swap pictures (PiP, wipe)"), "X", "swap-horizontal", _VIEWS),
    ActionSpec("next_view", QT_TRANSLATE_NOOP("Actions", "Next view"), "V", "chevron-right", _VIEWS),
    ActionSpec(
        "thermal_share", QT_TRANSLATE_NOOP("Actions", "What is thermal here? (hold)"), "T", "fire", _PICTURE, held=True
    ),
    ActionSpec("heat", QT_TRANSLATE_NOOP("Actions", "Show heat"), "H", "fire", _PICTURE),
    ActionSpec("freeze", QT_TRANSLATE_NOOP("Actions", "Freeze picture"), "F", "snowflake", _PICTURE, pages=_LIVE),
    ActionSpec(
        "hud",
        QT_TRANSLATE_NOOP("Actions", "Figures over the picture"),
        "D",
        "monitor-eye",
        _PICTURE,
        pages=_LIVE,
        expert=True,
    ),
    ActionSpec("measure", QT_TRANSLATE_NOOP("Actions", "Measure spot or box"), "M", "crosshairs", _PICTURE),
    ActionSpec(
        "remove_mark", QT_TRANSLATE_NOOP("Actions", "Remove the chosen mark"), "Del", "delete-outline", _PICTURE
    ),
    ActionSpec("next_palette", QT_TRANSLATE_NOOP("Actions", "Next palette"), "P", "palette", _PICTURE),
    ActionSpec("polarity", QT_TRANSLATE_NOOP("Actions", "White-hot / black-hot"), "I", "circle-opacity", _PICTURE),
    ActionSpec("blend_less", QT_TRANSLATE_NOOP("Actions", "Less thermal in the blend"), "[", "opacity", _PICTURE),
    ActionSpec("blend_more", QT_TRANSLATE_NOOP("Actions", "More thermal in the blend"), "]", "opacity", _PICTURE),
    ActionSpec("zoom_in", QT_TRANSLATE_NOOP("Actions", "Zoom in"), "+", "magnify-plus", _PICTURE),
    ActionSpec("zoom_out", QT_TRANSLATE_NOOP("Actions", "Zoom out"), "-", "magnify-minus", _PICTURE),
    ActionSpec("fit", QT_TRANSLATE_NOOP("Actions", "Fit"), "0", "fit-to-screen", _PICTURE),
    ActionSpec("actual_size", QT_TRANSLATE_NOOP("Actions", "1:1"), "Ctrl+0", "image-filter-center-focus", _PICTURE),
    ActionSpec(
        "next_isotherm",
        QT_TRANSLATE_NOOP("Actions", "Isotherm: off, above, below, between"),
        "O",
        "chart-bell-curve",
        _PICTURE,
    ),
    ActionSpec("compare", QT_TRANSLATE_NOOP("Actions", "Compare A and B"), "B", "ab-testing", _PICTURE, expert=True),
    ActionSpec("run", QT_TRANSLATE_NOOP("Actions", "Start / stop the rig"), "Ctrl+R", "play", _RIG),
    ActionSpec("record", QT_TRANSLATE_NOOP("Actions", "Record"), "R", "record-circle", _RIG),
    ActionSpec("event", QT_TRANSLATE_NOOP("Actions", "Mark event"), "E", "flag", _RIG),
    ActionSpec("snapshot", QT_TRANSLATE_NOOP("Actions", "Snapshot"), "S", "camera", _RIG, pages=_PICTURES),
    ActionSpec("lock_span", QT_TRANSLATE_NOOP("Actions", "Hold the colours / let them follow"), "K", "lock", _RIG),
    ActionSpec("next_agc", QT_TRANSLATE_NOOP("Actions", "Next AGC mode"), "A", "tune", _RIG, expert=True),
    ActionSpec(
        "roll_back", QT_TRANSLATE_NOOP("Actions", "Roll back the model"), "Ctrl+B", "backup-restore", _RIG, expert=True
    ),
    ActionSpec("calibrate", QT_TRANSLATE_NOOP("Actions", "Calibrate the rig"), "Ctrl+K", "grid", _RIG),
    ActionSpec("timing", QT_TRANSLATE_NOOP("Actions", "Timing plot"), "G", "chart-line", _RIG, expert=True),
    ActionSpec("play", QT_TRANSLATE_NOOP("Actions", "Play / pause"), "Space", "play", _PLAYBACK),
    ActionSpec("step_back", QT_TRANSLATE_NOOP("Actions", "Step back"), ",", "step-backward", _PLAYBACK),
    ActionSpec("step_forward", QT_TRANSLATE_NOOP("Actions", "Step forward"), ".", "step-forward", _PLAYBACK),
    ActionSpec("loop", QT_TRANSLATE_NOOP("Actions", "Loop"), "L", "repeat", _PLAYBACK),
    ActionSpec("slower", QT_TRANSLATE_NOOP("Actions", "Slower"), "<", "rewind", _PLAYBACK),
    ActionSpec("faster", QT_TRANSLATE_NOOP("Actions", "Faster"), ">", "fast-forward", _PLAYBACK),
    ActionSpec("range_begin", QT_TRANSLATE_NOOP("Actions", "Range begins here"), "Ctrl+[", "ray-start", _PLAYBACK),
    ActionSpec("range_end", QT_TRANSLATE_NOOP("Actions", "Range ends here"), "Ctrl+]", "ray-end", _PLAYBACK),
    ActionSpec("over_time", QT_TRANSLATE_NOOP("Actions", "Temperature over time"), "Y", "chart-line", _PLAYBACK),
    ActionSpec("render", QT_TRANSLATE_NOOP("Actions", "Render the range to a file"), "Ctrl+E", "export", _PLAYBACK),
    ActionSpec(
        "open", QT_TRANSLATE_NOOP("Actions", "Open configuration or recording"), "Ctrl+O", "folder-open", _WINDOW
    ),
    ActionSpec("home", QT_TRANSLATE_NOOP("Actions", "Start page"), "Ctrl+Home", "home", _WINDOW),
    ActionSpec("expert", QT_TRANSLATE_NOOP("Actions", "Expert view"), "Ctrl+M", "tune", _WINDOW),
    ActionSpec("panel", QT_TRANSLATE_NOOP("Actions", "Control panel"), "C", "dock-right", _WINDOW, expert=True),
    ActionSpec("full_screen", QT_TRANSLATE_NOOP("Actions", "Full screen"), "F11", "fullscreen", _WINDOW),
    ActionSpec("log", QT_TRANSLATE_NOOP("Actions", "Log"), "Ctrl+L", "text-box-outline", _WINDOW),
    ActionSpec("settings", QT_TRANSLATE_NOOP("Actions", "Settings"), "Ctrl+,", "cog", _WINDOW),
    ActionSpec("help", QT_TRANSLATE_NOOP("Actions", "Help"), "F1", "help-circle-outline", _WINDOW),
    ActionSpec("quit", QT_TRANSLATE_NOOP("Actions", "Quit"), "Ctrl+Q", "close", _WINDOW),
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
