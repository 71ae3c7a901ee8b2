"""The surface that shows the pictures: paints the newest frame, zooms and pans all panels in step.

It holds one frame at most: a newer one takes the place of one that was not drawn yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QEvent, QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QFont,
    QKeyEvent,
    QMouseEvent,
    QNativeGestureEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPointingDevice,
    QWheelEvent,
)
from PyQt6.QtWidgets import QSizePolicy, QWidget

from app.gui.common.qt_image import bgra_image, image_pixels
from app.gui.picture.hud import HudPainter, draw_chips, draw_pill
from app.gui.picture.mark_painter import (
    MarkDrawing,
    MarkGrip,
    MarkTool,
    ShownMark,
    ToView,
    draw_extremes,
    draw_marks,
    grip_at,
)
from app.gui.widgets.status_text import Chip, Figure, frame_chips
from app.view.composer import ViewComposer
from app.view.measuring import Mark, Place
from app.view.settings import Panel, Picture, ViewMode, Viewport, ViewSettings, panels_of, picture_rect, to_picture
from fusion_core.frames import FusedFrame

__all__ = ["VideoView"]

_GRIP_PX = 14  # how near the pointer must be to take the divider
_REACH_PX, _TOUCH_REACH_PX = 12.0, 22.0  # how near to a mark, by mouse and by finger
_TAP_PX = 6  # a press that moves less is a tap
_KEY_STEP = 0.02
_HOLD_NS = 700_000_000  # the mark of a picture of one camera


class VideoView(QWidget):
    """Shows frames; asks for changes by signals. GUI thread.

    presented: ms that painting took. wipe_moved: 0..1. pip_tapped: swap big and small. mark_drawn: a Mark without a
    name. mark_taken: its number. mark_dragged: (number, Mark, whether it was let go). viewport_changed: zoom or pan.
    stirred: the pointer or a finger has moved over it.
    """

    presented = pyqtSignal(float)
    wipe_moved = pyqtSignal(float)
    pip_tapped = pyqtSignal()
    mark_drawn = pyqtSignal(object)
    mark_taken = pyqtSignal(int)
    mark_dragged = pyqtSignal(int, object, bool)
    stirred = pyqtSignal()
    viewport_changed = pyqtSignal(object)
    full_screen_asked = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 120)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName(self.tr("Video"))
        self.setAccessibleDescription(self.tr("Live or recorded picture; wheel zooms, dragging pans"))
        self.panel_names: dict[Picture, str] = {
            Picture.FUSED: self.tr("fused"),
            Picture.VISIBLE: self.tr("visible"),
            Picture.THERMAL: self.tr("thermal"),
            Picture.BLEND: self.tr("blend"),
            Picture.EDGES: self.tr("edges"),
            Picture.SECOND: self.tr("B"),
        }
        self._composer = ViewComposer()
        self._hud = HudPainter()
        self._figures: Sequence[Figure] = ()
        self._frame: FusedFrame | None = None
        self._second: npt.NDArray[np.uint8] | None = None
        self._settings = ViewSettings()
        self._viewport = Viewport()
        self._message = ""
        self._chips: tuple[Chip, ...] = ()
        self.right_margin_px = 0
        """Covered by what stands beside the picture: texts keep out of it."""
        self._alarms: tuple[Chip, ...] = ()
        self._single: tuple[int, tuple[Chip, ...]] = (0, ())  # when a picture was of one camera, and what was said
        self._marks: tuple[ShownMark, ...] = ()
        self._extremes: tuple[Place | None, Place | None] = (None, None)
        self._drawing = MarkDrawing()
        self._dragged: Mark | None = None
        self._capture: Callable[[npt.NDArray[np.uint8]], None] | None = None
        self._drag: tuple[str, QPointF, Viewport] | None = None
        self._grip: tuple[MarkGrip, Panel] | None = None
        self._moved = False

    # ------------------------------------------------------------------ what to show

    def set_frame(self, frame: FusedFrame | None, second: npt.NDArray[np.uint8] | None = None) -> None:
        """Show this frame; `second` is the same pair by other settings, for Picture.SECOND."""
        if frame is not None and (chips := frame_chips(frame)):
            self._single = (frame.pair.timestamp_ns, tuple(chips))
        self._frame, self._second = frame, second
        self.update()

    def set_settings(self, settings: ViewSettings) -> None:
        """Show it this way; takes effect with the next painting, one frame at most."""
        self._settings = settings
        self.update()

    def set_viewport(self, viewport: Viewport) -> None:
        """Zoom and pan."""
        if viewport != self._viewport:
            self._viewport = viewport
            self.viewport_changed.emit(viewport)
            self.update()

    def set_figures(self, figures: Sequence[Figure]) -> None:
        """Lines of the head-up display; none hides it."""
        if tuple(figures) != tuple(self._figures):
            self._figures = figures
            self.update()

    def set_message(self, text: str) -> None:
        """Text in the middle while there is no picture."""
        self._message = text
        self.update()

    def set_chips(self, chips: Sequence[Chip]) -> None:
        """States of the rig, large in the upper right corner; those of the picture shown are added to them."""
        if tuple(chips) != self._chips:
            self._chips = tuple(chips)
            self.update()

    @property
    def chips(self) -> tuple[Chip, ...]:
        """What is written large on the picture: the rig's states and those of the picture shown."""
        return (*self._chips, *self._alarms, *self._single_chips())

    def _single_chips(self) -> Sequence[Chip]:
        """Which camera alone gave the picture; a moment longer, since one picture is too short to be read."""
        frame = self._frame
        if frame is None:
            return ()
        at_ns, chips = self._single
        return frame_chips(frame) or (chips if abs(frame.pair.timestamp_ns - at_ns) < _HOLD_NS else ())

    def set_alarms(self, chips: Sequence[Chip]) -> None:
        """Alarms of what is measured, below the states of the rig."""
        if tuple(chips) != self._alarms:
            self._alarms = tuple(chips)
            self.update()

    @property
    def marks(self) -> tuple[ShownMark, ...]:
        """What is measured on the picture, as it is shown."""
        return self._marks

    def set_marks(self, marks: Sequence[ShownMark], hottest: Place | None = None, coldest: Place | None = None) -> None:
        """Show what is measured, and the hottest and coldest place of the picture."""
        if (tuple(marks), (hottest, coldest)) != (self._marks, self._extremes):
            self._marks, self._extremes = tuple(marks), (hottest, coldest)
            self.update()

    def set_capture(self, take: Callable[[npt.NDArray[np.uint8]], None] | None) -> None:
        """Hand each painted view, (H, W, 4) uint8 BGRA, to `take` too; None ends it."""
        self._capture = take

    @property
    def tool(self) -> MarkTool | None:
        """What taps and drags measure; None = they pan."""
        return self._drawing.tool

    def set_tool(self, tool: MarkTool | None) -> None:
        """While there is a tool, taps and drags draw marks, in place of panning."""
        self._drawing.use(tool)
        self.setCursor(Qt.CursorShape.CrossCursor if tool is not None else Qt.CursorShape.ArrowCursor)
        self.update()

    def fit(self) -> None:
        """Whole picture."""
        self.set_viewport(Viewport())

    def actual_size(self) -> None:
        """One camera pixel a screen pixel."""
        panel = self._main_panel()
        if panel is None or self._frame is None:
            return
        height, width = self._frame.pixels.shape[:2]
        fit = min(panel.area.height / height, panel.area.width / width)
        self.set_viewport(Viewport(max(1.0, 1.0 / fit), 0.5, 0.5).clamped())

    def zoom_by(self, factor: float) -> None:
        """Zoom about the middle."""
        self.set_viewport(self._viewport.zoomed(factor, self._viewport.center_y, self._viewport.center_x))

    @property
    def has_second(self) -> bool:
        """Whether the picture shown comes with a B."""
        return self._second is not None

    @property
    def viewport(self) -> Viewport:
        """Zoom and pan now."""
        return self._viewport

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent | None) -> None:
        began = time.perf_counter()
        ratio = self.devicePixelRatioF()
        height, width = self._device_size()
        pixels = self._composer.compose(self._frame, self._settings, self._viewport, height, width, self._second)
        image = bgra_image(pixels, ratio)
        if self._capture is not None:  # painted into the picture, so that it can be recorded as it is seen
            inner = QPainter(image)
            self._paint_on_top(inner, ratio)
            inner.end()
            self._capture(image_pixels(image))
        painter = QPainter(self)
        painter.drawImage(0, 0, image)
        if self._capture is None:
            self._paint_on_top(painter, ratio)
        painter.end()
        if self._frame is not None:
            self.presented.emit((time.perf_counter() - began) * 1e3)

    def _paint_on_top(self, painter: QPainter, ratio: float) -> None:
        if self._frame is None:
            self._paint_message(painter)
        else:
            self._paint_over(painter, ratio)
        self._hud.draw(painter, self._figures, 12, 12, ratio, self.height())
        if chips := self.chips:
            draw_chips(painter, chips, self.width(), self.height())

    def _paint_message(self, painter: QPainter) -> None:
        font = QFont(self.font())
        font.setPixelSize(20)
        painter.setFont(font)
        painter.setPen(QColor(190, 198, 210))
        painter.drawText(QRectF(self.rect()), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._message)

    def _paint_over(self, painter: QPainter, ratio: float) -> None:
        for panel in self._panels():
            if panel.title and panel.clip.width > 60:
                self._paint_title(painter, panel, ratio)
        if self._settings.mode is ViewMode.WIPE:
            x = self._settings.wipe_at * self.width()
            painter.setPen(QPen(QColor(255, 255, 255, 230), 2))
            painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setBrush(QColor("#45a4ff"))
            painter.drawEllipse(QPointF(x, self.height() / 2), 11, 11)
        self._paint_marks(painter, ratio)

    def _paint_title(self, painter: QPainter, panel: Panel, ratio: float) -> None:
        name = self.panel_names[panel.picture]
        height, width = self._frame.pixels.shape[:2] if self._frame is not None else (1, 1)
        top, first, scale = picture_rect(panel.area, self._viewport, height, width)
        bottom = min(panel.clip.top + panel.clip.height, top + height * scale) / ratio - 32
        left = max(panel.clip.left, first) / ratio + 8
        if self._settings.mode is ViewMode.WIPE and panel.clip.left > 0:
            left = (panel.clip.left + panel.clip.width) / ratio - 9.5 * len(name) - 28
        draw_pill(painter, name, left, bottom)

    def _paint_marks(self, painter: QPainter, ratio: float) -> None:
        if not self._marks and self._drawing.tool is None and self._extremes == (None, None):
            return
        for number, panel in enumerate(self._panels()):
            clip = panel.clip
            painter.save()
            painter.setClipRect(QRectF(clip.left / ratio, clip.top / ratio, clip.width / ratio, clip.height / ratio))
            to_view = self._to_view(panel)
            room = self.width() - self.right_margin_px
            draw_marks(painter, self._marks, to_view, self.height(), room, texts=number == 0)
            draw_extremes(painter, *self._extremes, to_view)
            self._drawing.draw(painter, to_view, self._dragged)
            painter.restore()

    def _to_view(self, panel: Panel) -> ToView:
        """How places of the picture are carried over to the view in this panel."""
        height, width = self._frame.pixels.shape[:2] if self._frame is not None else (1, 1)
        top, left, scale = picture_rect(panel.area, self._viewport, height, width)
        ratio = self.devicePixelRatioF()
        return lambda place: QPointF(
            (left + place[1] * width * scale) / ratio, (top + place[0] * height * scale) / ratio
        )

    def _place_in(self, panel: Panel, where: QPointF) -> Place:
        """The place of the picture under a point of the view; outside 0..1 beside the picture."""
        height, width = self._frame.pixels.shape[:2] if self._frame is not None else (1, 1)
        top, left, scale = picture_rect(panel.area, self._viewport, height, width)
        ratio = self.devicePixelRatioF()
        return (where.y() * ratio - top) / (height * scale), (where.x() * ratio - left) / (width * scale)

    # ------------------------------------------------------------------ mouse and keys

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is None or self._frame is None:
            return
        self._zoom_at(event.position(), 1.0015 ** event.angleDelta().y())
        event.accept()

    def event(self, event: QEvent | None) -> bool:
        if isinstance(event, QNativeGestureEvent) and event.gestureType() is Qt.NativeGestureType.ZoomNativeGesture:
            self._zoom_at(event.position(), 1.0 + event.value())
            return True
        return super().event(event)

    def _zoom_at(self, where: QPointF, factor: float) -> None:
        point = self._picture_point(where)
        y, x = point if point is not None else (self._viewport.center_y, self._viewport.center_x)
        self.set_viewport(self._viewport.zoomed(factor, y, x))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        if event is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        kind = "pan"
        if self._settings.mode is ViewMode.WIPE and self._near_divider(event.position()):
            kind = "wipe"
        elif (grip := self._grip_at(event)) is not None:
            kind, self._grip = "mark", grip
            self.mark_taken.emit(grip[0].number)
        elif self._drawing.tool is not None:
            kind = "measure"
        self._drag, self._moved = (kind, event.position(), self._viewport), False

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        if event is None:
            return
        self.stirred.emit()
        if self._drag is None:
            near = self._settings.mode is ViewMode.WIPE and self._near_divider(event.position())
            free = Qt.CursorShape.CrossCursor if self._drawing.tool is not None else Qt.CursorShape.ArrowCursor
            if self._grip_at(event) is not None:
                free = Qt.CursorShape.SizeAllCursor
            self.setCursor(Qt.CursorShape.SplitHCursor if near else free)
            return
        kind, start, viewport = self._drag
        distance = event.position() - start
        self._moved = self._moved or distance.manhattanLength() > _TAP_PX
        panel = self._main_panel()
        if kind == "wipe":
            self.wipe_moved.emit(min(1.0, max(0.0, event.position().x() / max(1, self.width()))))
        elif kind == "mark" and self._moved:
            self._drag_mark(event.position(), False)
        elif kind == "measure" and self._moved:
            self._dragged = self._mark_between(start, event.position())
            self.update()
        elif kind == "pan" and self._moved and panel is not None and self._frame is not None:
            height, width = self._frame.pixels.shape[:2]
            scale = picture_rect(panel.area, viewport, height, width)[2] / self.devicePixelRatioF()
            self.set_viewport(viewport.panned(-distance.y() / (height * scale), -distance.x() / (width * scale)))

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        drag, self._drag = self._drag, None
        dragged, self._dragged = self._dragged, None
        if event is None or drag is None:
            return
        self.stirred.emit()
        if drag[0] == "mark":
            if self._moved:
                self._drag_mark(event.position(), True)
            self._grip = None
            return
        if drag[0] == "measure":
            self._finish_mark(dragged if self._moved else self._tapped(event.position()))
            return
        if self._moved:
            return
        if self._settings.mode is ViewMode.PIP and self._over_inset(event.position()):
            self.pip_tapped.emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:
        if event is None:
            return
        if self._drawing.tool is None:
            self.full_screen_asked.emit()
        elif self._drawing.tool is MarkTool.POLYGON:
            self._finish_mark(self._drawing.closed())

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is None:
            return
        step = _KEY_STEP * (5 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1)
        way = {
            Qt.Key.Key_Left: (0, -1),
            Qt.Key.Key_Right: (0, 1),
            Qt.Key.Key_Up: (-1, 0),
            Qt.Key.Key_Down: (1, 0),
        }.get(Qt.Key(event.key()))
        if way is None:
            super().keyPressEvent(event)
        elif self._settings.mode is ViewMode.WIPE and self._viewport.zoom == 1.0 and way[1]:
            self.wipe_moved.emit(min(1.0, max(0.0, self._settings.wipe_at + way[1] * step)))
        else:
            self.set_viewport(self._viewport.panned(way[0] * 2 * step, way[1] * 2 * step))

    def _mark_between(self, first: QPointF, last: QPointF) -> Mark | None:
        a, b = self._picture_point(first), self._picture_point(last)
        return self._drawing.dragged(a, b) if a is not None and b is not None else None

    def _tapped(self, where: QPointF) -> Mark | None:
        panels, place = self._panels(), self._picture_point(where)
        return self._drawing.tapped(place, self._to_view(panels[0])) if panels and place is not None else None

    def _grip_at(self, event: QMouseEvent) -> tuple[MarkGrip, Panel] | None:
        """What of a mark is under the pointer, and in which panel; nothing while a polygon is being drawn."""
        where, ratio = event.position(), self.devicePixelRatioF()
        if not self._marks or self._drawing.corners:
            return None
        touched = event.pointerType() is QPointingDevice.PointerType.Finger
        for panel in reversed(self._panels()):
            if panel.clip.contains(where.y() * ratio, where.x() * ratio):
                reach = _TOUCH_REACH_PX if touched else _REACH_PX
                grip = grip_at(self._marks, self._to_view(panel), where, self._place_in(panel, where), reach)
                return None if grip is None else (grip, panel)
        return None

    def _drag_mark(self, where: QPointF, let_go: bool) -> None:
        if self._grip is not None:
            grip, panel = self._grip
            self.mark_dragged.emit(grip.number, grip.at(self._place_in(panel, where)), let_go)

    def _finish_mark(self, mark: Mark | None) -> None:
        self.update()
        if mark is not None:
            self.mark_drawn.emit(mark)

    # ------------------------------------------------------------------ geometry

    def _device_size(self) -> tuple[int, int]:
        ratio = self.devicePixelRatioF()
        return max(1, round(self.height() * ratio)), max(1, round(self.width() * ratio))

    def _panels(self) -> list[Panel]:
        if self._frame is None:
            return []
        return panels_of(self._settings, *self._device_size(), *self._frame.pixels.shape[:2])

    def _main_panel(self) -> Panel | None:
        panels = self._panels()
        return panels[0] if panels else None

    def _picture_point(self, where: QPointF) -> tuple[float, float] | None:
        """(y, x) in 0..1 of the picture under the pointer, whichever panel it is over."""
        if self._frame is None:
            return None
        ratio = self.devicePixelRatioF()
        height, width = self._frame.pixels.shape[:2]
        for panel in reversed(self._panels()):
            viewport = self._viewport
            point = to_picture(panel, viewport, height, width, where.y() * ratio, where.x() * ratio)
            if point is not None:
                return point[0] / height, point[1] / width
        return None

    def _near_divider(self, where: QPointF) -> bool:
        return abs(where.x() - self._settings.wipe_at * self.width()) <= _GRIP_PX

    def _over_inset(self, where: QPointF) -> bool:
        ratio = self.devicePixelRatioF()
        return any(
            panel.inset and panel.clip.contains(where.y() * ratio, where.x() * ratio) for panel in self._panels()
        )
