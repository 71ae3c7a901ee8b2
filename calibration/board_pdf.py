"""Prints or cuts a board: SVG and PDF to scale, with a ruler to check the print and notes on materials and heat.

Both formats are written by hand from the same list of shapes: lengths are exact and nothing is scaled on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

from calibration.board import ArucoGrid, AsymmetricCircles, Board, Charuco, Checkerboard, SymmetricCircles
from fusion_core.errors import BadInputError

__all__ = ["Drawing", "draw_board", "notes_for", "to_pdf", "to_svg"]

PAGES_MM = {
    "a4": (210.0, 297.0),
    "a3": (297.0, 420.0),
    "a2": (420.0, 594.0),
    "a1": (594.0, 841.0),
    "a0": (841.0, 1189.0),
}
MARGIN_MM = 12.0
FOOT_MM = 46.0
MM_TO_PT = 72.0 / 25.4

COMMON_NOTES = (
    "Print at 100 % (no 'fit to page'); the ruler must measure 100 mm. Glue it flat on a stiff board: a "
    "bent board is a wrong board.",
    "Keep a border of at least one square around the pattern. Move the board, not the rig; hold it still "
    "for each picture.",
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes in millimetres on a page of (width_mm, height_mm), y down.

    rectangles: (x, y, width, height), black; circles: (x, y, radius); lines of text: (x, y, size, text).
    outline_only: circles are drawn as cutting lines.
    """

    width_mm: float
    height_mm: float
    rectangles: tuple[tuple[float, float, float, float], ...]
    circles: tuple[tuple[float, float, float], ...]
    texts: tuple[tuple[float, float, float, str], ...]
    outline_only: bool = False


def notes_for(board: Board) -> tuple[str, ...]:
    """How to make this board visible to a thermal camera."""
    if isinstance(board, SymmetricCircles | AsymmetricCircles):
        own = (
            "Best for thermal: cut the holes out of a sheet (3 mm plywood or foam board, matt black) and "
            "hold it 2 to 5 cm in front of a "
            "plate warmed to 40-50 C (or of a cold window): holes show the plate, the sheet stays at room temperature.",
            "Or: shiny aluminium tape discs on a matt, warmed plate: the tape mirrors the cold room and looks cold.",
        )
    elif isinstance(board, Checkerboard | Charuco):
        own = (
            "Warm it: lamp or sun for a minute (black squares get warmer than white), or hair dryer from "
            "behind. Contrast lasts 1 to 2 minutes.",
            "Lasts longer: black squares cut out of adhesive aluminium foil on a matt plate warmed from "
            "behind; the foil looks cold. "
            "Tilt it so that the foil does not mirror you.",
        )
    else:
        own = (
            "Markers need crisp edges in thermal: cut them out of aluminium tape on a matt black plate at "
            "40-50 C, or print on a metal-backed "
            "panel and heat it with a lamp.",
            "Make each marker at least 40 thermal pixels wide at your working distance.",
        )
    return own + COMMON_NOTES


