"""Decides about playback: which pair is shown, how fast, what A and B are. The session's thread does the work."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.gui.common.qt_application import show_in_folder
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.live.model_controller import ModelController
from app.gui.picture.view_controller import ViewController
from app.gui.playback.playback_page import SPEEDS, PlaybackPage
from app.gui.widgets.status_text import preparing_chip
from app.playback.fuser import RECORDED, FuseSettings
from app.playback.player import PlaybackSession, PlayedFrame
from app.playback.render import RenderJob
from app.playback.sources import NumberedPairs, open_source
from app.rig.radiometry import recorded_scale
from app.view.settings import Picture, ViewMode, ViewSettings
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["PlaybackController"]

_TICK_MS = 10
_RENDER_END_S = 30.0


class PlaybackController(ViewController):
    """Owns the session and the render job on behalf of the window. GUI thread.

    frame_ready: PlayedFrame. opened: number of pairs, length in s. failed: text; "" when it is over. render_changed:
    (done, total, running, text).

    Args:
        clock_s: tells the time that playing follows.
    """

    frame_ready = pyqtSignal(object)
    opened = pyqtSignal(int, float)
    failed = pyqtSignal(str)
    render_changed = pyqtSignal(int, int, bool, str)
    closed = pyqtSignal()

    def __init__(
        self,
        page: PlaybackPage,
        actions: WindowActions,
        models: ModelController,
        tasks: TaskRunner,
        clock_s: Callable[[], float] = time.monotonic,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(page.stage.video, page.view, parent)
        self._page, self._tasks = page, tasks
        self.view = ViewSettings(mode=ViewMode.FUSED)
        self._clock_s = clock_s
        self._session: PlaybackSession | None = None
        self._files: tuple[Path, Path | None] | None = None
        self._render: RenderJob | None = None
        self._open_shown = False
        self._shown_error = ""
        self._sequence = 0
        self._tick = QTimer(self)
        self._tick.setInterval(_TICK_MS)
        self._tick.timeout.connect(self.tick)
        self.index = 0
        self.playing = False
        self.loop = False
        self.speed = 1.0
        self.first = FuseSettings()
        self.second: FuseSettings | None = None
        self._last_second: FuseSettings | None = None
        self._play_from: tuple[float, float] = (0.0, 0.0)
        self.range: tuple[int, int] | None = None
        self._before_lock: AgcConfig | None = None
        self._connect(page, actions)
        models.models_changed.connect(page.show_models)
        page.add_model_asked.connect(lambda name: models.add(Path(name)))

    def _connect(self, page: PlaybackPage, actions: WindowActions) -> None:
        self.opened.connect(lambda pairs, length_s: page.show_opened(self.name, pairs, length_s))
        self.failed.connect(self._show_failed)
        self.render_changed.connect(page.show_render)
        page.seek_asked.connect(self.seek)
        page.speed_asked.connect(self.set_speed)
        page.first_chosen.connect(self.set_first)
        page.second_chosen.connect(self.set_second)
        page.second_toggled.connect(self.toggle_second)
        page.range_begin_asked.connect(self.begin_range_here)
        page.range_end_asked.connect(self.end_range_here)
        page.range_chosen.connect(self.set_range)
        page.render_asked.connect(lambda name: self.render(Path(name)))
        page.cancel_asked.connect(self.cancel_render)
        actions.connect("play", lambda: self.set_playing(not self.playing))
        actions.connect("step_back", lambda: self.step(-1))
        actions.connect("step_forward", lambda: self.step(1))
        actions.connect("loop", lambda: self.set_loop(not self.loop))
        actions.connect("slower", lambda: self.change_speed(-1))
        actions.connect("faster", lambda: self.change_speed(1))
        actions.connect("range_begin", self.begin_range_here)
        actions.connect("range_end", self.end_range_here)
        actions.connect("render", page.choose_output)

    # ------------------------------------------------------------------ opening

    @property
    def is_open(self) -> bool:
        """Whether a recording is open."""
        return self._session is not None and self._session.opened

    @property
    def file(self) -> Path | None:
        """The recording or visible video that was asked for last."""
        return self._files[0] if self._files is not None else None

    @property
    def pairs(self) -> int:
        """How many pairs the recording has."""
        return len(self._session.seconds) if self._session is not None else 0

    @property
    def name(self) -> str:
        """The name of the recording that is open."""
        return self._session.name if self._session is not None else ""

    @property
    def rig(self) -> str:
        """The name of the rig that recorded what is open; "" where that is not known."""
        return str(self._session.config.get("rig", "")) if self._session is not None and self.is_open else ""

    def open_files(self, path: Path, thermal: Path | None = None) -> None:
        """Open a recording, or two videos. `opened` or `failed` follows."""
        self.close()
        self._files = (path, thermal)
        self.first = FuseSettings(RECORDED if thermal is None else "auto", strength=self.strength)
        self.second = None
        self.index, self.range = 0, None
        self._open_shown, self._shown_error, self._sequence = False, "", 0
        self._session = PlaybackSession(lambda: open_source(path, thermal), self.first, self.second)
        self._session.show(0)
        self._page.show_settings(self.first, self.second)
        self._tick.start()

    def close(self) -> None:
        """Close what is open; `closed` follows when its threads and files are closed."""
        self.set_playing(False)
        self.cancel_render()
        self._tick.stop()
        session, self._session = self._session, None
        self.frame = None
        job, self._render = self._render, None
        if session is None and job is None:
            return

        def work() -> None:
            if session is not None:
                session.close()
            if job is not None:
                job.wait(_RENDER_END_S)

        self._tasks.run(work, lambda _: self.closed.emit(), lane=Lane.FILES)

    # ------------------------------------------------------------------ moving

    def seek(self, index: int) -> None:
        """Go to a pair."""
        if self._session is None or not self.is_open:
            return
        self.index = min(max(0, index), self.pairs - 1)
        self._restart_clock()
        self._session.show(self.index)
        self._page.show_position(self.index, self._session.seconds[self.index])

    def step(self, pairs: int) -> None:
        """Go some pairs forwards or backwards; stops playing."""
        self.set_playing(False)
        self.seek(self.index + pairs)

    def set_playing(self, playing: bool) -> None:
        """Play or pause; at the end it begins again."""
        if playing == self.playing or (playing and not self.is_open):
            return
        if playing and self.index >= self._last():
            self.seek(self._first())
        self.playing = playing
        self._restart_clock()
        self._page.show_playing(playing)

    def set_speed(self, speed: float) -> None:
        """Play this many times as fast as it was recorded, 0.25 to 4."""
        self.speed = speed
        self._restart_clock()
        self._page.show_speed(speed)

    def change_speed(self, steps: int) -> None:
        """Choose the next faster (positive) or slower speed."""
        here = min(range(len(SPEEDS)), key=lambda number: abs(SPEEDS[number] - self.speed))
        self.set_speed(SPEEDS[min(len(SPEEDS) - 1, max(0, here + steps))])

    def set_loop(self, loop: bool) -> None:
        """Begin again at the end, or stop there."""
        if loop != self.loop:
            self.loop = loop
            self._page.show_loop(loop)

    def set_range(self, first: int, last: int) -> None:
        """Loop and render the pairs first..last, both included."""
        if self.pairs:
            first = min(max(0, first), self.pairs - 1)
            self.range = (first, min(max(first, last), self.pairs - 1))
            self._page.show_range(*self.range)

    def begin_range_here(self) -> None:
        """Begin the range at the pair that is shown."""
        self.set_range(self.index, max(self.index, self._last()))

    def end_range_here(self) -> None:
        """End the range at the pair that is shown."""
        self.set_range(min(self.index, self._first()), self.index)

    def _first(self) -> int:
        return self.range[0] if self.range is not None else 0

    def _last(self) -> int:
        return self.range[1] if self.range is not None else self.pairs - 1

    def _restart_clock(self) -> None:
        if self._session is not None and self._session.seconds:
            self._play_from = (self._clock_s(), self._session.seconds[self.index])

    # ------------------------------------------------------------------ A and B

    def set_first(self, settings: FuseSettings) -> None:
        """Fuse A by these settings."""
        self._use(settings, self.second)

    def set_second(self, settings: FuseSettings | None) -> None:
        """Fuse B by these settings; None takes B away. With a B the view becomes a wipe between the two."""
        self._use(self.first, settings)
        if settings is not None:
            self.set_view(mode=ViewMode.WIPE, wipe_left=Picture.FUSED, wipe_right=Picture.SECOND)
        elif self.view.wipe_right is Picture.SECOND:
            self.set_view(mode=ViewMode.FUSED, wipe_left=Picture.VISIBLE, wipe_right=Picture.FUSED)

    @property
    def locked(self) -> bool:
        """Whether the span of A's levels is held."""
        return self.first.agc.mode is AgcMode.MANUAL

    def set_span(self, low: int, high: int) -> None:
        """Map these counts in A; `lock_span` goes back to the automatic mode from before."""
        if not self.locked:
            self._before_lock = self.first.agc
        span = {"mode": AgcMode.MANUAL, "manual_low": low, "manual_high": high}
        self.set_first(replace(self.first, agc=self.first.agc.model_copy(update=span)))

    def lock_span(self) -> None:
        """Hold the span of A that is mapped now; once more: automatic as before."""
        if self.locked:
            self.set_first(replace(self.first, agc=self._before_lock or AgcConfig()))
        elif self.frame is not None and self.frame.agc_limits is not None:
            low, high = (round(end) for end in self.frame.agc_limits)
            self.set_span(min(65534, max(0, low)), min(65535, max(low + 1, high)))

    def toggle_second(self) -> None:
        """Compare with a B, or end that."""
        if self.second is not None:
            self.set_second(None)
        else:
            self.set_second(self._last_second or _other_than(self.first))

    def _use(self, first: FuseSettings, second: FuseSettings | None) -> None:
        if second is not None and replace(second, strength=first.strength) == first:
            second = _other_than(first)
            told = self.tr("A and B would be the same; B is fused by {0}").format(second.label)
            self._page.stage.banners.show_notice(told)
        self.first = replace(first, strength=self.strength)
        self.second = None if second is None else replace(second, strength=self.strength)
        self._last_second = self.second or self._last_second
        if self._session is not None:
            self._session.set_settings(self.first, self.second)
            self._session.show(self.index)
        self._page.show_settings(self.first, self.second)

    def set_strength(self, strength: float) -> None:
        """Take more or less of thermal into A and B, also into what is rendered."""
        super().set_strength(strength)
        self._use(self.first, self.second)

    # ------------------------------------------------------------------ rendering

    def render(self, output: Path) -> None:
        """Fuse the range (or all) by A's settings into a file."""
        if self._files is None or not self.is_open or (self._render is not None and self._render.running):
            return
        path, thermal = self._files
        self._render = RenderJob(
            lambda: open_source(path, thermal), replace(self.first), self._first(), self._last() + 1, output
        )
        self._show_render()

    def take_snapshot(self) -> None:
        """Save the pair that is shown beside the recording: fused and visible PNG, thermal TIFF, JSON."""
        frame, file, session = self.frame, self.file, self._session
        if frame is None or file is None or session is None:
            return
        facts = {"recording": str(file), "pair": self.index, "seconds": session.seconds[self.index]}
        facts["fused_by"] = self.first.label
        folder = file.parent / "snapshots"

        def save() -> Path:
            from app.media.snapshot import save_snapshot  # brings codecs along, which a window need not wait for

            return save_snapshot(frame, folder, facts)

        def saved(path: Path) -> None:
            offers = [(self.tr("Show in folder"), lambda: show_in_folder(path))]
            self._page.stage.banners.show_notice(self.tr("Snapshot saved: {0}").format(path), offers)

        self._tasks.run(save, saved, lambda error: self.failed.emit(str(error)), Lane.FILES)

    @property
    def opener(self) -> Callable[[], NumberedPairs] | None:
        """Opens what is open once more, for a job beside the player; None while nothing is open."""
        if self._files is None or not self.is_open:
            return None
        path, thermal = self._files
        return lambda: open_source(path, thermal)

    def cancel_render(self) -> None:
        """End rendering; the part that is written plays."""
        if self._render is not None:
            self._render.cancel()

    def _show_render(self) -> None:
        job = self._render
        if job is None:
            return
        if job.running:
            self.render_changed.emit(job.done, job.total, True, "")
            return
        self._render = None
        text = self.tr("Rendered {0} pairs to {1}").format(job.done, job.output)
        if job.error:
            text = job.error
        elif job.cancelled:
            text = self.tr("Cancelled: the first {0} pairs are in {1}").format(job.done, job.output)
        self.render_changed.emit(job.done, job.total, False, text)

    # ------------------------------------------------------------------ the clock

    def tick(self) -> None:
        """Pull what is finished and, while playing, ask for what is due; called by timer."""
        session = self._session
        if session is None:
            return
        self._show_render()
        error = session.error
        if error != self._shown_error:
            self._shown_error = error
            self.failed.emit(error)
        if not session.opened:
            return
        if not self._open_shown:
            self._open_shown = True
            self.set_scale(recorded_scale(session.config))
            self.opened.emit(self.pairs, session.seconds[-1])
            self._page.show_position(self.index, session.seconds[self.index])
        building = session.building
        self.video.set_chips([preparing_chip(*building)] if building is not None else [])
        newer = session.latest.get_newer(self._sequence)
        if newer is not None:
            self._sequence, played = newer
            self._show_played(played)
            self.frame_ready.emit(played)
        if self.playing:
            self._advance(session)

    def _show_played(self, played: PlayedFrame) -> None:
        self.frame = played.frame
        self._page.show_labels(self.first, self.second)
        self.video.set_frame(played.frame, played.second)

    def _show_failed(self, text: str) -> None:
        self._page.stage.banners.show_notice(text)
        if text and not self.is_open:
            self.video.set_frame(None)
            self.video.set_message(text)

    def _advance(self, session: PlaybackSession) -> None:
        began, origin = self._play_from
        due = origin + (self._clock_s() - began) * self.speed
        index = max(0, bisect_right(session.seconds, due) - 1)
        if index >= self._last():
            if due > session.seconds[self._last()] + 0.03:
                self._at_end()
                return
            index = self._last()
        if index != self.index and not session.busy:
            self.index = index
            session.show(index)
            self._page.show_position(index, session.seconds[index])

    def _at_end(self) -> None:
        if self.loop:
            self.seek(self._first())
        else:
            self.seek(self._last())
            self.set_playing(False)


def _other_than(first: FuseSettings) -> FuseSettings:
    """Choose what to compare with until the user does."""
    plain = {"auto": "pyramid", RECORDED: "pyramid", "pyramid": "average"}
    return FuseSettings(plain.get(first.engine, "pyramid"), agc=first.agc)
