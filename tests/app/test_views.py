"""Composed views hold the right pictures at the right places."""

from __future__ import annotations

import numpy as np
import pytest

from app.view.views import FileView, compose, contact_sheet, grey_to_rgb, label, needs_fused
from fusion_core.errors import BadInputError

HEIGHT, WIDTH = 40, 60
VISIBLE = np.full((HEIGHT, WIDTH, 3), (200, 40, 10), np.uint8)
THERMAL = np.full((HEIGHT, WIDTH), 90, np.uint8)
FUSED = np.full((HEIGHT, WIDTH, 3), (5, 150, 60), np.uint8)


@pytest.mark.parametrize("view", list(FileView))
def test_sizes_are_those_announced(view: FileView) -> None:
    shown = compose(view, VISIBLE, THERMAL, FUSED)
    rows, columns = {FileView.SIDE_BY_SIDE: (1, 3), FileView.QUAD: (2, 2)}.get(view, (1, 1))
    assert shown.shape == (rows * HEIGHT, columns * WIDTH, 3) and shown.dtype == np.uint8


def test_single_views_are_the_pictures_themselves() -> None:
    assert compose(FileView.FUSED, VISIBLE, THERMAL, FUSED) is FUSED
    assert compose(FileView.VISIBLE, VISIBLE, THERMAL, None) is VISIBLE
    assert np.array_equal(compose(FileView.THERMAL, VISIBLE, THERMAL, None), np.dstack([THERMAL] * 3))
    assert [view for view in FileView if not needs_fused(view)] == [FileView.VISIBLE, FileView.THERMAL]


def test_panels_lie_where_they_should() -> None:
    row = compose(FileView.SIDE_BY_SIDE, VISIBLE, THERMAL, FUSED, labels=False)
    assert np.array_equal(row, np.hstack([VISIBLE, grey_to_rgb(THERMAL), FUSED]))
    quad = compose(FileView.QUAD, VISIBLE, THERMAL, FUSED, labels=False)
    assert np.array_equal(quad[:HEIGHT], row[:, : 2 * WIDTH])
    assert np.array_equal(quad[HEIGHT:, :WIDTH], FUSED)
    average = (VISIBLE.astype(float) + THERMAL[..., None]) / 2
    assert np.abs(quad[HEIGHT:, WIDTH:] - average).max() <= 0.5


def test_without_thermal_the_panel_is_black_and_visible_stands_in_for_fused() -> None:
    row = compose(FileView.SIDE_BY_SIDE, VISIBLE, None, None, labels=False)
    assert np.array_equal(row, np.hstack([VISIBLE, np.zeros_like(VISIBLE), VISIBLE]))


def test_labels_touch_their_corner_only_and_never_the_source() -> None:
    before = VISIBLE.copy()
    labelled = label(VISIBLE, "v")
    assert np.array_equal(VISIBLE, before)
    assert not np.array_equal(labelled[:20, :20], before[:20, :20])
    assert np.array_equal(labelled[HEIGHT // 2 :], before[HEIGHT // 2 :])


def test_other_sizes_are_refused() -> None:
    with pytest.raises(BadInputError, match="visible grid"):
        compose(FileView.QUAD, VISIBLE, THERMAL[1:], FUSED)
    with pytest.raises(BadInputError, match="fused is"):
        compose(FileView.SIDE_BY_SIDE, VISIBLE, THERMAL, FUSED[1:])


def test_contact_sheet_is_a_table() -> None:
    sheet = contact_sheet([("day", [VISIBLE, FUSED]), ("night", [FUSED, VISIBLE])], ["a", "b"], 120, 4)
    assert sheet.shape == (2 * 80 + 4, 2 * 120 + 4, 3)
    assert tuple(sheet[70, 60]) == (200, 40, 10) and tuple(sheet[70, 200]) == (5, 150, 60)
    assert tuple(sheet[82, 60]) == (24, 24, 24)  # the gap
    with pytest.raises(BadInputError, match="1 pictures for 2 columns"):
        contact_sheet([("day", [VISIBLE])], ["a", "b"])
    with pytest.raises(BadInputError, match="at least one row"):
        contact_sheet([], ["a"])
