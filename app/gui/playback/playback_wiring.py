"""The wires between the playback page and its controller. Shows what the controller says; decides nothing."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QObject, pyqtSignal

from app.gui.common.window_actions import WindowActions
from app.gui.playback.playback_controller import PlaybackController
from app.gui.playback.playback_page import PlaybackPage
from app.playback.player import PlayedFrame
from app.view.settings import Picture

__all__ = ["PlaybackWiring"]


class PlaybackWiring(QObject):
    """Connects both ways, from the constructor on. GUI thread.

    view_changed: ViewSettings of the playback page. full_screen_asked: by a double click.
    """

    view_changed = pyqtSignal(object)
    full_screen_asked = pyqtSignal()

    def __init__(
        self, page: PlaybackPage, control: PlaybackController, actions: WindowActions, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._page, self._control, self._actions, self._icons = page, control, actions.by_name, actions
        video = page.stage.video
        video.panel_names = video.panel_names | {Picture.FUSED: self.tr("A"), Picture.SECOND: self.tr("B")}
        control.frame_ready.connect(self._show_played)
        control.view_changed.connect(video.set_settings)
        control.view_changed.connect(page.view.show_view)
        control.view_changed.connect(self.view_changed)
        control.opened.connect(lambda pairs, length: page.show_opened(control.name, pairs, length))
        control.position_changed.connect(page.show_position)
        control.playing_changed.connect(self._playing_changed)
        control.loop_changed.connect(self._actions["loop"].setChecked)
        control.speed_changed.connect(page.show_speed)
        control.range_changed.connect(page.show_range)
        control.settings_changed.connect(self._settings_changed)
        control.failed.connect(self._failed)
        control.render_changed.connect(self._render_changed)
        page.seek_asked.connect(control.seek)
        page.speed_asked.connect(control.set_speed)
        page.first_chosen.connect(control.set_first)
        page.second_chosen.connect(control.set_second)
        page.second_toggled.connect(control.toggle_second)
        page.range_begin_asked.connect(control.begin_range_here)
        page.range_end_asked.connect(control.end_range_here)
        page.range_chosen.connect(control.set_range)
        page.render_asked.connect(lambda name: control.render(Path(name)))
        page.cancel_asked.connect(control.cancel_render)
        page.view.view_asked.connect(lambda changes: control.set_view(**changes))
        video.wipe_moved.connect(lambda at: control.set_view(wipe_at=at))
        video.pip_tapped.connect(control.swap)
        video.full_screen_asked.connect(self.full_screen_asked)

    def _show_played(self, played: PlayedFrame) -> None:
        video = self._page.stage.video
        video.panel_names[Picture.FUSED] = f"A  {self._control.first.label}"
        if self._control.second is not None:
            video.panel_names[Picture.SECOND] = f"B  {self._control.second.label}"
        video.set_frame(played.frame, played.second)

    def _settings_changed(self, first: object, second: object) -> None:
        self._page.show_settings(self._control.first, self._control.second)
        self._actions["compare"].setChecked(second is not None)

    def _playing_changed(self, playing: bool) -> None:
        self._icons.show_icon("play", "pause" if playing else "play")

    def _failed(self, text: str) -> None:
        self._page.stage.banners.show_notice(text)
        if text and not self._control.is_open:
            self._page.stage.video.set_frame(None)
            self._page.stage.video.set_message(text)

    def _render_changed(self, done: int, total: int, running: bool, text: str) -> None:
        self._page.show_render(done, total, running)
        if text:
            self._page.stage.banners.show_notice(text)
