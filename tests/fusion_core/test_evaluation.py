"""The study over pairs and displacements: its bookkeeping, and the figures known for the classical methods."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_core.colour import luminance
from fusion_core.engines.pyramid_engine import AverageEngine, LaplacianPyramidEngine, NccPyramidEngine
from fusion_core.errors import BadInputError
from fusion_core.measures.displacement import field, uniform
from fusion_core.measures.evaluation import (
    VALUE_KEYS,
    WELL_ALIGNED_VIFB,
    EvaluationPair,
    evaluate_engine,
    load_pairs,
    measure,
    read_measured,
    summarize,
)
from fusion_core.measures.metrics import METRIC_KEYS, evaluate

VIFB = Path(__file__).parents[2] / ".." / "shared" / "data" / "pairs" / "vifb"


def pair(seed: int, height: int = 96, width: int = 128) -> EvaluationPair:
    rng = np.random.default_rng(seed)
    planes = [128 + 300 * cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 3) for _ in range(4)]
    levels = [np.clip(plane, 0, 255).astype(np.uint8) for plane in planes]
    return EvaluationPair(f"pair{seed}", np.dstack(levels[:3]), levels[3])


def visible_only(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    return visible.copy()


def test_one_row_for_each_pair_and_displacement_in_order() -> None:
    seen = []
    rows = evaluate_engine(AverageEngine(), [pair(1), pair(2)], [uniform(0), uniform(3), field(3)], on_row=seen.append)
    assert [(row.stem, row.displacement.label) for row in rows] == [
        (stem, label) for stem in ("pair1", "pair2") for label in ("0 px", "3 px", "field 3 px")
    ]
    assert seen == rows
    assert all(tuple(row.values) == VALUE_KEYS and row.fuse_ms > 0 for row in rows)


def test_measures_the_luminance_against_the_aligned_thermal_picture() -> None:
    one = pair(3)
    row = evaluate_engine(visible_only, [one], [uniform(5)])[0]
    y = luminance(one.visible)
    assert {key: row.values[key] for key in METRIC_KEYS} == evaluate(y, y, one.thermal)  # smaller than the window
    assert row.values["g_visible"] == pytest.approx(1.0)
    assert row.values["g_thermal"] == pytest.approx(0.0, abs=1e-9)
    assert row.values["g_ghost"] == pytest.approx(0.0, abs=1e-9)


def test_only_the_central_window_counts() -> None:
    one = pair(4, 300, 400)
    spoiled = one.visible.copy()

    def with_spoiled_border(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        spoiled[:] = visible
        spoiled[:20] = spoiled[-20:] = 0
        spoiled[:, :38] = spoiled[:, -38:] = 255
        return spoiled

    clean = evaluate_engine(visible_only, [one], [uniform(0)])[0]
    border = evaluate_engine(with_spoiled_border, [one], [uniform(0)])[0]
    assert str(clean.values) == str(border.values)


def test_an_average_is_half_ghost_at_every_displacement_and_none_at_zero() -> None:
    rows = evaluate_engine(AverageEngine(), [pair(5), pair(6)], [uniform(0), uniform(8), field(8)])
    aligned, *moved = summarize(rows)
    assert aligned.values["g_thermal"] == pytest.approx(0.5, abs=0.02)
    assert math.isnan(aligned.values["g_ghost"])
    for summary in moved:
        assert summary.pairs == 2
        assert summary.values["g_thermal"] == pytest.approx(0.0, abs=0.03)
        assert summary.values["g_ghost"] == pytest.approx(0.5, abs=0.03)
        assert summary.values["ghost_share"] == pytest.approx(1.0, abs=0.06)


def test_means_over_a_subset() -> None:
    rows = evaluate_engine(AverageEngine(), [pair(7), pair(8), pair(9)], [uniform(0)])
    (summary,) = summarize(rows, ["pair7", "pair9"])
    assert summary.pairs == 2
    assert summary.values["sd"] == pytest.approx((rows[0].values["sd"] + rows[2].values["sd"]) / 2)
    assert summarize(rows, ["other"]) == []


def test_an_engine_is_reset_before_every_picture() -> None:
    class Counting(AverageEngine):
        resets = 0

        def reset(self) -> None:
            self.resets += 1

    engine = Counting()
    evaluate_engine(engine, [pair(11)], [uniform(0), uniform(3)])
    assert engine.resets == 2


def test_refuses_nothing_to_do_and_wrong_results() -> None:
    with pytest.raises(BadInputError, match="no displacements"):
        evaluate_engine(visible_only, [pair(1)], [])
    with pytest.raises(BadInputError, match="no pairs"):
        evaluate_engine(visible_only, [], [uniform(0)])
    with pytest.raises(BadInputError, match="fused picture of pair1"):
        evaluate_engine(lambda visible, thermal: thermal, [pair(1)], [uniform(0)])


def write_pairs(root: Path, pairs: list[EvaluationPair], thermal_scale: int = 1) -> None:
    for folder in ("vi", "ir"):
        (root / folder).mkdir(parents=True)
    for one in pairs:
        cv2.imwrite(str(root / "vi" / f"{one.stem}.png"), one.visible[..., ::-1])
        thermal = one.thermal if thermal_scale == 1 else one.thermal.astype(np.uint16) * thermal_scale
        cv2.imwrite(str(root / "ir" / f"{one.stem}.png"), thermal)


def test_reads_pairs_by_name(tmp_path: Path) -> None:
    write_pairs(tmp_path, [pair(2), pair(1), pair(3)])
    assert [one.stem for one in load_pairs(tmp_path)] == ["pair1", "pair2", "pair3"]
    assert [one.stem for one in load_pairs(tmp_path, limit=2)] == ["pair1", "pair2"]
    (one,) = load_pairs(tmp_path, stems=["pair3"])
    assert np.array_equal(one.visible, pair(3).visible)
    assert np.array_equal(one.thermal, pair(3).thermal)
    with pytest.raises(BadInputError, match="no pair called other"):
        list(load_pairs(tmp_path, stems=["pair1", "other"]))


def test_sixteen_bit_thermal_goes_through_the_agc(tmp_path: Path) -> None:
    write_pairs(tmp_path, [pair(1)], thermal_scale=100)
    (one,) = load_pairs(tmp_path)
    assert one.thermal.dtype == np.uint8
    assert one.thermal.std() > 20


def test_names_the_pair_whose_sizes_differ(tmp_path: Path) -> None:
    odd = pair(1)
    write_pairs(tmp_path, [EvaluationPair("odd", odd.visible, odd.thermal[:50])])
    with pytest.raises(BadInputError, match="pair odd"):
        list(load_pairs(tmp_path))


def test_finished_pictures_keep_their_channels(tmp_path: Path) -> None:
    one = pair(12)
    cv2.imwrite(str(tmp_path / "grey.png"), one.thermal)
    cv2.imwrite(str(tmp_path / "colour.png"), one.visible[..., ::-1])
    cv2.imwrite(str(tmp_path / "counts.png"), one.thermal.astype(np.uint16) * 256)
    assert np.array_equal(read_measured(tmp_path / "grey.png"), one.thermal)
    assert np.array_equal(read_measured(tmp_path / "colour.png"), one.visible)
    assert read_measured(tmp_path / "counts.png").shape == one.thermal.shape
    assert read_measured(tmp_path / "counts.png", counts=True).dtype == np.uint8
    with pytest.raises(BadInputError):
        read_measured(tmp_path / "missing.png")


def test_measures_finished_pictures_whole_and_by_channel() -> None:
    one = pair(13)
    values = measure(one.visible, one.visible, one.thermal)
    assert {key: values[key] for key in METRIC_KEYS} == evaluate(one.visible, one.visible, one.thermal)
    assert values["g_visible"] == pytest.approx(1.0)
    assert math.isnan(values["g_ghost"])


@pytest.mark.skipif(not VIFB.is_dir(), reason="the VIFB pairs are not beside this checkout (../shared/data)")
def test_known_figures_of_the_classical_methods() -> None:
    """Means over the ten well-aligned VIFB pairs, measured independently with other code, at 0 and 8 px."""
    known = {
        AverageEngine: {"qabf": (0.418, 0.313), "ssim": (1.424, 1.144), "g_thermal": (0.500, 0.0), "g_ghost": 0.500},
        LaplacianPyramidEngine: {
            "qabf": (0.586, 0.451),
            "ssim": (1.350, 1.041),
            "g_visible": (0.89, 0.91),
            "g_thermal": (0.695, -0.01),
            "g_ghost": 0.797,
        },
        NccPyramidEngine: {
            "qabf": (0.541, 0.537),
            "ssim": (1.307, 1.307),
            "g_visible": (0.89, 0.90),
            "g_ghost": -0.009,
        },
    }
    pairs = list(load_pairs(VIFB, stems=WELL_ALIGNED_VIFB))
    assert len(pairs) == 10
    for make, figures in known.items():
        aligned, moved = summarize(evaluate_engine(make(), pairs, [uniform(0), uniform(8)]))
        for key, wanted in figures.items():
            if isinstance(wanted, tuple):
                # Known to two or three digits, from luminance fused without the clipping of colours.
                tolerance = 0.02 if key == "g_visible" else 0.01
                assert aligned.values[key] == pytest.approx(wanted[0], abs=tolerance), (make, key)
                assert moved.values[key] == pytest.approx(wanted[1], abs=tolerance), (make, key)
            else:
                assert moved.values[key] == pytest.approx(wanted, abs=0.012), (make, key)
    pyramid = summarize(evaluate_engine(LaplacianPyramidEngine(), pairs, [uniform(0)]))[0].values
    assert (pyramid["en"], pyramid["sd"]) == (pytest.approx(7.16, abs=0.02), pytest.approx(45.8, abs=0.4))
