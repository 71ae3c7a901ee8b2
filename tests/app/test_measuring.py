"""Measuring: known temperatures under every kind of mark, what surfaces do to them, alarms, and over a recording."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.playback.measure_job import MeasureJob, write_csv
from app.rig.radiometry import SCALES, Surface, object_celsius, recorded_scale
from app.view.alarms import Alarm, AlarmKind, AlarmWatch
from app.view.colour_scale import ScaleKind, colour_scale
from app.view.measuring import WHOLE, Mark, MarkKind, Reading, measure
from app.view.settings import ViewMode, ViewSettings
from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.thermal.palettes import palette_table

HEIGHT, WIDTH = 60, 80  # thermal; the visible picture is twice as large


def frame_of(counts: np.ndarray, alignment: Any = None) -> FusedFrame:
    visible = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    levels = np.kron(counts, np.ones((2, 2)))
    levels = ((levels - levels.min()) * (255.0 / max(1.0, float(np.ptp(levels))))).astype(np.uint8)
    pair = FramePair(
        Frame(Stream.VISIBLE, visible, 0, 0, TimestampSource.SIMULATED),
        Frame(Stream.THERMAL, counts, 0, 0, TimestampSource.SIMULATED),
    )
    limits = (float(counts.min()), float(counts.max()))
    return FusedFrame(visible.copy(), pair, 1.0, "x", thermal_8bit=levels, agc_limits=limits, alignment=alignment)


def ramp() -> np.ndarray:
    """1000 at the left edge, 10 more a column, 1 more a row."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.asarray(1000 + 10 * columns + rows, np.uint16)


def read(mark: Mark, counts: np.ndarray | None = None) -> Reading:
    found = measure(frame_of(ramp() if counts is None else counts), mark)
    assert found is not None
    return found


def at(row: float, column: float) -> tuple[float, float]:
    return row / HEIGHT, column / WIDTH


def test_a_spot_reads_its_pixel() -> None:
    found = read(Mark(MarkKind.SPOT, (at(10.5, 20.5),)))
    assert (found.minimum, found.mean, found.maximum, found.pixels) == (1210, 1210, 1210, 1)


def test_a_box_reads_what_is_in_it_and_where() -> None:
    found = read(Mark(MarkKind.BOX, (at(10, 20), at(14, 30))))
    assert (found.minimum, found.maximum, found.pixels) == (1210, 1000 + 290 + 13, 40)
    assert found.mean == pytest.approx(1000 + 245 + 11.5)
    assert found.coldest == pytest.approx(at(10.5, 20.5)) and found.hottest == pytest.approx(at(13.5, 29.5))


def test_a_polygon_leaves_out_what_is_not_in_it() -> None:
    counts = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    counts[10, 39] = 5000  # in the box around the triangle, not in the triangle
    counts[38, 12] = 3000
    found = read(Mark(MarkKind.POLYGON, (at(10, 10), at(40, 10), at(40, 40))), counts)
    assert found.maximum == 3000 and found.hottest == pytest.approx(at(38.5, 12.5))
    assert found.pixels == pytest.approx(30 * 30 / 2, rel=0.12)
    assert read(Mark(MarkKind.BOX, (at(10, 10), at(40, 40))), counts).maximum == 5000


def test_a_line_has_a_profile() -> None:
    found = read(Mark(MarkKind.LINE, (at(30.5, 10.5), at(30.5, 50.5))))
    assert found.profile is not None and found.profile.shape == (41,)
    assert found.profile == pytest.approx(1030 + 10 * np.arange(10, 51))
    assert found.hottest == pytest.approx(at(30.5, 50.5))


