"""The eight metrics against reference values and against cases whose answer is known."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_core.errors import BadInputError
from fusion_core.measures.metrics import METRIC_KEYS, MetricReference, evaluate

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "data" / "metrics_reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the reference images of the metrics are not beside this checkout (../shared/data)"
)


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def rows(table: str) -> list[dict[str, str]]:
    if not REFERENCE.is_dir():
        return []
    with (REFERENCE / table).open(newline="") as file:
        return list(csv.DictReader(file))


def check_row(row: dict[str, str], relative: float) -> None:
    result = evaluate(*(read(REFERENCE / row[name]) for name in ("fused", "visible", "infrared")))
    assert tuple(result) == METRIC_KEYS
    for key in METRIC_KEYS:
        if row[key] == "":
            continue
        wanted = float(row[key])
        if math.isnan(wanted):
            assert math.isnan(result[key]), f"{key} is {result[key]}, must be NaN"
        else:
            assert result[key] == pytest.approx(wanted, rel=relative, abs=1e-9), key


@needs_reference
@pytest.mark.parametrize("row", rows("reference.csv"), ids=lambda row: f"{row['pair']}-{row['method']}")
def test_agrees_with_the_original_code(row: dict[str, str]) -> None:
    check_row(row, relative=1e-5)


@needs_reference
@pytest.mark.parametrize("row", rows("edge_cases.csv"), ids=lambda row: row["pair"])
def test_agrees_with_the_original_code_at_the_edges(row: dict[str, str]) -> None:
    check_row(row, relative=1e-5)


@needs_reference
@pytest.mark.parametrize("row", rows("reference_matlab.csv"), ids=lambda row: f"{row['pair']}-{row['method']}")
def test_agrees_with_the_published_values(row: dict[str, str]) -> None:
    check_row(row, relative=1e-4)


def scene(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_known_answers_of_a_picture_fused_with_itself() -> None:
    picture = scene(1, (64, 96))
    result = evaluate(picture, picture, picture)
    assert result["ce"] == 0.0
    assert result["qcv"] == 0.0
    assert result["ssim"] == pytest.approx(2.0)
    assert result["qcb"] == pytest.approx(1.0)
    assert result["mi"] == pytest.approx(2.0 * result["en"] * math.log(2.0))  # nats against bits
    assert result["sd"] == pytest.approx(picture.std())


def test_known_answers_of_two_levels() -> None:
    half = np.zeros((32, 32), np.uint8)
    half[:, 16:] = 100
    result = evaluate(half, half, half.T.copy())
    assert result["en"] == 1.0
    assert result["sd"] == 50.0
    assert result["mi"] == pytest.approx(math.log(2.0))  # one bit from the visible, none from the crossed thermal
    assert result["ce"] == 0.0


def test_three_channels_are_measured_one_by_one_and_averaged() -> None:
    visible, fused = scene(2, (48, 50, 3)), scene(3, (48, 50, 3))
    thermal = scene(4, (48, 50))
    whole = evaluate(fused, visible, thermal)
    parts = [evaluate(fused[..., k], visible[..., k], thermal) for k in range(3)]
    for key in METRIC_KEYS:
        assert whole[key] == pytest.approx(sum(part[key] for part in parts) / 3, rel=1e-12)


def test_a_plane_stands_in_for_all_channels() -> None:
    fused, plane = scene(5, (40, 40, 3)), scene(6, (40, 40))
    assert evaluate(fused, plane, plane) == evaluate(fused, np.dstack([plane] * 3), np.dstack([plane] * 3))
    assert evaluate(fused, plane[..., None], plane) == evaluate(fused, plane, plane)


def test_one_reference_measures_several_pictures_as_if_alone() -> None:
    visible, thermal = scene(7, (40, 52, 3)), scene(8, (40, 52))
    reference = MetricReference(visible, thermal)
    for fused in (scene(9, (40, 52, 3)), scene(10, (40, 52)), scene(11, (40, 52, 3))):
        assert reference.evaluate(fused) == evaluate(fused, visible, thermal)


def test_the_inputs_are_left_as_they_were() -> None:
    pictures = [scene(seed, (40, 40, 3)) for seed in (1, 2, 3)]
    before = [picture.copy() for picture in pictures]
    for picture in pictures:
        picture.flags.writeable = False
    evaluate(*pictures)
    assert all(np.array_equal(a, b) for a, b in zip(pictures, before, strict=True))


@pytest.mark.parametrize(
    ("fused", "visible", "thermal", "word"),
    [
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8), "thermal picture is 8x9"),
        (np.zeros((9, 8), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), "fused picture is 9x8"),
        (np.zeros((8, 8), float), np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), "float64"),
        (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), "(8, 8, 4)"),
        (np.zeros((0, 8), np.uint8), np.zeros((0, 8), np.uint8), np.zeros((0, 8), np.uint8), "no pixels"),
    ],
)
def test_refuses_what_it_cannot_measure(fused: np.ndarray, visible: np.ndarray, thermal: np.ndarray, word: str) -> None:
    with pytest.raises(BadInputError) as caught:
        evaluate(fused, visible, thermal)
    assert word in str(caught.value)
