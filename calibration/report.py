"""Writes the calibration report: one HTML file, pictures inside, that says how good a rig is, where, and what to do."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from calibration.extrinsics import board_pose
from calibration.pose_planner import AIM_HOMOGRAPHY_PX, AIM_ROTATION_DEG
from calibration.report_template import TEMPLATE
from calibration.rig import RigCalibration, file_sha256
from calibration.shared_field import BUDGET_PX, covered_share, distance_range, propose_working_distance_m
from calibration.solve import Solution
from calibration.time_offset import TimeOffset
from calibration.views import BoardView, overlay

__all__ = ["write_report"]


def write_report(solution: Solution, path: Path, offset: TimeOffset | None = None) -> str:
    """Write the report.

    Args:
        offset: the time offset of the cameras, if the board's movement was watched.

    Returns:
        Its SHA-256, for the calibration file.
    """
    rig = solution.rig
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(TEMPLATE).render(
        rig=rig,
        board=solution.board.describe(),
        good=solution.good,
        causes=[told for told in (solution.bend, solution.contradiction) if told],
        gates=solution.gates,
        accepted=len(solution.view_rms_px),
        total=len(solution.views),
        median=solution.held_out_median_px,
        p95=solution.held_out_p95_px,
        two_sigma=solution.max_two_sigma_px,
        range=solution.range_8px,
        far=_metres(solution.range_8px.far_m),
        budget=BUDGET_PX,
        baseline_mm=rig.baseline_m * 1e3,
        parallax_svg=_parallax_svg(rig),
        advice=_advice(rig),
        uncertainty_svg=_heat_svg(solution.two_sigma_px, 2.0, "{:.2f}"),
        coverage=[
            (side, covered_share(counts), _coverage_svg(counts))
            for side, counts in (("visible", solution.coverage_visible), ("thermal", solution.coverage_thermal))
        ],
        residual_svg=[(side, _scatter_svg(solution, side)) for side in ("visible", "thermal")],
        cameras=[
            (side, camera, solution.bundle.lens_sigma_px(side), solution.bundle.noise_px[index])
            for index, (side, camera) in enumerate((("visible", rig.visible), ("thermal", rig.thermal)))
        ],
        rotation=_rotation_text(rig),
        rotation_sigma=solution.bundle.rotation_sigma_deg,
        baseline_sigma_mm=solution.bundle.baseline_sigma_m * 1e3,
        time_offset=offset.words() if offset is not None else "",
        predicted=solution.max_predicted_two_sigma_px,
        aim=solution.reached_aim,
        aim_deg=AIM_ROTATION_DEG,
        aim_px=AIM_HOMOGRAPHY_PX,
        t_mm=[float(value) * 1e3 for value in rig.t_visible_thermal_m],
        blends=_blends(solution),
        views=[_view_row(solution, index) for index in range(len(solution.views))],
        found=_found(solution),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return file_sha256(path)


def _view_row(solution: Solution, index: int) -> dict[str, object]:
    view = solution.views[index]
    held = solution.held_out_px.get(view.name)
    return {
        "name": view.name,
        "rms": solution.view_rms_px.get(view.name),
        "held": float(np.median(held)) if held is not None else None,
        "rejected": solution.rejected.get(view.name, ""),
        "rungs": [detection.rung if detection else "-" for detection in (view.found_visible, view.found_thermal)],
        "pictures": [_jpeg(overlay(view, side, 300)) for side in ("visible", "thermal")],
    }


def _found(solution: Solution) -> list[tuple[str, int, int]]:
    total = len(solution.views)
    return [
        ("visible", sum(view.found_visible is not None for view in solution.views), total),
        ("thermal", sum(view.found_thermal is not None for view in solution.views), total),
    ]


def _advice(rig: RigCalibration) -> list[dict[str, object]]:
    """Working distances to choose from, each with the range it serves."""
    rows: list[dict[str, object]] = []
    proposals = [(f"from {near:g} m on", propose_working_distance_m(rig, near_m=near)) for near in (0.5, 1.0, 2.0, 5.0)]
    for label, distance in [("near to horizon", propose_working_distance_m(rig)), *proposals]:
        moved = RigCalibration(
            rig.visible, rig.thermal, rig.R_visible_thermal, rig.t_visible_thermal_m, rig.rms_px, distance
        )
        whole, half = distance_range(moved, BUDGET_PX), distance_range(moved, BUDGET_PX / 2)
        rows.append(
            {
                "need": label,
                "z0": distance,
                "whole": f"{whole.near_m:.2f} m to {_metres(whole.far_m)}",
                "half": f"{half.near_m:.2f} m to {_metres(half.far_m)}",
            }
        )
    return rows


def _metres(value: float) -> str:
    return "the horizon" if not np.isfinite(value) or value > 1000 else f"{value:.2f} m"


def _rotation_text(rig: RigCalibration) -> str:
    rvec, _ = cv2.Rodrigues(rig.R_visible_thermal)
    x, y, z = np.degrees(rvec).reshape(3)
    return f"{x:+.3f}, {y:+.3f}, {z:+.3f} degrees about x (right), y (down), z (forward)"


def _blends(solution: Solution) -> list[tuple[str, str]]:
    """Name and picture of up to three accepted views, the nearest to the farthest board: thermal over visible."""
    views = {view.name: view for view in solution.views if view.name in solution.view_rms_px}
    points = solution.board.object_points()
    poses: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, view in views.items():
        assert view.found_visible is not None  # accepted views were found in both
        poses[name] = board_pose(solution.rig.visible, points[view.found_visible.ids], view.found_visible.points_px)
    depths = {name: float((points @ R.T + t)[:, 2].mean()) for name, (R, t) in poses.items()}
    order = sorted(depths, key=lambda name: depths[name])
    chosen = dict.fromkeys((order[0], order[len(order) // 2], order[-1])) if order else {}
    return [(f"{name}, {depths[name]:.2f} m", _blend(solution.rig, views[name], *poses[name])) for name in chosen]


def _blend(rig: RigCalibration, view: BoardView, R: np.ndarray, t: np.ndarray) -> str:
    """The board enlarged: thermal edges, carried over on the board's own plane (R, t), red on the visible picture."""
    visible = view.visible if view.visible.ndim == 3 else np.repeat(view.visible[..., None], 3, 2)
    luma = cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY).astype(np.float32)
    assert view.found_visible is not None  # accepted views were found in both
    at = view.found_visible.points_px
    low, high = at.min(axis=0), at.max(axis=0)
    rim = 0.12 * float((high - low).max())
    low, high = np.maximum(low - rim, 0), np.minimum(high + rim, np.array(luma.shape[::-1]) - 1.0)
    step = float((high - low).max()) / 340
    x, y = np.meshgrid(np.arange(low[0], high[0], step), np.arange(low[1], high[1], step))
    rays = np.column_stack([rig.visible.undistort(np.stack([x, y], -1).reshape(-1, 2)), np.ones(x.size)])
    X_visible = rays * (float(R[:, 2] @ t) / (rays @ R[:, 2]))[:, None]
    seen = rig.thermal.project((X_visible - rig.t_visible_thermal_m) @ rig.R_visible_thermal)
    seen = seen.reshape(*x.shape, 2).astype(np.float32)
    smooth = cv2.GaussianBlur(view.thermal.astype(np.float32), (0, 0), 0.8)
    thermal = cv2.remap(smooth, seen[..., 0], seen[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    under = cv2.remap(luma, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC)
    edges = np.hypot(cv2.Sobel(thermal, cv2.CV_32F, 1, 0), cv2.Sobel(thermal, cv2.CV_32F, 0, 1))
    edges = np.clip(edges / max(float(np.percentile(edges, 92)), 1e-6), 0, 1) ** 2
    dark, bright = np.percentile(under, (1, 99))
    grey = np.clip((under - dark) / max(float(bright - dark), 1e-6), 0, 1) * 190
    picture = grey[..., None] * (1 - edges[..., None]) + np.array([235.0, 45.0, 30.0]) * edges[..., None]
    return _jpeg(picture.astype(np.uint8))


def _jpeg(rgb: np.ndarray) -> str:
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not ok:
        raise ValueError("a picture of the report could not be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _heat_svg(values: np.ndarray, limit: float, form: str) -> Markup:
    rows, columns = values.shape
    parts = []
    for r in range(rows):
        for c in range(columns):
            value = float(values[r, c])
            if np.isnan(value):
                fill, text = "#e4e7eb", ""
            else:
                share = min(1.0, value / limit) if np.isfinite(value) else 1.0
                fill = f"hsl({130 * (1 - share):.0f} 55% 62%)"
                text = form.format(value)
            parts.append(_cell(c, r, fill, text))
    return _svg(columns * 46, rows * 30, parts, "uncertainty over the visible picture")


def _coverage_svg(counts: np.ndarray) -> Markup:
    parts = []
    top = max(1, int(counts.max()))
    for r in range(counts.shape[0]):
        for c in range(counts.shape[1]):
            value = int(counts[r, c])
            if value < 0:
                fill, text = "#e4e7eb", ""
            elif value == 0:
                fill, text = "#f2b8b5", "0"
            else:
                fill, text = f"hsl(205 60% {88 - 38 * min(1.0, value / top):.0f}%)", str(value)
            parts.append(_cell(c, r, fill, text))
    return _svg(counts.shape[1] * 46, counts.shape[0] * 30, parts, "board points per part of the picture")


def _cell(column: int, row: int, fill: str, text: str) -> str:
    x, y = column * 46, row * 30
    return (
        f'<rect x="{x}" y="{y}" width="45" height="29" fill="{fill}"/>'
        f'<text x="{x + 22.5}" y="{y + 19}" font-size="11" text-anchor="middle">{html.escape(text)}</text>'
    )


def _scatter_svg(solution: Solution, side: str) -> Markup:
    """Bars: rms of each accepted view in this camera's pixels."""
    index = 0 if side == "visible" else 1
    values = {name: rms[index] for name, rms in solution.view_rms_px.items()}
    top = max(0.02, max(values.values(), default=0.5) * 1.15)
    places = 2 if top >= 0.2 else 3
    width = max(300, 24 * len(values) + 50)
    parts = []
    for step in range(5):
        y = 130 - 120 * step / 4
        parts.append(f'<line x1="40" x2="{width}" y1="{y}" y2="{y}" stroke="#d8dce2"/>')
        parts.append(f'<text x="36" y="{y + 4}" font-size="10" text-anchor="end">{top * step / 4:.{places}f}</text>')
    for position, (name, value) in enumerate(values.items()):
        x = 46 + 24 * position
        bar = 120 * value / top
        parts.append(f'<rect x="{x}" y="{130 - bar:.1f}" width="16" height="{bar:.1f}" fill="#3f6fb5"><title>')
        parts.append(f"{html.escape(name)}: {value:.3f} {side} px</title></rect>")
        if position % 2 == 0:  # every other one has room
            label = html.escape(name.split("_")[0][-6:])
            parts.append(f'<text x="{x + 8}" y="144" font-size="9" text-anchor="middle">{label}</text>')
    return _svg(width, 150, parts, f"residual of each view, {side} pixels")


def _parallax_svg(rig: RigCalibration) -> Markup:
    """Parallax against distance, logarithmic, with the budget."""
    low, high = rig.working_distance_m / 8, rig.working_distance_m * 40
    z = np.geomspace(low, high, 160)
    d = np.array([rig.parallax_px(float(value)) for value in z])
    top = 2.5 * BUDGET_PX

    def x_of(value: float) -> float:
        return float(50 + 590 * np.log(value / low) / np.log(high / low))

    inside, x0 = 190 * BUDGET_PX / top, x_of(rig.working_distance_m)
    parts = [f'<rect x="50" y="{200 - inside:.1f}" width="590" height="{inside:.1f}" fill="#e3f1e4"/>']
    for step in range(6):
        y = 200 - 190 * step / 5
        parts.append(f'<line x1="50" x2="640" y1="{y}" y2="{y}" stroke="#d8dce2"/>')
        parts.append(f'<text x="44" y="{y + 4}" font-size="11" text-anchor="end">{top * step / 5:.0f} px</text>')
    parts.append('<text x="56" y="21" font-size="11">visible px</text>')
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if low <= tick <= high:
            x = x_of(tick)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="200" stroke="#eceff3"/>')
            parts.append(f'<text x="{x:.1f}" y="216" font-size="11" text-anchor="middle">{tick:g} m</text>')
    line = " ".join(
        f"{x_of(float(a)):.1f},{200 - 190 * min(float(b), top) / top:.1f}" for a, b in zip(z, d, strict=True)
    )
    parts.append(f'<polyline points="{line}" fill="none" stroke="#b4432f" stroke-width="2"/>')
    parts.append(f'<line x1="{x0:.1f}" x2="{x0:.1f}" y1="10" y2="200" stroke="#333" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{x0 + 5:.1f}" y="22" font-size="12">Z0 = {rig.working_distance_m:.2f} m</text>')
    return _svg(660, 224, parts, "parallax against distance")


def _svg(width: float, height: float, parts: list[str], title: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{html.escape(title)}" '
        f'font-family="system-ui, sans-serif" fill="#20252c">{"".join(parts)}</svg>'
    )