def test_where_thermal_does_not_see_there_is_no_reading() -> None:
    class Shifted:
        seen = np.ones((2 * HEIGHT, 2 * WIDTH), bool)

        def thermal_points(self, points: np.ndarray) -> np.ndarray:
            return points / 2 - (WIDTH / 2, 0.0)  # thermal covers the right half of the visible picture, and beyond

    frame = frame_of(ramp(), Shifted())
    assert measure(frame, Mark(MarkKind.SPOT, ((0.5, 0.2),))) is None
    assert measure(frame, Mark(MarkKind.BOX, ((0.1, 0.1), (0.3, 0.3)))) is None
    spot = measure(frame, Mark(MarkKind.SPOT, ((0.5, 0.75),)))
    assert spot is not None and spot.mean == pytest.approx(1000 + 10 * 19 + 29, abs=12)
    line = measure(frame, Mark(MarkKind.LINE, ((0.5, 0.3), (0.5, 0.9))))
    assert line is not None and line.profile is not None
    assert np.isnan(line.profile[0]) and not np.isnan(line.profile[-1])
    whole = measure(frame, WHOLE)
    assert whole is not None and whole.hottest[1] == pytest.approx(1.0, abs=0.02)  # carried back to the picture


def test_degrees_are_those_of_the_surface() -> None:
    celsius = np.array([-20.0, 15.0, 80.0, 400.0])
    assert object_celsius(celsius, Surface(1.0)) == pytest.approx(celsius)
    for surface in (Surface(0.95, 20.0), Surface(0.6, -10.0)):  # what a camera sees of a surface, and back
        blackbody = object_celsius(celsius, Surface(1.0))
        degrees, radiance = _planck()
        seen = surface.emissivity * np.interp(blackbody, degrees, radiance)
        seen += (1 - surface.emissivity) * np.interp(surface.reflected_c, degrees, radiance)
        apparent = np.interp(seen, radiance, degrees)
        assert object_celsius(apparent, surface) == pytest.approx(celsius, abs=0.1)
    assert object_celsius(np.array([20.0]), Surface(0.5, 20.0)) == pytest.approx([20.0], abs=0.05)  # as warm as all
    assert object_celsius(np.array([80.0]), Surface(0.9, 20.0))[0] > 84.0  # a shiny thing is hotter than it looks
    tlinear = SCALES["tlinear-0.01"]
    assert tlinear is not None
    assert tlinear.of_surface(np.array([29315.0]), Surface()) == pytest.approx([20.0])


def _planck() -> tuple[np.ndarray, np.ndarray]:
    """An independent table: quadrature over another grid, frequencies in place of wavelengths."""
    degrees = np.arange(-120.0, 700.0, 0.5)
    h, c, k = 6.62607015e-34, 299792458.0, 1.380649e-23
    frequencies = np.linspace(c / 13.5e-6, c / 7.5e-6, 400)[None, :]
    kelvin = (degrees + 273.15)[:, None]
    spectral = 2 * h * frequencies**3 / c**2 / np.expm1(h * frequencies / (k * kelvin))
    return degrees, np.trapezoid(spectral, frequencies, axis=1)


def test_the_scale_of_a_recording_is_that_of_its_rig() -> None:
    assert recorded_scale({"thermal": {"uri": "sim:thermal"}, "simulation": {"thermal_gain": 40.0}}) == "simulated"
    for other in ({}, {"thermal": 3}, {"thermal": {"uri": "usb:1"}, "simulation": {"thermal_gain": 40.0}}):
        assert recorded_scale(other) == "relative"


def reading(low: float, high: float) -> Reading:
    return Reading(low, (low + high) / 2, high, 9, (0.0, 0.0), (0.0, 0.0))


def test_an_alarm_begins_once_and_does_not_chatter() -> None:
    watch = AlarmWatch(Alarm(AlarmKind.ABOVE, 60.0))
    assert [watch.judge(reading(10, high)) for high in (50, 61, 62, 59.5, 60.5, 58, 61)] == [
        False, True, False, False, False, False, True,
    ]  # fmt: skip
    assert not watch.judge(None) and watch.active  # a lost picture ends no alarm
    below = AlarmWatch(Alarm(AlarmKind.BELOW, 0.0))
    assert [below.judge(reading(low, 20)) for low in (5, -1, 0.2, 1, -1)] == [False, True, False, False, True]


