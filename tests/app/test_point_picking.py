"""Points picked by hand: what they give at once, outliers, keys and mouse in the window, and the command."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PyQt6.QtCore import QPoint, QPointF, Qt
from pytestqt.qtbot import QtBot
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.gui.setup.point_picker import PointPicker
from app.rig.point_picking import PointPicking, read_points
from calibration.rig import PlaneCalibration, apply_homography, load_calibration
from fusion_core.errors import BadInputError

H_TRUE = np.array([[2.1, 0.06, 14.0], [-0.05, 2.08, -9.0], [0, 0, 1.0]])
PLACES = np.array([[20, 30], [140, 25], [30, 100], [135, 95], [80, 60], [60, 20.0]])


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A checkered thermal picture of 120x160, and the visible one that shows it through H_TRUE, 240x320."""
    y, x = np.mgrid[0:120, 0:160]
    thermal = (9000 + 400 * ((x // 20 + y // 20) % 2)).astype(np.uint16)
    grey = cv2.warpPerspective(((thermal - 9000) / 2 + 30).astype(np.uint8), H_TRUE, (320, 240))
    return np.repeat(grey[..., None], 3, axis=2), thermal


def picked(count: int) -> PointPicking:
    picking = PointPicking(*pictures())
    for at in PLACES[:count]:
        x, y = apply_homography(H_TRUE, at[None])[0]
        picking.place("visible", (x, y))
        picking.place("thermal", (at[0], at[1]))
    return picking


def test_each_point_is_told_what_it_is_worth() -> None:
    picking = picked(1)
    assert picking.solution is None and "1 whole points" in picking.problem
    with pytest.raises(BadInputError, match="whole points"):
        picking.save(Path("nowhere.yaml"))
    picking = picked(6)
    assert picking.solution is not None and picking.solution.model == "affine"
    assert all(point.used and point.residual_px is not None and point.residual_px < 1e-6 for point in picking.points)
    x, y = apply_homography(H_TRUE, np.array([[100, 50.0]]))[0]
    assert picking.expected("thermal", (100, 50)) == pytest.approx((x, y))
    assert picking.expected("visible", (x, y)) == pytest.approx((100, 50))
    picking.nudge(2, "visible", 12.0, 0.0)
    assert [point.used for point in picking.points] == [True, True, False, True, True, True]
    assert picking.points[2].residual_px == pytest.approx(12.0, rel=0.05)
    picking.remove(2)
    assert len(picking.points) == 5 and picking.solution.rms_px < 1e-6
    picking.place("thermal", (1000.0, -40.0))
    assert picking.points[-1].thermal == (159.5, -0.5), "places stay inside the picture"
    assert not picking.points[-1].whole and picking.points[-1].used is None


def test_the_fused_picture_follows_the_points() -> None:
    visible, _ = pictures()
    before, after = PointPicking(*pictures()).fused(), picked(6).fused()
    assert before.shape == after.shape == visible.shape and before.dtype == np.uint8
    inner = (slice(40, 200), slice(60, 280))

    def ghost(fused: np.ndarray) -> float:
        """Mean distance from the visible picture, which shows the same as the thermal one."""
        return float(np.abs(fused[inner].astype(float) - visible[inner]).mean())

    assert ghost(after) < 0.7 * ghost(before)


def test_mouse_and_keys_place_and_move_points(qtbot: QtBot, tmp_path: Path) -> None:
    picking = picked(3)
    target = tmp_path / "rig.yaml"

    def save() -> Path:
        picking.save(target, 6.0)
        return target

    window = PointPicker(picking, save)
    qtbot.addWidget(window)
    window.show()
    visible, thermal = window.views["visible"], window.views["thermal"]

    def at(view: object, x: float, y: float) -> QPoint:
        return view._on_screen(x, y).toPoint()  # type: ignore[attr-defined]

    x, y = apply_homography(H_TRUE, PLACES[3:4])[0]
    qtbot.mouseClick(visible, Qt.MouseButton.LeftButton, pos=at(visible, x, y))
    assert len(picking.points) == 4 and not picking.points[3].whole and window.current == 3
    hint = window._expected("thermal")
    assert hint == pytest.approx(tuple(PLACES[3]), abs=3.0), "the other picture shows where to look"
    qtbot.mouseClick(thermal, Qt.MouseButton.LeftButton, pos=at(thermal, *PLACES[3]))
    assert picking.points[3].whole and window.table.rowCount() == 4
    thermal.setFocus()
    before = picking.points[3].thermal
    assert before is not None
    qtbot.keyClick(thermal, Qt.Key.Key_Right)
    qtbot.keyClick(thermal, Qt.Key.Key_Up, Qt.KeyboardModifier.ShiftModifier)
    assert picking.points[3].thermal == pytest.approx((before[0] + 0.25, before[1] - 2.0))
    qtbot.mousePress(thermal, Qt.MouseButton.LeftButton, pos=at(thermal, *picking.points[0].thermal or (0, 0)))
    assert window.current == 0
    window._dragged("thermal", 0, 25.0, 33.0)
    assert picking.points[0].thermal == (25.0, 33.0)
    qtbot.keyClick(thermal, Qt.Key.Key_Delete)
    assert len(picking.points) == 3
    assert visible._in_picture(QPointF(visible._on_screen(7.0, 9.0))) == pytest.approx((7.0, 9.0))
    window.grab()
    window.save_button.click()
    assert window.saved == target
    loaded = load_calibration(target)
    assert isinstance(loaded, PlaneCalibration) and loaded.working_distance_m == 6.0
    assert loaded.verdict.startswith("picked by hand, 3 points")


def test_the_command_takes_a_list_and_names_the_outlier(tmp_path: Path) -> None:
    visible, thermal = pictures()
    cv2.imwrite(str(tmp_path / "v.png"), visible[..., ::-1])
    cv2.imwrite(str(tmp_path / "t.png"), thermal)
    rows = ["# x_visible,y_visible,x_thermal,y_thermal"]
    for index, at in enumerate(PLACES):
        x, y = apply_homography(H_TRUE, at[None])[0] + (25.0 if index == 4 else 0.0)
        rows.append(f"{x:.2f},{y:.2f},{at[0]},{at[1]}")
    (tmp_path / "points.csv").write_text("\n".join(rows), "utf-8-sig")  # as spreadsheets write it
    arguments = [str(tmp_path / "v.png"), str(tmp_path / "t.png"), "-o", str(tmp_path / "rig.yaml")]
    result = CliRunner().invoke(
        build_cli(), ["calibrate", "points", *arguments, "--points", str(tmp_path / "points.csv")]
    )
    assert result.exit_code == 0, result.output
    assert "point 5" in result.output and "OUTLIER" in result.output and "from 5 points" in result.output
    found = load_calibration(tmp_path / "rig.yaml")
    off = found.visible_from_thermal(PLACES) - apply_homography(H_TRUE, PLACES)
    assert np.abs(off).max() < 0.1
    (tmp_path / "points.csv").write_text("1,2,3,4\n", "utf-8-sig")
    assert read_points(tmp_path / "points.csv") == [((1, 2), (3, 4))]
    (tmp_path / "bad.csv").write_text("1,2,3\n")
    with pytest.raises(BadInputError, match="line 1"):
        read_points(tmp_path / "bad.csv")
