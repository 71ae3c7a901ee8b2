"""The report of a built training set: one HTML file with what was kept, what was rejected and why, and pictures."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup, escape

from app.dataset.builder import DatasetSummary, PairRecord
from app.dataset.template import TEMPLATE
from fusion_core.errors import RunError
from fusion_core.pair_folder import read_thermal, read_visible

__all__ = ["write_dataset_report"]

_TILES = 18
_TILE_WIDTH_PX = 320


def write_dataset_report(summary: DatasetSummary, path: Path) -> None:
    """Write the report.

    Raises:
        RunError: it cannot be written.
    """
    records = [*summary.kept, *summary.rejected]
    sessions = []
    for name in sorted({record.session for record in records}):
        of_session = [record for record in records if record.session == name]
        kept = [record for record in of_session if not record.reason]
        sessions.append(
            {
                "name": name,
                "part": kept[0].part if len({record.part for record in kept}) == 1 else "split" if kept else "none",
                "kept": len(kept),
                "rejected": len(of_session) - len(kept),
                "displacement": _median([record.displacement_px for record in kept]),
                "median": _median([record.residual_median_px for record in kept]),
                "p95": _median([record.residual_p95_px for record in kept]),
                "expected": _median([record.expected_p95_px for record in kept]),
            }
        )
    medians = [record.residual_median_px for record in summary.kept]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(TEMPLATE).render(
        folder=str(summary.output),
        px=_px,
        kept=len(summary.kept),
        training=summary.count("training"),
        validation=summary.count("validation"),
        rejected=len(summary.rejected),
        median=_median(medians),
        p95=float(np.percentile(medians, 95)) if medians else float("nan"),
        expected=_mean([record.expected_p95_px for record in summary.kept]),
        pitch=summary.thermal_pitch_px,
        warnings=summary.warnings,
        reasons=Counter(record.reason for record in summary.rejected).most_common(),
        left_out=sorted(summary.frames_left_out.items(), key=lambda item: -item[1]),
        sessions=sessions,
        histogram=_histogram(summary.kept, summary.rejected),
        tiles=[_tile(summary, record) for record in _spread(summary.kept, _TILES)],
        rejects=summary.rejected[:200],
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error


def _median(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.median(known)) if known else float("nan")


def _px(value: float, digits: int) -> str:
    return f"{value:.{digits}f} px" if value == value else "-"


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _spread(records: list[PairRecord], count: int) -> list[PairRecord]:
    return [records[i] for i in sorted({int(v) for v in np.linspace(0, len(records) - 1, min(count, len(records)))})]


def _tile(summary: DatasetSummary, record: PairRecord) -> dict[str, object]:
    folder = summary.output / "validation" if record.part == "validation" else summary.output
    visible = read_visible(folder / "vi" / f"{record.stem}.png")
    thermal = read_thermal(folder / "ir" / f"{record.stem}.png")
    scale = _TILE_WIDTH_PX / visible.shape[1]
    size = (_TILE_WIDTH_PX, max(1, round(visible.shape[0] * scale)))
    v, t = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (visible, thermal))
    smooth = cv2.GaussianBlur(t, (0, 0), 1.0).astype(np.float32)
    edges = cv2.magnitude(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1))
    overlay = v.copy()
    overlay[edges > np.percentile(edges, 93)] = (255, 60, 40)
    sheet = np.concatenate([v, np.repeat(t[..., None], 3, axis=2), overlay], axis=1)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise RunError(f"the picture of {record.stem} cannot be encoded for the report")
    return {"record": record, "picture": "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()}


def _histogram(kept: list[PairRecord], rejected: list[PairRecord]) -> Markup:
    """SVG: pairs by their median residual, kept ones filled."""
    edges = np.arange(0.0, 2.01, 0.1)
    counts = [
        np.histogram([min(r.residual_median_px, 1.99) for r in part if r.residual_median_px >= 0], edges)[0]
        for part in (kept, rejected)
    ]
    most = max(int((counts[0] + counts[1]).max()), 1)
    width, height, left, bottom = 640, 180, 36, 26
    bars = []
    for i in range(len(edges) - 1):
        x = left + i * (width - left) / (len(edges) - 1)
        y = float(height - bottom)
        for count, colour in ((counts[0][i], "#2d7d46"), (counts[1][i], "#d7a49a")):
            tall = (height - bottom - 10) * int(count) / most
            y -= tall
            bars.append(
                f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{(width - left) / 20 - 2:.1f}" height="{tall:.1f}" '
                f'fill="{colour}"/>'
            )
    marks = [
        f'<text x="{left + v / 2 * (width - left):.0f}" y="{height - 8}" font-size="11">{v:g} px</text>'
        for v in (0.0, 0.5, 1.0, 1.5)
    ]
    marks.append(f'<text x="4" y="14" font-size="11">{escape(most)}</text>')
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="residual histogram">'
        f"{''.join(bars)}{''.join(marks)}</svg>"
    )
