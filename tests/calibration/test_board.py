"""Boards: points, symmetry, short form, and drawings to scale."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from calibration.board import Checkerboard, parse_board
from calibration.board_pdf import MM_TO_PT, draw_board, notes_for, to_pdf, to_svg, write_board
from fusion_core.errors import BadInputError, ConfigError

SPECS = [
    "checkerboard:10x7:20mm",
    "circles:7x5:25mm",
    "acircles:4x9:18mm",
    "charuco:7x5:25mm:18mm:DICT_4X4_50",
    "aruco:4x3:40mm:10mm:DICT_ARUCO_ORIGINAL",
]


@pytest.mark.parametrize("spec", SPECS)
def test_points_lie_inside_the_pattern_and_are_all_different(spec: str) -> None:
    board = parse_board(spec)
    points = board.object_points()
    height_m, width_m = board.extent_m
    assert points.shape[1] == 3 and np.all(points[:, 2] == 0)
    assert np.all(points[:, :2] > 0) and np.all(points[:, 0] < width_m) and np.all(points[:, 1] < height_m)
    assert len(np.unique(points.round(9), axis=0)) == len(points)


@pytest.mark.parametrize("spec", SPECS)
def test_texture_has_the_pattern_s_proportions_and_both_colours(spec: str) -> None:
    board = parse_board(spec)
    texture = board.texture(1000.0)
    assert texture.dtype == np.float32
    assert texture.shape[0] / texture.shape[1] == pytest.approx(board.extent_m[0] / board.extent_m[1], rel=0.02)
    assert texture.min() == 0.0 and texture.max() == 1.0
    assert 0.1 < texture.mean() < 0.95


def test_a_corner_of_the_texture_is_where_the_object_point_says() -> None:
    board = parse_board("checkerboard:6x5:10mm")
    texture = board.texture(1000.0)
    x, y = (board.object_points()[0, :2] * 1000).astype(int)
    assert texture[y - 1, x - 1] == 0 and texture[y, x] == 0 and texture[y - 1, x] == 1 and texture[y, x - 1] == 1


@pytest.mark.parametrize(
    ("spec", "known", "unknown"),
    [
        ("checkerboard:10x7:20mm", 1, 2),  # odd sum: the colours tell, if it is known which is the dark one
        ("checkerboard:8x6:20mm", 2, 2),
        ("checkerboard:7x7:20mm", 4, 4),
        ("checkerboard:8x8:20mm", 2, 4),
        ("circles:7x5:25mm", 2, 2),
        ("circles:6x6:25mm", 4, 4),
        ("acircles:4x11:20mm", 1, 1),
        ("acircles:4x10:20mm", 2, 2),
        ("charuco:7x5:25mm:18mm", 1, 1),
    ],
)
def test_how_many_ways_round_a_board_looks_the_same(spec: str, known: int, unknown: int) -> None:
    board = parse_board(spec)
    assert len(board.equivalent_orders(polarity_known=True)) == known
    assert len(board.equivalent_orders(polarity_known=False)) == unknown


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("chequers:3x4:20mm", "not understood"),
        ("checkerboard:10x7", "not understood"),
        ("checkerboard:10x7:20", "length"),
        ("checkerboard:3x7:20mm", "columns"),
        ("charuco:7x5:25mm:30mm", "below square_m"),
        ("charuco:7x5:25mm:20mm:DICT_NONE", "dictionary"),
        ("circles:7x5:25mm:1mm:3mm", "takes 2"),
    ],
)
def test_a_wrong_board_is_refused_with_the_reason(spec: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse_board(spec)


def test_a_board_file_says_the_same_as_the_short_form(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text("kind: checkerboard\ncolumns: 10\nrows: 7\nsquare_m: 0.02\n")
    assert (
        parse_board(str(path))
        == parse_board("checkerboard:10x7:20mm")
        == Checkerboard(columns=10, rows=7, square_m=0.02)
    )
    path.write_text("kind: checkerboard\ncolumns: 10\nrows: 7\nsquare: 20\n")
    with pytest.raises(ConfigError, match="square"):
        parse_board(str(path))


@pytest.mark.parametrize("spec", SPECS)
def test_svg_and_pdf_are_to_scale(spec: str) -> None:
    board = parse_board(spec)
    drawing = draw_board(board)
    root = ElementTree.fromstring(to_svg(drawing))
    assert root.get("width") == f"{drawing.width_mm:g}mm"
    assert root.get("viewBox") == f"0 0 {drawing.width_mm:g} {drawing.height_mm:g}"
    if spec.startswith("checkerboard"):
        assert any(abs(w - 20) < 1e-9 and abs(h - 20) < 1e-9 for _, _, w, h in drawing.rectangles)
    pdf = to_pdf(drawing)
    box = re.search(rb"MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", pdf)
    assert box is not None
    assert float(box[1]) / MM_TO_PT == pytest.approx(drawing.width_mm, abs=1e-3)
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF")
    start = int(pdf.split(b"startxref\n")[1].split(b"\n")[0])
    assert pdf[start : start + 4] == b"xref"
    assert any("100 mm" in text for *_, text in drawing.texts)


def test_drawn_marker_board_equals_its_texture() -> None:
    board = parse_board("charuco:5x4:20mm:15mm:DICT_4X4_50")
    drawing = draw_board(board, "exact")
    x0 = min(x for x, _, w, _ in drawing.rectangles if abs(w - 20) < 1e-9)
    y0 = min(y for _, y, w, _ in drawing.rectangles if abs(w - 20) < 1e-9)
    picture = np.ones((160, 200), np.float32)  # 2 texels a millimetre
    for x, y, w, h in drawing.rectangles:
        if y < y0 + 80:
            picture[round((y - y0) * 2) : round((y + h - y0) * 2), round((x - x0) * 2) : round((x + w - x0) * 2)] = 0
    assert np.mean(np.abs(picture - board.texture(2000.0)) > 0.5) < 0.02


def test_marker_bits_of_a_coarse_texture_lie_where_those_of_a_fine_one_do() -> None:
    """21 texels a square and 14 a marker: bits of 2.33 texels, which whole texels would put up to half a texel off."""
    board = parse_board("charuco:5x4:21mm:14mm:DICT_4X4_50")
    coarse, fine = board.texture(1000.0), board.texture(24000.0)
    averaged = fine.reshape(coarse.shape[0], 24, coarse.shape[1], 24).mean(axis=(1, 3))
    assert np.abs(coarse - averaged).mean() < 0.01 and np.abs(coarse - averaged).max() < 0.25


def test_cut_lines_notes_and_pages(tmp_path: Path) -> None:
    board = parse_board("acircles:4x11:28mm")
    assert "stroke" in to_svg(draw_board(board, cut_lines=True))
    assert "cut the holes" in notes_for(board)[0]
    with pytest.raises(BadInputError, match="Take page a3"):
        draw_board(board, "a4")
    with pytest.raises(BadInputError, match="must be one of"):
        draw_board(board, "letter")
    with pytest.raises(BadInputError, match=r"\.svg or \.pdf"):
        write_board(board, tmp_path / "board.png")
    write_board(board, tmp_path / "board.pdf")
    assert (tmp_path / "board.pdf").stat().st_size > 1000