def draw_board(board: Board, page: str = "auto", *, cut_lines: bool = False) -> Drawing:
    """Lay the board out on a page ("a4" .. "a0", turned if needed; "auto": the smallest that fits; "exact".

    Made to fit).

    Args:
        cut_lines: outlines only for circles, for a cutter.

    Raises:
        BadInputError: unknown page, or a board larger than the page.
    """
    height_mm, width_mm = (value * 1e3 for value in board.extent_m)
    needed = (width_mm + 2 * MARGIN_MM, height_mm + 2 * MARGIN_MM + FOOT_MM)
    if page == "auto":
        page = next((name for name, size in PAGES_MM.items() if _fits(needed, size)), "exact")
    if page == "exact":
        sheet = (max(needed[0], 190.0), needed[1])
    elif page in PAGES_MM:
        portrait = PAGES_MM[page]
        fitting = [size for size in (portrait, portrait[::-1]) if needed[0] <= size[0] and needed[1] <= size[1]]
        if not fitting:
            larger = [name for name, size in PAGES_MM.items() if _fits(needed, size)]
            raise BadInputError(
                f"the board needs {needed[0]:.0f} x {needed[1]:.0f} mm with its notes, page {page} is "
                f"{portrait[0]:.0f} x {portrait[1]:.0f} mm. "
                f"Take {'page ' + larger[0] if larger else '--page exact'}, or smaller squares."
            )
        sheet = fitting[0]
    else:
        raise BadInputError(f"page is {page!r}, must be one of auto, {', '.join(PAGES_MM)}, exact")
    x0, y0 = (sheet[0] - width_mm) / 2, MARGIN_MM
    rectangles, circles = _shapes(board)
    foot = y0 + height_mm + 8
    rulers = [(MARGIN_MM + 10 * k, foot, 10.0, 2.0 if k % 2 == 0 else 0.4) for k in range(10)]
    texts = [
        (MARGIN_MM + 103, foot + 2.2, 3.2, "100 mm"),
        (MARGIN_MM, foot + 8, 3.6, f"{board.describe()}   top is this way up"),
    ]
    wrap = int((sheet[0] - 2 * MARGIN_MM) / 1.35)
    line = foot + 13
    for note in notes_for(board):
        for part in _wrapped(note, wrap):
            texts.append((MARGIN_MM, line, 2.6, part))
            line += 3.3
    return Drawing(
        sheet[0],
        max(sheet[1], line + 4),
        tuple([(x + x0, y + y0, w, h) for x, y, w, h in rectangles] + rulers),
        tuple((x + x0, y + y0, r) for x, y, r in circles),
        tuple(texts),
        cut_lines,
    )


def to_svg(drawing: Drawing) -> str:
    """The drawing as an SVG document with millimetre units."""
    w, h = drawing.width_mm, drawing.height_mm
    style = 'fill="none" stroke="red" stroke-width="0.1"' if drawing.outline_only else 'fill="black"'
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}mm" height="{h:g}mm" viewBox="0 0 {w:g} {h:g}">',
        f'<rect width="{w:g}" height="{h:g}" fill="white"/>',
        '<g shape-rendering="crispEdges" fill="black">',
        *(f'<rect x="{x:.4f}" y="{y:.4f}" width="{a:.4f}" height="{b:.4f}"/>' for x, y, a, b in drawing.rectangles),
        "</g>",
        f"<g {style}>",
        *(f'<circle cx="{x:.4f}" cy="{y:.4f}" r="{r:.4f}"/>' for x, y, r in drawing.circles),
        "</g>",
        '<g font-family="Helvetica, Arial, sans-serif" fill="black">',
        *(f'<text x="{x:.2f}" y="{y:.2f}" font-size="{s:g}">{escape(text)}</text>' for x, y, s, text in drawing.texts),
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"


