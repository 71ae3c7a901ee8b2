"""Views are painted where the layout says, from the pictures that it names."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from app.rig.radiometry import SCALES, default_scale, is_scale, scale_of
from app.rig.setup_assistant import simulated_config
from app.view.composer import ViewComposer, heat_levels
from app.view.measuring import Mark, MarkKind, Reading, measure
from app.view.settings import (
    Isotherm,
    IsothermKind,
    Picture,
    ViewMode,
    Viewport,
    ViewSettings,
    panels_of,
    to_picture,
)
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.thermal.palettes import palette_table

RED, GREEN = (255, 0, 0), (0, 255, 0)


def fused_frame(height: int = 48, width: int = 64, thermal: bool = True) -> FusedFrame:
    """Fused all red, visible all green, thermal cold on the left and hot on the right."""
    visible = np.full((height, width, 3), GREEN, np.uint8)
    counts = np.full((height // 2, width // 2), 1000, np.uint16)
    counts[:, width // 4 :] = 3000
    levels = np.zeros((height, width), np.uint8)
    levels[:, width // 2 :] = 255
    pair = FramePair(
        Frame(Stream.VISIBLE, visible, 0, 0, TimestampSource.SIMULATED),
        Frame(Stream.THERMAL, counts, 0, 0, TimestampSource.SIMULATED) if thermal else None,
    )
    fused = np.full((height, width, 3), RED, np.uint8)
    return FusedFrame(fused, pair, 1.0, "test", thermal_8bit=levels if thermal else None)


def box(frame: FusedFrame, top: float, left: float, height: float, width: float) -> Reading | None:
    if height == width == 0.0:
        return measure(frame, Mark(MarkKind.SPOT, ((top, left),)))
    return measure(frame, Mark(MarkKind.BOX, ((top, left), (top + height, left + width))))


def rgb_at(canvas: np.ndarray, y: int, x: int) -> tuple[int, ...]:
    return tuple(int(v) for v in canvas[y, x, 2::-1])


@pytest.mark.parametrize("mode", ViewMode)
@pytest.mark.parametrize("size", [(48, 64), (101, 333), (300, 90), (1, 1)])
def test_every_view_fills_every_size(mode: ViewMode, size: tuple[int, int]) -> None:
    composer = ViewComposer()
    for viewport in (Viewport(), Viewport(5.0, 0.2, 0.9).clamped()):
        canvas = composer.compose(fused_frame(), ViewSettings(mode=mode), viewport, *size)
        assert canvas.shape == (*size, 4)
        assert (canvas[..., 3] == 255).all()


def test_single_views_show_their_picture() -> None:
    composer, frame = ViewComposer(), fused_frame()
    for mode, wanted in ((ViewMode.FUSED, RED), (ViewMode.VISIBLE, GREEN)):
        assert rgb_at(composer.compose(frame, ViewSettings(mode=mode), Viewport(), 48, 64), 20, 30) == wanted
    canvas = composer.compose(frame, ViewSettings(mode=ViewMode.THERMAL, palette="iron"), Viewport(), 48, 64)
    assert rgb_at(canvas, 20, 10) == tuple(palette_table("iron")[0])
    assert rgb_at(canvas, 20, 50) == tuple(palette_table("iron")[255])
    reverse = ViewSettings(mode=ViewMode.THERMAL, palette="iron", black_hot=True)
    assert rgb_at(composer.compose(frame, reverse, Viewport(), 48, 64), 20, 50) == tuple(palette_table("iron")[0])


def test_wipe_divides_at_its_place() -> None:
    settings = ViewSettings(mode=ViewMode.WIPE, wipe_at=0.25)
    canvas = ViewComposer().compose(fused_frame(), settings, Viewport(), 48, 64)
    assert rgb_at(canvas, 10, 15) == GREEN and rgb_at(canvas, 10, 17) == RED


def test_blend_is_the_share_asked_for() -> None:
    settings = ViewSettings(mode=ViewMode.BLEND, blend=0.25, palette="white_hot")
    canvas = ViewComposer().compose(fused_frame(), settings, Viewport(), 48, 64)
    assert rgb_at(canvas, 10, 50) == pytest.approx((64, 255, 64), abs=2)


def test_zoom_shows_the_part_asked_for_and_letterbox_is_dark() -> None:
    composer, frame = ViewComposer(), fused_frame()
    settings = ViewSettings(mode=ViewMode.THERMAL, palette="white_hot")
    right = Viewport(4.0, 0.5, 0.9).clamped()
    assert (composer.compose(frame, settings, right, 48, 64)[..., :3] == 255).all()
    wide = composer.compose(frame, ViewSettings(), Viewport(), 48, 200)
    assert max(rgb_at(wide, 24, 5)) < 30 and rgb_at(wide, 24, 100) == RED


def test_zoomed_picture_lies_where_the_geometry_says() -> None:
    height, width = 60, 80
    visible = np.zeros((height, width, 3), np.uint8)
    visible[30:40, 50:60] = 255
    frame = FusedFrame(visible, FramePair(Frame(Stream.VISIBLE, visible, 0, 0, TimestampSource.FILE), None), 0.0, "t")
    settings, viewport = ViewSettings(), Viewport(3.7, 0.55, 0.66).clamped()
    canvas = ViewComposer().compose(frame, settings, viewport, 240, 320)
    panel = panels_of(settings, 240, 320, height, width)[0]
    ys, xs = np.nonzero(canvas[..., 0] > 128)
    top = to_picture(panel, viewport, height, width, float(ys.min()), float(xs.min()))
    bottom = to_picture(panel, viewport, height, width, float(ys.max()), float(xs.max()))
    assert top is not None and bottom is not None
    assert top == pytest.approx((30, 50), abs=0.35) and bottom == pytest.approx((40, 60), abs=0.35)


def test_thermal_share_marks_what_differs_from_visible() -> None:
    frame = fused_frame()
    same = FusedFrame(np.full((48, 64, 3), GREEN, np.uint8), frame.pair, 1.0, "t", thermal_8bit=frame.thermal_8bit)
    settings = ViewSettings(thermal_share=True)
    plain = rgb_at(ViewComposer().compose(same, settings, Viewport(), 48, 64), 10, 10)
    marked = rgb_at(ViewComposer().compose(frame, settings, Viewport(), 48, 64), 10, 10)
    assert max(plain) - min(plain) <= 2
    assert marked[0] > marked[2] + 60


@pytest.mark.parametrize(
    ("isotherm", "left", "right"),
    [
        (Isotherm(IsothermKind.ABOVE, 0, 2000), False, True),
        (Isotherm(IsothermKind.BELOW, 2000, 0), True, False),
        (Isotherm(IsothermKind.BETWEEN, 900, 1100), True, False),
    ],
)
def test_isotherm_marks_raw_counts(isotherm: Isotherm, left: bool, right: bool) -> None:
    composer, frame = ViewComposer(), fused_frame()
    plain = composer.compose(frame, ViewSettings(), Viewport(), 48, 64).copy()
    marked = composer.compose(frame, ViewSettings(isotherm=isotherm), Viewport(), 48, 64)
    changed = (plain != marked).any(axis=2)
    assert changed[24, 8] == left and changed[24, 56] == right


def test_heat_is_the_hottest_share_as_far_as_it_stands_out_of_the_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (120, 160))
    plain = np.clip(20000 + noise, 0, 65535).astype(np.uint16)
    assert not heat_levels(plain, 0.05).any(), "a scene of one temperature has no heat"
    assert not heat_levels(np.full((8, 8), 77, np.uint8), 0.05).any()
    warm = plain.copy()
    warm[40:60, 50:70] += 300
    warm[46:54, 56:64] += 300
    levels = heat_levels(warm, 0.05)
    assert (levels[40:60, 50:70] >= 128).all() and np.count_nonzero(levels) == 400
    assert levels[50, 60] > 240 > levels[41, 51]
    assert np.count_nonzero(heat_levels(warm, 0.003)) == pytest.approx(0.003 * warm.size, rel=0.2)


@pytest.mark.parametrize("mode", ViewMode)
@pytest.mark.parametrize("palette", ["inferno", "white_hot", "viridis", "iron"])
def test_heat_is_warm_in_every_view_and_leaves_the_rest(mode: ViewMode, palette: str) -> None:
    frame = fused_frame()
    counts = np.full((24, 32), 1000, np.uint16)
    counts[10:14, 20:26] = 3000
    frame = replace(frame, pair=replace(frame.pair, thermal=replace(frame.pair.thermal, pixels=counts)))  # type: ignore[type-var]
    settings = ViewSettings(mode=mode, palette=palette)
    plain = ViewComposer().compose(frame, settings, Viewport(), 192, 256).copy()
    hot = ViewComposer().compose(frame, replace(settings, heat=True), Viewport(), 192, 256)
    changed = (plain != hot).any(axis=2)
    if mode is ViewMode.THERMAL and palette in ("inferno", "iron"):
        assert not changed.any(), "a warm palette tells heat by itself; its half would turn the hottest darker"
        return
    assert 0.005 < changed.mean() < 0.12
    blue, _, red = hot[changed].astype(int).mean(axis=0)[:3]
    assert red > blue + 25 and red > 120
    if mode is ViewMode.FUSED:
        rows, columns = np.nonzero(changed)
        assert (rows.min(), columns.min()) == pytest.approx((80, 160), abs=4)
        assert (rows.max(), columns.max()) == pytest.approx((111, 207), abs=4)


def test_without_thermal_and_without_frame() -> None:
    composer = ViewComposer()
    for mode in ViewMode:
        assert composer.compose(fused_frame(thermal=False), ViewSettings(mode=mode), Viewport(), 40, 60).any()
        settings = ViewSettings(mode=mode, heat=True)
        assert composer.compose(fused_frame(thermal=False), settings, Viewport(), 40, 60).any()
    assert composer.compose(None, ViewSettings(), Viewport(), 40, 60)[..., :3].max() < 30
    assert box(fused_frame(thermal=False), 0, 0, 1, 1) is None


def test_pictures_are_not_changed_and_second_is_shown() -> None:
    frame = fused_frame()
    second = np.full((48, 64, 3), (0, 0, 255), np.uint8)
    settings = ViewSettings(mode=ViewMode.WIPE, wipe_left=Picture.FUSED, wipe_right=Picture.SECOND)
    canvas = ViewComposer().compose(frame, settings, Viewport(), 48, 64, second)
    assert rgb_at(canvas, 5, 5) == RED and rgb_at(canvas, 5, 60) == (0, 0, 255)
    assert (frame.pixels == RED).all()


def test_statistics_of_a_region_and_scales() -> None:
    found = box(fused_frame(), 0.1, 0.6, 0.3, 0.3)
    assert found is not None and (found.minimum, found.maximum) == (3000, 3000)
    spot = box(fused_frame(), 0.5, 0.1, 0.0, 0.0)
    assert spot is not None and spot.pixels == 1 and spot.mean == 1000
    scale = SCALES["simulated"]
    assert scale is not None and scale.celsius(24000) == pytest.approx(20.0) and scale.counts(20.0) == 24000
    assert default_scale(simulated_config()) == "simulated"
    assert default_scale(simulated_config(thermal={"uri": "file:x.mkv"})) == "relative"


@pytest.mark.parametrize(
    ("kelvin", "name"), [(1 / 64, "kelvin-64"), (1 / 16, "kelvin-16"), (0.01, "tlinear-0.01"), (0.025, "kelvin:0.025")]
)
def test_a_camera_says_its_scale(kelvin: float, name: str) -> None:
    config = simulated_config(thermal={"uri": "file:x.mkv", "kelvin_per_count": kelvin})
    assert default_scale(config) == name and is_scale(name)
    scale = scale_of(name)
    assert scale is not None and scale.celsius(scale.counts(36.6)) == pytest.approx(36.6, abs=kelvin)
    assert not is_scale("kelvin:hot") and scale_of("kelvin:-1") is None


def test_viewport_keeps_the_point_under_the_pointer() -> None:
    zoomed = Viewport().zoomed(2.0, 0.4, 0.6)
    assert zoomed.zoom == 2.0
    assert (0.4 - zoomed.center_y) * zoomed.zoom == pytest.approx(0.4 - 0.5)
    assert Viewport(2.0).panned(9, -9) == Viewport(2.0, 0.75, 0.25)


def test_reduction_is_a_mean_not_a_pick() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    frame = FusedFrame(noisy, FramePair(Frame(Stream.VISIBLE, noisy, 0, 0, TimestampSource.FILE), None), 0.0, "t")
    small = ViewComposer().compose(frame, ViewSettings(), Viewport(), 60, 80)
    wanted = cv2.resize(noisy, (80, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(small[..., 2::-1].astype(int) - wanted).max() <= 2


class Beside:
    """Thermal sees the right half of the visible picture, at its own scale."""

    def __init__(self, height: int, width: int) -> None:
        self.seen = np.zeros((height, width), bool)
        self.seen[:, width // 2 :] = True

    def to_visible(self, thermal: np.ndarray) -> np.ndarray:
        height, width = self.seen.shape
        out = np.zeros(self.seen.shape, thermal.dtype)
        out[:, width // 2 :] = cv2.resize(thermal, (width - width // 2, height), interpolation=cv2.INTER_NEAREST)
        return out

    def filled(self, levels: np.ndarray, visible: np.ndarray) -> np.ndarray:
        return levels

    def thermal_points(self, points_visible: np.ndarray) -> np.ndarray:
        middle = self.seen.shape[1] / 2  # thermal, half as high and wide, lies over the right half
        return (points_visible + 0.5 - (middle, 0)) * (1.0, 0.5) - 0.5


def aligned_frame() -> FusedFrame:
    plain = fused_frame()
    beside = Beside(48, 64)
    levels = beside.to_visible(np.full((24, 32), 200, np.uint8))
    return replace(plain, thermal_8bit=levels, alignment=beside)


def test_where_thermal_does_not_see_there_is_no_blend_and_no_outline() -> None:
    frame, composer = aligned_frame(), ViewComposer()
    blend = composer.compose(frame, ViewSettings(mode=ViewMode.BLEND, blend=0.5), Viewport(), 48, 64)
    assert rgb_at(blend, 20, 10) == GREEN and rgb_at(blend, 20, 50) != GREEN
    edges = composer.compose(frame, ViewSettings(mode=ViewMode.EDGES), Viewport(), 48, 64)
    assert (edges[..., :3] == GREEN[::-1]).all(), "the only outline is the border of the field"
    lines = composer.compose(replace(frame, alignment=None), ViewSettings(mode=ViewMode.EDGES), Viewport(), 48, 64)
    assert not (lines[..., :3] == GREEN[::-1]).all()


def test_isotherm_and_measuring_follow_the_calibration() -> None:
    frame, composer = aligned_frame(), ViewComposer()  # hot from the middle of thermal on: column 48 of visible
    hot = ViewSettings(mode=ViewMode.FUSED, isotherm=Isotherm(IsothermKind.ABOVE, 0, 2000))
    canvas = composer.compose(frame, hot, Viewport(), 48, 64)
    assert rgb_at(canvas, 20, 40) == RED and rgb_at(canvas, 20, 56) != RED
    left, right = (box(frame, 0.5, column / 64, 0.1, 0.05) for column in (36, 56))
    assert left is not None and left.maximum == 1000
    assert right is not None and right.minimum == 3000
    assert box(frame, 0.5, 0.1, 0.1, 0.1) is None, "thermal does not see this"
    everything = box(frame, 0.0, 0.0, 1.0, 1.0)
    assert everything is not None and everything.pixels == 24 * 32
