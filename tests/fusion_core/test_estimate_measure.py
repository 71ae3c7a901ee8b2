"""What `lumitherm evaluate --estimate` measures, with estimates whose errors are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusion_core.errors import BadInputError
from fusion_core.measures.displacement import displace, field, uniform
from fusion_core.measures.estimate import (
    RigMoment,
    affine_deviation,
    local_peaks,
    pair_errors,
    peak_distance,
    rig_errors,
)
from fusion_core.measures.evaluation import EvaluationPair
from fusion_core.shift import translate

Field = np.ndarray


@pytest.fixture
def pair() -> EvaluationPair:
    """192x256, thermal the visible picture's negative."""
    plane = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(192, 256)), (0, 0), 2)
    visible = np.clip(128 + 250 * plane, 0, 255).astype(np.uint8)
    return EvaluationPair("noise", np.repeat(visible[..., None], 3, axis=2), 255 - visible)


def constant(dx_px: float, dy_px: float):  # type: ignore[no-untyped-def]
    """An estimate that sees nothing."""

    def estimate(visible: np.ndarray, thermal: np.ndarray) -> tuple[Field, Field]:
        rows, columns = -(-visible.shape[0] // 8), -(-visible.shape[1] // 8)
        field_px = np.empty((2, rows, columns), np.float32)
        field_px[0], field_px[1] = dx_px, dy_px
        return field_px, np.zeros((1, rows, columns), np.float32)

    return estimate


def test_an_estimate_that_stays_misses_all_that_was_moved(pair: EvaluationPair) -> None:
    found = pair_errors(constant(1.0, -2.0), [pair], [uniform(3), field(5)])
    np.testing.assert_allclose(found.following_px[uniform(3)], 3 * np.sqrt(2), atol=0.05)
    assert 1.0 < np.median(found.following_px[field(5)]) <= 5.0
    assert found.affine_px.max() < 0.05


def test_an_estimate_that_knows_the_displacement_follows(pair: EvaluationPair) -> None:
    thermal = {displace(pair.thermal, moved, pair.stem).tobytes(): moved for moved in (uniform(0), uniform(4))}

    def knows(visible: np.ndarray, given: np.ndarray) -> tuple[Field, Field]:
        size = thermal[given.tobytes()].size_px
        return constant(size, size)(visible, given)

    assert pair_errors(knows, [pair], [uniform(4)]).following_px[uniform(4)].max() < 0.05


def test_clear_peaks_lie_where_the_thermal_picture_was_moved_to(pair: EvaluationPair) -> None:
    peaks = local_peaks(pair.visible[..., 0], translate(pair.thermal, 3.0, -2.0))
    assert len(peaks.x_px) >= 5
    truth = np.empty((2, 192, 256), np.float32)
    truth[0], truth[1] = 3.0, -2.0
    assert peak_distance(truth, peaks).max() < 0.1
    assert peak_distance(truth * 0, peaks).min() > 3.0


def test_a_bump_departs_from_the_affine_map_around_it() -> None:
    ys, xs = np.mgrid[0:192, 0:256].astype(np.float32)
    bump = 4.0 * np.exp(-((xs - 128) ** 2 + (ys - 96) ** 2) / 200)
    found = affine_deviation(np.stack((1.0 + 0.02 * xs - 0.01 * ys + bump, 0.03 * ys)))
    assert found.max() == pytest.approx(4.0, abs=0.1)
    assert np.median(found) < 0.02


def test_errors_of_a_rig_are_of_all_pixels_and_of_depth_edges_apart(pair: EvaluationPair) -> None:
    true_px = np.zeros((2, 192, 256), np.float32)
    true_px[0, :, 128:] = 2.0
    near = np.zeros((192, 256), bool)
    near[:, 120:136] = True
    moments = [RigMoment(pair.visible[..., 0], pair.thermal, true_px, near)] * 22
    found = rig_errors(constant(0.0, 0.0), moments, standing=True)
    assert np.median(found.off_px[found.off_px > 0.05]) == pytest.approx(2.0, abs=0.05)
    assert np.mean(found.edge_px > 1.0) == pytest.approx(0.5, abs=0.1)
    assert found.noise_px is not None and found.noise_px.max() < 1e-3
    with pytest.raises(ValueError, match="20"):
        rig_errors(constant(0.0, 0.0), moments[:5], standing=True)


def test_small_pairs_are_refused() -> None:
    small = EvaluationPair("small", np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))
    with pytest.raises(BadInputError, match="112x112"):
        pair_errors(constant(0.0, 0.0), [small], [uniform(1)])
