"""How the picture is shown: blend, wipe, palette, polarity, isotherm, measuring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt6.QtCore import QCoreApplication, QSignalBlocker, QSize, pyqtSignal
from PyQt6.QtGui import QIcon, QImage, QPixmap
from PyQt6.QtWidgets import QLabel, QWidget

from app.gui.common.qt_image import rgb_image
from app.gui.widgets.sections import CheckBox, Section, ShareSlider, Spin, combo, form
from app.rig.radiometry import Radiometry, scale_of
from app.view.settings import HEAT_SHARE_MAX, HEAT_SHARE_MIN, Isotherm, IsothermKind, Picture, ViewMode, ViewSettings
from fusion_core.colour import STRENGTH_MAX
from fusion_core.thermal.palettes import PALETTES, palette_table

__all__ = ["ViewPanel"]

_SWATCH = QSize(48, 14)


class ViewPanel(Section):
    """Asks by signals.

    view_asked: dict of changed fields of ViewSettings. strength_asked: of thermal in the fused picture, 0 to
    STRENGTH_MAX. scale_chosen: name of a scale.
    """

    view_asked = pyqtSignal(dict)
    strength_asked = pyqtSignal(float)
    scale_chosen = pyqtSignal(str)

    def __init__(self, playback: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("ViewPanel", "Picture"), "palette", True, parent)
        self._scale: Radiometry | None = None
        self._view = ViewSettings()
        self._make_picture_choices(playback)
        self._make_temperature_choices()
        self._form = form()
        for text, field in (
            (self.tr("Strength"), self._strength),
            ("", self._heat),
            (self.tr("Hot is"), self._heat_by),
            (self.tr("Hottest"), self._heat_share),
            (self.tr("from"), self._heat_from),
            (self.tr("Blend"), self._blend),
            (self.tr("Wipe left"), self._left),
            (self.tr("Wipe right"), self._right),
            (self.tr("Palette"), self._palette),
            ("", self._black_hot),
            (self.tr("Isotherm"), self._isotherm),
            (self.tr("from"), self._low),
            (self.tr("to"), self._high),
            (self.tr("Scale"), self._scale_box),
        ):
            self._form.addRow(text, field)
        self.body.addLayout(self._form)
        self.show_view(self._view)
        self.show_strength(1.0)

    def _make_picture_choices(self, playback: bool) -> None:
        self._strength = ShareSlider(self.tr("Strength of thermal in the fused picture"), STRENGTH_MAX)
        self._strength.slider.setToolTip(self.tr("0 %: the visible picture; 100 %: as the network was trained"))
        self._strength.moved.connect(self.strength_asked)
        self._heat = CheckBox(self.tr("Show heat"))
        self._heat.clicked.connect(lambda on: self.view_asked.emit({"heat": bool(on)}))
        self._heat_share = ShareSlider(self.tr("Hottest part of the scene that is coloured"), HEAT_SHARE_MAX)
        self._heat_share.slider.setMinimum(round(HEAT_SHARE_MIN * 100))
        self._heat_share.moved.connect(lambda share: self.view_asked.emit({"heat_share": share}))
        self._heat_by = combo(
            self.tr("What is coloured as hot"),
            [(self.tr("the hottest part of the scene"), "share"), (self.tr("everything above a limit"), "limit")],
            lambda by: self._heat_by_chosen(str(by)),
        )
        self._heat_from = self._limit(self.tr("Coloured from"), self._heat_from_changed)
        self._blend = ShareSlider(self.tr("Share of thermal in the blend"))
        self._blend.moved.connect(lambda share: self.view_asked.emit({"blend": share}))
        names = {
            Picture.FUSED: self.tr("Fused"),
            Picture.VISIBLE: self.tr("Visible"),
            Picture.THERMAL: self.tr("Thermal"),
            Picture.BLEND: self.tr("Blend"),
            Picture.EDGES: self.tr("Edges"),
        }
        if playback:
            names[Picture.FUSED] = self.tr("A")
        names[Picture.SECOND] = self.tr("B")
        entries: list[tuple[str, object]] = [(text, picture) for picture, text in names.items()]
        self._left = combo(self.tr("Left of the divider"), entries, lambda p: self.view_asked.emit({"wipe_left": p}))
        self._right = combo(self.tr("Right of the divider"), entries, lambda p: self.view_asked.emit({"wipe_right": p}))
        self._palette = combo(self.tr("Palette"), [], lambda name: self.view_asked.emit({"palette": str(name)}))
        self._palette.setIconSize(_SWATCH)
        for name in PALETTES:
            self._palette.addItem(_swatch(name), name.replace("_", " "), name)
        self._black_hot = CheckBox(self.tr("Black-hot"))
        self._black_hot.clicked.connect(lambda on: self.view_asked.emit({"black_hot": bool(on)}))

    def _make_temperature_choices(self) -> None:
        self._isotherm = combo(
            self.tr("Isotherm"),
            [
                (self.tr("Off"), ""),
                (self.tr("Above"), IsothermKind.ABOVE),
                (self.tr("Below"), IsothermKind.BELOW),
                (self.tr("Between"), IsothermKind.BETWEEN),
            ],
            lambda _: self._isotherm_changed(),
        )
        self._low, self._high = self._limit(self.tr("Isotherm, lower end")), self._limit(self.tr("Isotherm, upper end"))
        self._high.setValue(26000)
        self._low.setValue(22000)
        self._heat_from.setValue(24600)
        self._scale_box = combo(
            self.tr("Temperature scale"),
            [
                (self.tr("Relative (counts)"), "relative"),
                (self.tr("TLinear 0.01 K"), "tlinear-0.01"),
                (self.tr("TLinear 0.1 K"), "tlinear-0.1"),
                (self.tr("1/64 K a count"), "kelvin-64"),
                (self.tr("1/16 K a count"), "kelvin-16"),
                (self.tr("Simulated rig"), "simulated"),
            ],
            lambda name: self.scale_chosen.emit(str(name)),
        )

    def show_view(self, view: ViewSettings) -> None:
        """Show these settings."""
        self._view = view
        self._heat.setChecked(view.heat)
        self._heat_share.set_share(view.heat_share)
        self._heat_by.setCurrentIndex(0 if view.heat_from is None else 1)
        self._form.setRowVisible(self._heat_by, view.heat)
        self._form.setRowVisible(self._heat_share, view.heat and view.heat_from is None)
        self._form.setRowVisible(self._heat_from, view.heat and view.heat_from is not None)
        if view.heat_from is not None:
            with QSignalBlocker(self._heat_from):
                self._heat_from.setValue(self._shown(view.heat_from))
        self._blend.set_share(view.blend)
        self._left.setCurrentIndex(self._left.findData(view.wipe_left))
        self._right.setCurrentIndex(self._right.findData(view.wipe_right))
        self._palette.setCurrentIndex(max(0, self._palette.findData(view.palette)))
        self._black_hot.setChecked(view.black_hot)
        kind = view.isotherm.kind if view.isotherm is not None else ""
        self._isotherm.setCurrentIndex(self._isotherm.findData(kind))
        self._form.setRowVisible(self._blend, view.mode in (ViewMode.BLEND, ViewMode.QUAD))
        self._form.setRowVisible(self._left, view.mode is ViewMode.WIPE)
        self._form.setRowVisible(self._right, view.mode is ViewMode.WIPE)
        self._form.setRowVisible(self._low, kind in (IsothermKind.BELOW, IsothermKind.BETWEEN))
        self._form.setRowVisible(self._high, kind in (IsothermKind.ABOVE, IsothermKind.BETWEEN))
        for box, text in (
            (self._low, self.tr("below") if kind == IsothermKind.BELOW else self.tr("from")),
            (self._high, self.tr("above") if kind == IsothermKind.ABOVE else self.tr("to")),
        ):
            label = self._form.labelForField(box)
            if isinstance(label, QLabel):
                label.setText(text)
        if view.isotherm is not None:
            for box, counts in ((self._low, view.isotherm.low), (self._high, view.isotherm.high)):
                box.blockSignals(True)
                box.setValue(self._shown(counts))
                box.blockSignals(False)

    def show_strength(self, strength: float) -> None:
        """Show how strongly thermal goes into the fused picture, 0 to STRENGTH_MAX."""
        self._strength.set_share(strength)

    def show_scale(self, name: str) -> None:
        """Show how counts are read; limits are then given in degrees."""
        boxes = (self._low, self._high, self._heat_from)
        counts = [self._counts(box) for box in boxes]
        self._scale = scale_of(name)
        if self._scale is not None and self._scale_box.findData(name) < 0:  # the configuration's own
            self._scale_box.addItem(
                self.tr("{kelvin} K a count").format(kelvin=f"{self._scale.kelvin_per_count:g}"), name
            )
        self._scale_box.setCurrentIndex(max(0, self._scale_box.findData(name)))
        for box, value in zip(boxes, counts, strict=True):
            box.blockSignals(True)
            box.setRange(0, 65535) if self._scale is None else box.setRange(-100, 1500)
            box.setSuffix(" °C" if self._scale is not None else "")
            box.setValue(self._shown(value))
            box.blockSignals(False)

    def _heat_by_chosen(self, by: str) -> None:
        self.view_asked.emit({"heat_from": self._counts(self._heat_from) if by == "limit" else None})

    def _heat_from_changed(self) -> None:
        if self._view.heat_from is not None:
            self.view_asked.emit({"heat_from": self._counts(self._heat_from)})

    def _limit(self, name: str, changed: Callable[[], None] | None = None) -> Spin:
        box = Spin()
        box.setDecimals(0)
        box.setAccessibleName(name)
        box.setRange(0, 65535)
        box.valueChanged.connect(lambda _: (changed or self._isotherm_changed)())
        return box

    def _shown(self, counts: int) -> int:
        return counts if self._scale is None else round(self._scale.celsius(counts))

    def _counts(self, box: Spin) -> int:
        return round(box.value()) if self._scale is None else self._scale.counts(box.value())

    def _isotherm_changed(self) -> None:
        kind = self._isotherm.currentData()
        changes: dict[str, Any] = {"isotherm": None}
        if kind:
            low, high = self._counts(self._low), self._counts(self._high)
            changes["isotherm"] = Isotherm(IsothermKind(str(kind)), min(low, high), max(low, high))
        self.view_asked.emit(changes)


def _swatch(name: str) -> QIcon:
    row = palette_table(name)[:: 256 // 64][None, :, :]
    image: QImage = rgb_image(row).scaled(_SWATCH)
    return QIcon(QPixmap.fromImage(image))
