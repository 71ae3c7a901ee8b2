"""What engines are given outside the thermal field: the visible picture, without a step at the border."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusion_core.engines.pyramid_engine import LaplacianPyramidEngine
from fusion_core.errors import BadInputError
from fusion_core.thermal.field_of_view import FEATHER_PX, FieldFiller

SIZE = (240, 320)


def field(angle_deg: float = 3.0) -> np.ndarray:
    """A turned rectangle, so that its border crosses cells."""
    inside = np.zeros(SIZE, np.uint8)
    box = cv2.boxPoints(((170.0, 115.0), (180.0, 130.0), angle_deg))
    cv2.fillPoly(inside, [np.rint(box).astype(np.int32)], 1)
    return inside.astype(bool)


def scene(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)
    return cv2.convertScaleAbs(cv2.GaussianBlur(noise, (0, 0), 4), alpha=1.5, beta=-70)


def test_thermal_stays_as_it_is_and_far_away_the_visible_picture_does() -> None:
    seen, luminance = field(), scene()
    levels = np.where(seen, scene(1), 0).astype(np.uint8)
    whole = FieldFiller(seen).fill(levels, luminance)
    away_px = cv2.distanceTransform((~seen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert np.array_equal(whole[seen], levels[seen])
    far = away_px > FEATHER_PX + 8
    assert far.sum() > 5000 and np.array_equal(whole[far], luminance[far])


def test_a_difference_of_level_fades_instead_of_making_a_step() -> None:
    seen = field(0.0)
    luminance = np.full(SIZE, 100, np.uint8)
    levels = np.where(seen, 180, 0).astype(np.uint8)
    whole = FieldFiller(seen).fill(levels, luminance).astype(int)
    plain = np.where(seen, levels, luminance).astype(int)
    middle = 115  # a row through the field, its right border at 260
    assert np.abs(np.diff(plain[middle])).max() == 80
    assert np.abs(np.diff(whole[middle])).max() <= 4
    outside = whole[middle, 262:]
    assert outside[0] >= 175 and outside[-1] == 100 and (np.diff(outside) <= 0).all()
    assert whole.max() == 180 and whole.min() == 100  # nothing beyond the two levels
    engine = LaplacianPyramidEngine()
    visible = np.repeat(luminance[..., None], 3, axis=2)
    fused = [engine.fuse(visible, thermal.astype(np.uint8)).astype(int) for thermal in (plain, whole)]
    steps = [np.abs(np.diff(picture[middle, :, 0])) for picture in fused]
    assert steps[0].max() >= 20 and steps[1].max() <= 3


def test_detail_beside_the_field_is_that_of_the_visible_picture() -> None:
    seen, luminance = field(), scene()
    levels = np.where(seen, np.clip(scene(1).astype(int) + 40, 0, 255), 0).astype(np.uint8)
    whole = FieldFiller(seen).fill(levels, luminance)
    outside = cv2.erode((~seen).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    pictures = (whole.astype(float), luminance.astype(float))
    detail = [picture - cv2.GaussianBlur(picture, (0, 0), 2) for picture in pictures]
    free = outside & (whole > 0) & (whole < 255)
    assert np.abs(detail[0] - detail[1])[free].max() < 3
    assert detail[1][free].std() > 1


@pytest.mark.parametrize("size", [(240, 320), (61, 83), (9, 300)])
def test_as_matrices_it_gives_the_same(size: tuple[int, int]) -> None:
    seen = np.zeros(size, bool)
    seen[size[0] // 8 : -(size[0] // 6) or None, size[1] // 5 : -(size[1] // 9)] = True
    rng = np.random.default_rng(1)
    luminance = rng.integers(0, 256, size, dtype=np.uint8)
    levels = np.where(seen, rng.integers(0, 256, size), 0).astype(np.uint8)
    filler = FieldFiller(seen)
    m = filler.matrices()
    difference = np.where(seen, levels.astype(np.float32) - luminance, 0)
    offset = m.up_y @ ((m.down_y @ difference @ m.down_x.T) * m.gain) @ m.up_x.T
    wanted = np.where(seen, levels, np.clip(np.rint(luminance + offset), 0, 255))
    assert np.abs(filler.fill(levels, luminance) - wanted).max() <= 1


def test_a_whole_and_an_empty_field() -> None:
    luminance, levels = scene(), scene(1)
    everything = FieldFiller(np.ones(SIZE, bool))
    assert everything.whole and everything.fill(levels, luminance) is levels
    assert np.array_equal(FieldFiller(np.zeros(SIZE, bool)).fill(levels, luminance), luminance)


def test_refuses_other_sizes() -> None:
    with pytest.raises(BadInputError, match="field of view"):
        FieldFiller(np.zeros((4, 4, 1), bool))
    with pytest.raises(BadInputError, match="height, width"):
        FieldFiller(field()).fill(np.zeros((4, 4), np.uint8), scene())
