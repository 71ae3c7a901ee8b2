"""The thermal AGC: properties of every mode, flicker, step response, and the contract a checkpoint stores."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from fusion_core.errors import BadInputError, ConfigError
from fusion_core.thermal import agc_modes
from fusion_core.thermal.agc import Agc, AgcConfig, AgcMode, Polarity, contract_differences, contract_of

FRAME_S = 1.0 / 30.0
GLOBAL_MODES = [AgcMode.LINEAR, AgcMode.PERCENTILE, AgcMode.PLATEAU, AgcMode.MANUAL]
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def make_config(mode: AgcMode, **more: object) -> AgcConfig:
    if mode is AgcMode.MANUAL:
        more = {"manual_low": 7000, "manual_high": 9000, **more}
    return AgcConfig.model_validate({"mode": mode, **more})


def frames(dtype: type = np.uint16) -> st.SearchStrategy[np.ndarray]:
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
    top = np.iinfo(dtype).max
    narrow = st.integers(0, top - 40).flatmap(lambda low: hnp.arrays(dtype, shape, elements=st.integers(low, low + 40)))
    return st.one_of(hnp.arrays(dtype, shape), narrow)


def noisy_scene(rng: np.random.Generator, hot: bool = False, sigma: float = 3.0) -> np.ndarray:
    """A textured background of about 200 counts with sensor noise; 5 % of the area is hot if asked."""
    height, width = 256, 320
    rows, columns = np.mgrid[0:height, 0:width]
    scene = 8000.0 + 60.0 * np.sin(rows / 17.0) + 50.0 * np.cos(columns / 23.0) + 0.1 * rows
    if hot:
        side = round((0.05 * height * width) ** 0.5)
        scene[100 : 100 + side, 120 : 120 + side] = 11000.0 + 3.0 * columns[100 : 100 + side, 120 : 120 + side]
    return np.clip(np.rint(scene + rng.normal(0.0, sigma, scene.shape)), 0, 65535).astype(np.uint16)


BACKGROUND = (slice(0, 90), slice(0, 320))


@pytest.mark.parametrize("mode", list(AgcMode))
@quick
@given(
    counts=st.one_of(frames(np.uint16), frames(np.uint8)), black_hot=st.booleans(), detail=st.sampled_from([0.0, 0.5])
)
def test_any_frame_gives_an_8bit_picture_of_its_shape_the_same_each_time(
    mode: AgcMode, counts: np.ndarray, black_hot: bool, detail: float
) -> None:
    polarity = Polarity.BLACK_HOT if black_hot else Polarity.WHITE_HOT
    config = make_config(mode, polarity=polarity, detail=detail, apply_to_8bit=True)
    before = counts.copy()
    agc = Agc(config)
    first = agc.apply(counts, FRAME_S)
    assert first.dtype == np.uint8
    assert first.shape == counts.shape
    np.testing.assert_array_equal(counts, before)
    np.testing.assert_array_equal(Agc(config).apply(counts, FRAME_S), first)
    agc.apply(np.flip(counts).copy(), FRAME_S)
    agc.reset()
    np.testing.assert_array_equal(agc.apply(counts, FRAME_S), first)
    low, high = agc.limits
    assert np.isfinite([low, high]).all()
    assert low <= high


@pytest.mark.parametrize("mode", GLOBAL_MODES)
@quick
@given(counts=frames(), black_hot=st.booleans())
def test_hotter_is_never_darker(mode: AgcMode, counts: np.ndarray, black_hot: bool) -> None:
    polarity = Polarity.BLACK_HOT if black_hot else Polarity.WHITE_HOT
    levels = Agc(make_config(mode, polarity=polarity)).apply(counts)
    order = np.argsort(counts.ravel(), kind="stable")
    steps = np.diff(levels.ravel()[order].astype(int))
    assert (steps <= 0).all() if black_hot else (steps >= 0).all()


@quick
@given(first=frames(), second=frames(), third=frames(), mode=st.sampled_from([AgcMode.PLATEAU, AgcMode.PERCENTILE]))
def test_damped_mapping_stays_monotone_and_in_range(
    first: np.ndarray, second: np.ndarray, third: np.ndarray, mode: AgcMode
) -> None:
    agc = Agc(make_config(mode, immediate_change=None))
    agc.apply(first, FRAME_S)
    agc.apply(second, FRAME_S)
    levels = agc.apply(third, FRAME_S)
    order = np.argsort(third.ravel(), kind="stable")
    assert (np.diff(levels.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("mode", [AgcMode.LINEAR, AgcMode.PERCENTILE, AgcMode.PLATEAU])
@quick
@given(counts=frames())
def test_full_range_is_used_when_the_gain_allows(mode: AgcMode, counts: np.ndarray) -> None:
    if int(counts.max()) - int(counts.min()) < 2:
        return
    config = make_config(mode, max_gain=255.0, tail_low_percent=0.0, tail_high_percent=0.0)
    levels = Agc(config).apply(counts)
    assert levels.min() == 0
    assert levels.max() == 255


@pytest.mark.parametrize("mode", [AgcMode.LINEAR, AgcMode.PERCENTILE, AgcMode.PLATEAU])
@quick
@given(counts=frames(), gain=st.floats(0.1, 50.0))
def test_no_two_neighbouring_counts_are_further_apart_than_max_gain(
    mode: AgcMode, counts: np.ndarray, gain: float
) -> None:
    agc = Agc(make_config(mode, max_gain=gain))
    agc.apply(counts)
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert agc._table is not None
    levels = agc_modes.apply_table(ramp, agc._table, black_hot=False).ravel().astype(int)
    assert np.diff(levels).max() <= int(np.ceil(gain + 1e-3))


@pytest.mark.parametrize("mode", [AgcMode.LINEAR, AgcMode.PERCENTILE, AgcMode.PLATEAU])
@pytest.mark.parametrize("value", [0, 1, 8000, 65534, 65535])
def test_constant_frame_is_mid_grey_where_the_scale_allows(mode: AgcMode, value: int) -> None:
    levels = Agc(make_config(mode)).apply(np.full((20, 30), value, np.uint16))
    assert (levels == 127).all()


def test_linear_and_manual_give_known_levels() -> None:
    counts = np.array([[1000, 1255, 1510]], np.uint16)
    np.testing.assert_array_equal(Agc(AgcConfig(mode=AgcMode.LINEAR)).apply(counts), [[0, 128, 255]])
    manual = Agc(AgcConfig(mode=AgcMode.MANUAL, manual_low=1000, manual_high=2000))
    np.testing.assert_array_equal(
        manual.apply(np.array([[0, 1000, 1500, 2000, 65535]], np.uint16)), [[0, 0, 128, 255, 255]]
    )
    assert manual.limits == (1000.0, 2000.0)


def test_percentile_ignores_dead_and_hot_pixels() -> None:
    counts = np.linspace(7000, 8000, 40_000).astype(np.uint16).reshape(200, 200)
    counts[0, 0], counts[5, 5] = 0, 65535
    agc = Agc(AgcConfig(mode=AgcMode.PERCENTILE, tail_low_percent=0.5, tail_high_percent=0.5))
    levels = agc.apply(counts)
    assert agc.limits == pytest.approx((7005, 7995), abs=2)
    assert levels[0, 0] == 0
    assert levels[5, 5] == 255
    assert levels[100, 0] == pytest.approx(127.5, abs=2)


def test_plateau_gives_a_crowded_background_more_levels_than_linear() -> None:
    counts = noisy_scene(np.random.default_rng(1), hot=True)
    plateau = Agc(AgcConfig()).apply(counts)[BACKGROUND]
    linear = Agc(AgcConfig(mode=AgcMode.LINEAR)).apply(counts)[BACKGROUND]
    assert plateau.std() > 3.0 * linear.std()


def test_8bit_frames_pass_through_unless_asked() -> None:
    counts = np.random.default_rng(2).integers(90, 140, (40, 50), dtype=np.uint8)
    agc = Agc()
    levels = agc.apply(counts)
    np.testing.assert_array_equal(levels, counts)
    assert levels is not counts
    assert levels.base is None
    np.testing.assert_array_equal(Agc(AgcConfig(polarity=Polarity.BLACK_HOT)).apply(counts), 255 - counts)
    asked = Agc(AgcConfig(mode=AgcMode.LINEAR, apply_to_8bit=True, max_gain=255.0)).apply(counts)
    assert (asked.min(), asked.max()) == (0, 255)


@pytest.mark.parametrize("mode", list(AgcMode))
def test_static_noisy_scene_does_not_flicker(mode: AgcMode) -> None:
    rng = np.random.default_rng(3)
    agc = Agc(make_config(mode))
    means = [agc.apply(noisy_scene(rng), FRAME_S)[BACKGROUND].mean() for _ in range(60)]
    assert np.std(means[5:]) <= 0.5


def test_hot_object_moves_the_background_slowly_and_settles_within_a_second() -> None:
    rng = np.random.default_rng(4)
    agc = Agc(AgcConfig())
    for _ in range(20):
        before = agc.apply(noisy_scene(rng), FRAME_S)[BACKGROUND].mean()
    means = [before]
    for _ in range(90):
        levels = agc.apply(noisy_scene(rng, hot=True), FRAME_S)
        means.append(levels[BACKGROUND].mean())
    assert np.abs(np.diff(means)).max() <= 2.0
    assert abs(means[30] - means[-1]) <= 1.5  # of 25 levels
    side = round((0.05 * 256 * 320) ** 0.5)
    assert levels[100 : 100 + side, 120 : 120 + side].mean() > levels[BACKGROUND].mean() + 60.0


def test_immediate_mode_follows_in_one_frame() -> None:
    rng = np.random.default_rng(5)
    agc = Agc(AgcConfig(damping_s=0.0))
    for _ in range(5):
        agc.apply(noisy_scene(rng), FRAME_S)
    hot = noisy_scene(rng, hot=True)
    np.testing.assert_array_equal(agc.apply(hot, FRAME_S), Agc(AgcConfig(damping_s=0.0)).apply(hot, FRAME_S))


@pytest.mark.parametrize("first", ["constant", "scene"])
def test_new_scene_jumps_in_one_frame_by_default(first: str) -> None:
    rng = np.random.default_rng(6)
    agc = Agc()
    start = np.full((256, 320), 8000, np.uint16) if first == "constant" else noisy_scene(rng)
    for _ in range(5):
        agc.apply(start, FRAME_S)
    other = noisy_scene(rng) + np.uint16(4000)
    np.testing.assert_array_equal(agc.apply(other, FRAME_S), Agc().apply(other, FRAME_S))


def test_without_immediate_change_a_new_scene_is_damped() -> None:
    rng = np.random.default_rng(7)
    agc = Agc(AgcConfig(immediate_change=None))
    agc.apply(noisy_scene(rng), FRAME_S)
    other = noisy_scene(rng) + np.uint16(4000)
    assert agc.apply(other, FRAME_S).mean() > 250.0


def test_damping_follows_time_not_frames() -> None:
    rng = np.random.default_rng(8)
    cold, hot = noisy_scene(rng, sigma=0.0), noisy_scene(rng, hot=True, sigma=0.0)
    results = []
    for rate_hz in (60, 10):
        agc = Agc()
        agc.apply(cold)
        for _ in range(rate_hz // 2):
            levels = agc.apply(hot, 1.0 / rate_hz)
        results.append(levels[BACKGROUND].mean())
    assert results[0] == pytest.approx(results[1], abs=1.0)


def test_no_time_passed_means_no_movement() -> None:
    rng = np.random.default_rng(9)
    agc = Agc()
    agc.apply(noisy_scene(rng, sigma=0.0), FRAME_S)
    hot = noisy_scene(rng, hot=True, sigma=0.0)
    np.testing.assert_array_equal(agc.apply(hot, 0.0), agc.apply(hot, -1.0))


def test_region_and_exclusions_decide_about_the_mapping(tmp_path) -> None:
    counts = np.tile(np.linspace(7000, 8000, 100).astype(np.uint16), (100, 1))
    counts[:50] += 20_000  # the upper half is the sun
    reference = Agc(AgcConfig(mode=AgcMode.LINEAR))
    reference.apply(counts[50:].copy())
    mask = np.zeros((50, 50), np.uint8)
    mask[:25] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    for more in (
        {"roi": (0.5, 0.0, 0.5, 1.0)},
        {"exclude": [(0.0, 0.0, 0.5, 1.0)]},
        {"exclude_mask": tmp_path / "mask.png"},
    ):
        agc = Agc(make_config(AgcMode.LINEAR, **more))
        levels = agc.apply(counts)
        assert agc.limits == reference.limits
        assert (levels[:50] == 255).all()


def test_everything_excluded_falls_back_to_the_whole_frame() -> None:
    agc = Agc(make_config(AgcMode.LINEAR, exclude=[(0.0, 0.0, 1.0, 1.0)]))
    agc.apply(np.array([[10, 2000]], np.uint16))
    assert agc.limits == (10.0, 2000.0)


def test_mask_that_cannot_be_read_is_a_config_error(tmp_path) -> None:
    with pytest.raises(ConfigError, match="exclude_mask"):
        Agc(AgcConfig(exclude_mask=tmp_path / "none.png"))


def test_detail_lifts_fine_structure_and_leaves_noise() -> None:
    rng = np.random.default_rng(10)
    rows, columns = np.mgrid[0:200, 0:200]
    scene = 8000.0 + 20.0 * columns  # a strong ramp eats the range
    wires = scene + 30.0 * ((columns % 12) == 0)
    noise = rng.normal(0.0, 2.0, scene.shape)
    plain, detailed = AgcConfig(mode=AgcMode.LINEAR), AgcConfig(mode=AgcMode.LINEAR, detail=0.5)

    def contrast(config: AgcConfig) -> float:
        levels = Agc(config).apply(np.rint(wires + noise).astype(np.uint16)).astype(float)
        return float((levels[:, 24] - 0.5 * (levels[:, 22] + levels[:, 26])).mean())

    def roughness(config: AgcConfig) -> float:
        flat = np.rint(8000.0 + 20.0 * rows + noise).astype(np.uint16)
        levels = Agc(config).apply(flat).astype(float)
        return float(np.diff(levels[20:-20, 20:-20], axis=1).std())

    assert contrast(detailed) > contrast(plain) + 10.0
    assert roughness(detailed) < roughness(plain) + 0.5


@pytest.mark.parametrize("sigma", [0.0, 0.8, 2.0, 10.0])
def test_noise_of_a_flat_picture_is_measured(sigma: float) -> None:
    rng = np.random.default_rng(12)
    counts = np.rint(8000.0 + rng.normal(0.0, sigma, (200, 200))).astype(np.uint16)
    detail = agc_modes.detail_counts(counts, 3)
    assert agc_modes.noise_sigma_counts(detail, np.arange(counts.size)) == pytest.approx(sigma, rel=0.15, abs=0.05)


def test_detail_table_cores_limits_and_keeps_signs() -> None:
    table = agc_modes.detail_table(floor_counts=4.0, gain=0.5, limit_levels=32.0)
    at = {count: int(table[32768 + count]) for count in (-32768, -1000, -24, -4, 0, 4, 24, 1000, 32767)}
    assert at == {-32768: -32, -1000: -32, -24: -10, -4: 0, 0: 0, 4: 0, 24: 10, 1000: 32, 32767: 32}
    levels = np.array([[10, 250, 100]], np.uint8)
    detail = np.array([[-24, 24, 4]], np.int16)
    np.testing.assert_array_equal(agc_modes.add_detail(levels, detail, table), [[0, 255, 100]])


def test_frame_size_and_depth_may_change_between_frames() -> None:
    agc = Agc(AgcConfig(apply_to_8bit=True))
    for shape, dtype in (((40, 50), np.uint16), ((60, 20), np.uint16), ((30, 30), np.uint8), ((1, 1), np.uint16)):
        assert agc.apply(np.full(shape, 77, dtype)).shape == shape


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((0, 4), np.uint16),
        np.zeros((4, 4), np.float32),
    ],
)
def test_wrong_frames_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(BadInputError, match="wanted"):
        Agc().apply(frame)


def test_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadInputError, match="dt_s"):
        Agc().apply(np.zeros((4, 4), np.uint16), float("nan"))


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "manual"},
        {"mode": "manual", "manual_low": 10, "manual_high": 10},
        {"mode": "magic"},
        {"roi": (0.5, 0.5, 0.6, 0.2)},
        {"exclude": [(0.0, 0.0, 0.0, 1.0)]},
        {"max_gain": 0.0},
        {"gain": 2.0},
    ],
)
def test_impossible_settings_are_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        AgcConfig.model_validate(values)


def test_contract_is_json_and_holds_what_shapes_the_picture_only() -> None:
    contract = contract_of(AgcConfig())
    assert json.loads(json.dumps(contract)) == contract
    assert Agc().contract() == contract
    assert contract_differences(contract, json.loads(json.dumps(contract))) == []
    same_look = AgcConfig(roi=(0.1, 0.1, 0.5, 0.5), damping_s=1.0, clahe_clip=7.0)
    assert contract_differences(contract_of(same_look), contract) == []


def test_contract_differences_name_both_values() -> None:
    trained = contract_of(AgcConfig())
    assert contract_differences(contract_of(AgcConfig(plateau=3.0)), trained) == ["plateau: live 3.0, trained with 8.0"]
    assert contract_differences(contract_of(AgcConfig(mode=AgcMode.LINEAR)), trained) == [
        "mode: live linear, trained with plateau"
    ]
    detailed = contract_of(AgcConfig(detail=0.2))
    assert "detail_radius_px: live 3, trained with not stated" in contract_differences(detailed, trained)
    assert contract_differences(trained, {}) == ["version: live 1, trained with not stated"]


def test_contract_ignores_float_rounding() -> None:
    trained = contract_of(AgcConfig())
    assert contract_differences({**trained, "max_gain": np.float32(2.0).item() + 1e-9}, trained) == []


def test_both_ways_through_the_table_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(11).integers(0, 65536, (64, 48)).astype(np.uint16)
    table = np.linspace(0.0, 255.0, 65536, dtype=np.float32)
    results, lifted = [], []
    for has_16_bit in (True, False) if agc_modes._OPENCV_TAKES_16_BIT else (False,):
        monkeypatch.setattr(agc_modes, "_OPENCV_TAKES_16_BIT", has_16_bit)
        results.append(agc_modes.apply_table(counts[:, ::2], table, black_hot=True))
        agc = Agc(AgcConfig(mode=AgcMode.LINEAR, detail=0.5))
        lifted.append(agc.apply(counts))
    for picture in lifted:
        np.testing.assert_array_equal(picture, lifted[0])
    for result in results:
        np.testing.assert_array_equal(result, 255 - np.rint(table[counts[:, ::2]]).astype(np.uint8))
