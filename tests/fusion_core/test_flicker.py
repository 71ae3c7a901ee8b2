"""The flicker measure on videos whose flicker is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from fusion_core.engines.pyramid_engine import fuse_pyramid
from fusion_core.errors import BadInputError
from fusion_core.measures.flicker import FlickerMeter, measure_flicker

HEIGHT, WIDTH, FRAMES = 120, 160, 60
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def levels(values: np.ndarray) -> np.ndarray:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def scene(moving: bool, noise_levels: float = 2.0, frames: int = FRAMES) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A static texture with sensor noise in both; if moving, a hot person walks through and a light blinks."""
    rng = np.random.default_rng(0)
    texture = [100 + 200 * cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH)), (0, 0), 3) for _ in range(2)]
    for n in range(frames):
        visible, thermal = (plane + rng.normal(scale=noise_levels, size=plane.shape) for plane in texture)
        if moving:
            visible[40:90, 10 + 2 * n : 24 + 2 * n] = 60
            thermal[40:90, 10 + 2 * n : 24 + 2 * n] = 220
            visible[:20, 120:140] += 80 * (n % 2)
        yield levels(visible), levels(thermal)


def average(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(visible, 0.5, thermal, 0.5, 0.25)


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("fuse", [average, lambda v, t: v, lambda v, t: t, np.maximum])
def test_a_steady_fusion_does_not_flicker(fuse, moving: bool) -> None:  # type: ignore[no-untyped-def]
    result = measure_flicker((fuse(v, t), v, t) for v, t in scene(moving))
    assert result.frames == FRAMES
    assert result.unexplained_levels < (0.6 if moving else 0.1)
    assert result.background_sigma_levels < 0.05
    assert result.static_share > 0.7


def test_the_pyramid_flickers_a_little_where_noise_decides_between_the_sources() -> None:
    result = measure_flicker((fuse_pyramid(v, t), v, t) for v, t in scene(moving=False))
    assert 0.2 < result.unexplained_levels < 1.0
    assert result.background_sigma_levels < 0.1


@pytest.mark.parametrize("sigma_levels", [1.0, 4.0])
def test_finds_a_known_flicker_of_the_whole_picture(sigma_levels: float) -> None:
    offsets = np.random.default_rng(1).normal(scale=sigma_levels, size=400)
    frames = zip(scene(moving=False, noise_levels=1.0, frames=400), offsets, strict=True)
    result = measure_flicker((levels(average(v, t) + offset), v, t) for (v, t), offset in frames)
    assert result.background_sigma_levels == pytest.approx(sigma_levels, rel=0.15)
    assert result.unexplained_levels == pytest.approx(math.sqrt(2) * sigma_levels, rel=0.25)
    assert result.unexplained_share > 0.7


def test_finds_the_step_of_a_single_jump_in_a_part_of_the_picture() -> None:
    def jumping() -> Iterator[Triple]:
        for n, (visible, thermal) in enumerate(scene(moving=False)):
            fused = average(visible, thermal)
            if n >= 37:
                fused[:60, :80] += 20
            yield fused, visible, thermal

    result = measure_flicker(jumping())
    assert result.worst_step == 37
    # A quarter of the picture, once in 59 steps, by 20 levels; noise explains a little of it.
    assert result.unexplained_levels == pytest.approx(20 * math.sqrt(0.25 / (FRAMES - 1)), rel=0.1)


def test_stretching_each_picture_to_its_own_range_flickers() -> None:
    def stretched(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        return cv2.normalize(average(visible, thermal), None, 0, 255, cv2.NORM_MINMAX)

    plain = measure_flicker((average(v, t), v, t) for v, t in scene(moving=False))
    result = measure_flicker((stretched(v, t), v, t) for v, t in scene(moving=False))
    assert result.background_sigma_levels > 1.0
    assert result.unexplained_levels > 10 * plain.unexplained_levels


def test_a_choice_that_flips_between_the_sources_flickers() -> None:
    result = measure_flicker(((v, t)[n % 2], v, t) for n, (v, t) in enumerate(scene(moving=False)))
    assert result.unexplained_share > 0.9


def test_a_still_video_has_none_and_a_single_frame_cannot_tell() -> None:
    picture = np.full((32, 32), 90, np.uint8)
    still = measure_flicker([(picture, picture, picture)] * 3)
    assert (still.unexplained_levels, still.unexplained_share, still.background_sigma_levels) == (0.0, 0.0, 0.0)
    assert still.worst_step == -1
    assert math.isnan(measure_flicker([(picture, picture, picture)]).unexplained_levels)


def test_no_background_is_said_so() -> None:
    pictures = [np.full((32, 32), 20 * n, np.uint8) for n in range(5)]
    result = measure_flicker((picture, picture, picture) for picture in pictures)
    assert result.static_share == 0.0
    assert math.isnan(result.background_sigma_levels)
    assert result.unexplained_levels == 0.0


def test_refuses_sizes_that_differ() -> None:
    meter = FlickerMeter()
    with pytest.raises(BadInputError, match="one size"):
        meter.add(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), np.zeros((32, 40), np.uint8))
    meter.add(*[np.zeros((32, 32), np.uint8)] * 3)
    with pytest.raises(BadInputError, match="frames before"):
        meter.add(*[np.zeros((40, 32), np.uint8)] * 3)
    with pytest.raises(BadInputError, match="at least 8x8"):
        FlickerMeter().add(*[np.zeros((4, 32), np.uint8)] * 3)