def to_pdf(drawing: Drawing) -> bytes:
    """The drawing as a one-page PDF 1.4 with exact lengths."""
    k, height = MM_TO_PT, drawing.height_mm
    ops = ["0 g"]
    ops += [f"{x * k:.4f} {(height - y - b) * k:.4f} {a * k:.4f} {b * k:.4f} re f" for x, y, a, b in drawing.rectangles]
    if drawing.outline_only:
        ops.append("0.3 w 1 0 0 RG")
    end = "S" if drawing.outline_only else "f"
    ops += [_circle_pdf(x * k, (height - y) * k, r * k, end) for x, y, r in drawing.circles]
    for x, y, size, text in drawing.texts:
        safe = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        ops.append(f"BT /F1 {size * k:.2f} Tf {x * k:.3f} {(height - y) * k:.3f} Td ({safe}) Tj ET")
    content = "\n".join(ops).encode("latin-1", "replace")
    box = f"[0 0 {drawing.width_mm * k:.4f} {height * k:.4f}]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> "
        ">> >>".encode(),
        b"<< /Length " + str(len(content)).encode() + b" >>\nstream\n" + content + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def write_board(board: Board, path: Path, page: str = "auto", *, cut_lines: bool = False) -> Drawing:
    """Write `path` as .svg or .pdf. Raises BadInputError for another ending or a page that is too small."""
    drawing = draw_board(board, page, cut_lines=cut_lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".svg":
        path.write_text(to_svg(drawing), encoding="utf-8")
    elif path.suffix.lower() == ".pdf":
        path.write_bytes(to_pdf(drawing))
    else:
        raise BadInputError(f"{path} must end in .svg or .pdf")
    return drawing


def _fits(needed: tuple[float, float], size: tuple[float, float]) -> bool:
    return any(needed[0] <= w and needed[1] <= h for w, h in (size, size[::-1]))


def _shapes(board: Board) -> tuple[list[tuple[float, float, float, float]], list[tuple[float, float, float]]]:
    """Black rectangles and circles in millimetres from the pattern's top left corner."""
    if isinstance(board, SymmetricCircles | AsymmetricCircles):
        return [], [(x * 1e3, y * 1e3, board.radius_m * 1e3) for x, y, _ in board.object_points()]
    if isinstance(board, Checkerboard):
        side = board.square_m * 1e3
        return [
            (column * side, row * side, side, side)
            for row in range(board.rows)
            for column in range(board.columns)
            if (row + column) % 2 == 0
        ], []
    if not isinstance(board, Charuco | ArucoGrid):
        raise BadInputError(f"boards of kind {type(board).__name__} cannot be drawn")
    return _runs(board), []


def _runs(board: Charuco | ArucoGrid) -> list[tuple[float, float, float, float]]:
    """Black cells of a marker board, joined along rows."""
    bits = int(board.cv_dictionary().markerSize) + 2
    marker_mm = board.marker_m * 1e3
    cell = marker_mm / bits
    result: list[tuple[float, float, float, float]] = []

    def marker(number: int, x0: float, y0: float) -> None:
        image = np.asarray(cv2.aruco.generateImageMarker(board.cv_dictionary(), number, bits)) < 128
        for row, line in enumerate(image):
            start = None
            for column in range(bits + 1):
                black = column < bits and bool(line[column])
                if black and start is None:
                    start = column
                elif not black and start is not None:
                    result.append((x0 + start * cell, y0 + row * cell, (column - start) * cell, cell))
                    start = None

    if isinstance(board, ArucoGrid):
        step, gap = (board.marker_m + board.gap_m) * 1e3, board.gap_m * 1e3
        for index, number in enumerate(board.marker_ids):
            marker(number, gap + (index % board.columns) * step, gap + (index // board.columns) * step)
        return result
    side = board.square_m * 1e3
    ids = iter(np.asarray(board.cv_board().getIds()).reshape(-1))
    for row in range(board.rows):
        for column in range(board.columns):
            if (row + column) % 2 == 0:
                result.append((column * side, row * side, side, side))
            else:
                rim = (side - marker_mm) / 2
                marker(int(next(ids)), column * side + rim, row * side + rim)
    return result


def _circle_pdf(x: float, y: float, r: float, end: str) -> str:
    c = 0.5522847498 * r
    return (
        f"{x + r:.4f} {y:.4f} m {x + r:.4f} {y + c:.4f} {x + c:.4f} {y + r:.4f} {x:.4f} {y + r:.4f} c "
        f"{x - c:.4f} {y + r:.4f} {x - r:.4f} {y + c:.4f} {x - r:.4f} {y:.4f} c "
        f"{x - r:.4f} {y - c:.4f} {x - c:.4f} {y - r:.4f} {x:.4f} {y - r:.4f} c "
        f"{x + c:.4f} {y - r:.4f} {x + r:.4f} {y - c:.4f} {x + r:.4f} {y:.4f} c {end}"
    )


def _wrapped(text: str, width: int) -> list[str]:
    lines, current = [], ""
    for word in text.split():
        if current and len(current) + 1 + len(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}".strip()
    return [*lines, current]