def test_the_colour_scale_says_what_the_palette_means() -> None:
    frame = frame_of(ramp())
    assert colour_scale(frame, ViewSettings()) is None  # the fused picture has no palette
    scale = colour_scale(frame, ViewSettings(mode=ViewMode.THERMAL, palette="inferno"))
    assert scale is not None and scale.kind is ScaleKind.PICTURE
    assert (scale.low, scale.high) == (1000, 1000 + 790 + 59)
    table = palette_table("inferno").astype(int)
    straight = table[np.linspace(0, 255, scale.colours.shape[0]).astype(int)]
    assert np.abs(scale.colours.astype(int) - straight).max() <= 24  # as the picture was mapped: straight
    assert scale.numbers.sum() == (HEIGHT // 3) * -(-WIDTH // 3)
    bent = replace(frame, thermal_8bit=np.asarray((frame.thermal_8bit / 255.0) ** 0.5 * 255, np.uint8))  # type: ignore[operator]
    curved = colour_scale(bent, ViewSettings(mode=ViewMode.THERMAL, palette="inferno"))
    assert curved is not None and curved.colours[32].astype(int).sum() > scale.colours[32].astype(int).sum() + 40


def test_the_scale_of_heat_begins_at_its_threshold() -> None:
    counts = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    counts[20:24, 20:30] = 2000
    frame = frame_of(counts)
    scale = colour_scale(frame, ViewSettings(heat=True))
    assert scale is not None and scale.kind is ScaleKind.HEAT and 1000 < scale.low < 2000 and scale.high == 2000
    chosen = colour_scale(frame, ViewSettings(heat=True, heat_from=1500))
    assert chosen is not None and chosen.low == 1500


class Ramps:
    """Ten pairs; pair n is n counts hotter, pair 4 is broken."""

    name, calibration = "ramps", None

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.closed = False

    def __len__(self) -> int:
        return 10

    def seconds(self, index: int) -> float:
        return index / 5

    def pair(self, index: int) -> FramePair:
        from fusion_core.errors import RecordingError

        if index == 4:
            raise RecordingError("damaged")
        pair = frame_of(np.asarray(ramp() + index, np.uint16)).pair
        assert pair.visible is not None and pair.thermal is not None
        return replace(pair, thermal=replace(pair.thermal, timestamp_ns=index * 200_000_000))

    def fused(self, index: int) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def test_a_recording_is_measured_over_time_and_written(tmp_path: Path) -> None:
    source = Ramps()
    marks = [Mark(MarkKind.SPOT, (at(10.5, 20.5),), "engine"), Mark(MarkKind.BOX, (at(10, 20), at(14, 30)), "wall")]
    job = MeasureJob(lambda: source, marks, lambda counts: counts / 10)
    assert job.wait(30) and job.error == "" and job.progress == (10, 10) and source.closed
    engine, wall = job.traces()
    assert engine.name == "engine" and engine.seconds == pytest.approx(np.arange(10) / 5)
    expected = (1210 + np.arange(10)) / 10
    expected[4] = np.nan
    assert engine.mean == pytest.approx(expected, nan_ok=True)
    assert wall.maximum[9] == pytest.approx((1303 + 9) / 10)
    write_csv(tmp_path / "t.csv", [engine, wall], "°C")
    rows = list(csv.reader((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == [
        "time [s]", "engine min [°C]", "engine mean [°C]", "engine max [°C]", "wall min [°C]", "wall mean [°C]",
        "wall max [°C]",
    ]  # fmt: skip
    assert rows[1][:3] == ["0.000", "121.000", "121.000"] and rows[5][1:] == [""] * 6 and len(rows) == 11
    with pytest.raises(Exception, match=r"cannot be written|choose another"):
        write_csv(tmp_path / "no" / "t.csv", [engine], "°C")


def test_a_source_that_does_not_open_is_told() -> None:
    def fail() -> Any:
        raise BadInputError("x.mkv holds no pairs")

    job = MeasureJob(fail, [WHOLE])
    assert job.wait(30) and job.error == "x.mkv holds no pairs"
