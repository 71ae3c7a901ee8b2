"""The simulated rig: a visible and a thermal camera side by side before a moving scene, with the truth known.

Both pictures come from one scene of painted planes at their depths (`scene`), seen by two pin-hole cameras
(`RigGeometry`). The thermal camera's principal point is set so that things at `aligned_distance_m` coincide after
the thermal picture is resized to the visible grid; nearer and farther things are off by parallax, and the residual
shift, rotation and scale come on top. A frame depends on the configuration and its time alone, not on the order of
the calls or their threads.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from fusion_core.errors import ConfigError
from fusion_core.simulation.actors import Actor
from fusion_core.simulation.figures import Figures
from fusion_core.simulation.places import build_street, build_yard
from fusion_core.simulation.scene import CAMERA_HEIGHT_M, Scene, scene_extent
from fusion_core.simulation.sensor import NoiseBank, Projection, View, mix

__all__ = ["MAX_PAN_DEG", "RigGeometry", "RigTruth", "SimulatedRig", "SimulatedRigConfig", "rig_geometry"]

MAX_PAN_DEG = 9.0  # a panning rig sweeps to and fro between these
COUNTS_AT_20_C = 24000
_AHEAD_S = 8.0  # up to here figures are painted in order of need, then one actor after another
NEAREST_M = 5.0  # nothing that stands in the scenes is nearer; the ground is, in steep views

Float = NDArray[np.float32]


class SimulatedRigConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Everything about the simulated rig. The defaults are a good rig: parallax below 5 px, no faults."""

    seed: int = Field(default=7, ge=0, description="chooses houses, people, noise; the same seed gives the same frames")
    height: int = Field(default=480, ge=32, le=4320, description="rows of the visible picture, px")
    width: int = Field(default=640, ge=32, le=7680, description="columns of the visible picture, px")
    thermal_height: int = Field(
        default=480, ge=24, le=2160, description="rows of the thermal picture, px; real ones have fewer"
    )
    thermal_width: int = Field(default=640, ge=32, le=3840, description="columns of the thermal picture, px")
    visible_fps: float = Field(default=30.0, gt=0, le=240, description="visible frames per second, for the frame times")
    thermal_fps: float = Field(
        default=30.0, gt=0, le=240, description="thermal frames per second; cheap cameras give 9 or 25"
    )
    scene: Literal["street", "yard"] = Field(
        default="street", description="which place: houses and traffic, or industry"
    )
    night: float = Field(
        default=0.0, ge=0, le=1, description="0 full day, 1 night; visible light only, thermal does not care"
    )
    hfov_visible_deg: float = Field(
        default=60.0, ge=10, le=100, description="horizontal field of view of the visible lens, deg"
    )
    hfov_thermal_deg: float | None = Field(
        default=None,
        ge=10,
        le=100,
        description="horizontal field of view of the thermal lens, deg, square pixels; none: the lens that makes the "
        "picture, resized to the visible grid, cover the same field whatever its resolution and shape",
    )
    baseline_m: float = Field(
        default=0.06, ge=-1, le=1, description="thermal camera to the right of the visible one, m: parallax"
    )
    aligned_distance_m: float = Field(default=15.0, ge=1, description="distance at which the two pictures coincide, m")
    residual_shift_px: tuple[float, float] = Field(
        default=(0.0, 0.0), description="(x, y) by which calibration is off everywhere, px of the visible grid"
    )
    residual_rotation_deg: float = Field(
        default=0.0, ge=-20, le=20, description="roll of the thermal camera, deg, clockwise"
    )
    residual_scale: float = Field(
        default=1.0, gt=0.5, lt=2, description="thermal focal length over what it should be; 1 = exact"
    )
    time_skew_ms: float = Field(
        default=0.0,
        ge=-1000,
        le=1000,
        description="thermal time stamps are this much late against what the picture shows, ms",
    )
    jitter_ms: float = Field(
        default=0.0, ge=0, le=50, description="frames are exposed up to this much off their beat, ms"
    )
    visible_noise: float = Field(
        default=1.2,
        ge=0,
        le=60,
        description="noise of the visible camera by day, 8-bit levels RMS; five times that at night",
    )
    thermal_noise_counts: float = Field(
        default=2.0, ge=0, le=500, description="noise of the thermal camera, counts RMS (NETD)"
    )
    thermal_blur_px: float = Field(default=0.7, ge=0, le=10, description="sigma of the thermal lens' blur, thermal px")
    thermal_gain: float = Field(
        default=40.0, gt=0, le=400, description="counts per kelvin; 24000 counts are 20 degrees Celsius"
    )
    thermal_drift_counts_per_s: float = Field(
        default=0.0, ge=-500, le=500, description="offset drift since the last FFC, counts/s"
    )
    ffc_period_s: float = Field(default=0.0, ge=0, description="time between shutter corrections, s; 0 = never")
    ffc_duration_s: float = Field(default=0.5, ge=0, description="how long the picture stays frozen at each, s")
    ffc_jump_counts: float = Field(
        default=60.0, ge=0, le=2000, description="the offset after an FFC differs up to this, counts"
    )
    pan_deg_per_s: float = Field(
        default=0.0, ge=0, le=60, description="the rig sweeps to and fro at this speed, deg/s; 0 = fixed"
    )
    fixed_pattern_counts: float = Field(
        default=1.5, ge=0, le=500, description="pixel and column pattern that stays until the next FFC, counts RMS"
    )

    @pydantic.model_validator(mode="after")
    def _shutter_fits(self) -> SimulatedRigConfig:
        if self.ffc_period_s and self.ffc_duration_s >= self.ffc_period_s:
            raise ValueError(
                f"ffc_duration_s is {self.ffc_duration_s}, must be less than ffc_period_s ({self.ffc_period_s})"
            )
        return self


@dataclass(frozen=True, eq=False)
class RigGeometry:
    """Two pin-hole cameras; pixel centres at integers, x right, y down, z forward, float64.

    X_visible = R_visible_thermal @ X_thermal + t_visible_thermal_m. K_thermal is for thermal pixels before any resize.
    """

    K_visible: NDArray[np.float64]
    K_thermal: NDArray[np.float64]
    R_visible_thermal: NDArray[np.float64]
    t_visible_thermal_m: NDArray[np.float64]
    visible_shape: tuple[int, int]
    thermal_shape: tuple[int, int]

    @property
    def grid_from_thermal(self) -> NDArray[np.float64]:
        """3x3: visible-grid pixel from thermal pixel by plain resize."""
        sx = self.visible_shape[1] / self.thermal_shape[1]
        sy = self.visible_shape[0] / self.thermal_shape[0]
        return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])

    def visible_from_uv(self, plane: tuple[float, float, float]) -> NDArray[np.float64]:
        """3x3: visible pixel from the visible camera's (X/Z, Y/Z, 1), for every plane."""
        return self.K_visible.copy()

    def thermal_from_uv(self, plane: tuple[float, float, float]) -> NDArray[np.float64]:
        """3x3: thermal pixel from the visible camera's (X/Z, Y/Z, 1) of points on 1/Z = a + b X/Z + c Y/Z."""
        across = np.eye(3) - np.outer(self.t_visible_thermal_m, [plane[1], plane[2], plane[0]])
        return np.asarray(self.K_thermal @ self.R_visible_thermal.T @ across, np.float64)

    def displacement_px(self, inverse_depth: Float) -> Float:
        """Where the resized thermal picture shows what the visible picture shows at p: at p + displacement(p).

        Args:
            inverse_depth: (H, W) 1/Z per metre on the visible grid.

        Returns:
            (H, W, 2) float32, (x, y) in visible-grid pixels.
        """
        h, w = inverse_depth.shape
        y, x = np.indices((h, w), np.float32)
        rays = self.grid_from_thermal @ self.thermal_from_uv((0.0, 0.0, 0.0)) @ np.linalg.inv(self.K_visible)
        shift = self.grid_from_thermal @ (self.thermal_from_uv((1.0, 0.0, 0.0)) - self.thermal_from_uv((0.0, 0.0, 0.0)))
        out = np.empty((h, w, 2), np.float32)
        for axis in (0, 1):  # the third row stays (0, 0, 1): the cameras differ by roll and sideways shift only
            out[..., axis] = rays[axis, 0] * x + rays[axis, 1] * y + rays[axis, 2] + shift[axis, 2] * inverse_depth
        out[..., 0] -= x
        out[..., 1] -= y
        return out


@dataclass(frozen=True, eq=False)
class RigTruth:
    """The truth at one moment, on the visible grid.

    visible_clean: (H, W, 3) uint8, the visible picture without noise.
    thermal_aligned: (H, W) uint16, the counts of a thermal camera without noise at the visible camera's place; the
        lens' blur, gain and drift are in it, a shutter freeze is not.
    displacement_px: (H, W, 2) float32: the thermal picture of this moment, resized to the visible grid, shows at
        p + displacement(p) what the visible picture shows at p (where nothing nearer hides it).
    depth_m: (H, W) float32; the sky is at 1000 m.  temperature_c: (H, W) float32, before the lens.
    """

    visible_clean: NDArray[np.uint8]
    thermal_aligned: NDArray[np.uint16]
    displacement_px: Float
    depth_m: Float
    temperature_c: Float


class SimulatedRig:
    """The rig. Building takes about half a second; `visible` and `thermal` may be called from different threads.

    Times are seconds on the rig's clock, 0 or more. `visible_time_s` and `thermal_time_s` give the frames' stamps.
    """

    def __init__(self, config: SimulatedRigConfig | None = None) -> None:
        self.config = config = config if config is not None else SimulatedRigConfig()
        self.geometry = geometry = rig_geometry(config)
        self._max_pan = math.tan(math.radians(MAX_PAN_DEG)) if config.pan_deg_per_s else 0.0
        shape, thermal_shape = geometry.visible_shape, geometry.thermal_shape
        with ThreadPoolExecutor(2, thread_name_prefix="simulated-rig") as pool:
            grain = pool.submit(_sensor_noise, config, shape, thermal_shape)
            self._scene, actors = self._build_scene()
            actors.sort(key=lambda actor: -actor.z_m)
            visible_px, thermal_px = _size_px(geometry.visible_from_uv), _size_px(geometry.thermal_from_uv)
            self._figures = self._make_figures(actors, visible_px)
            same = math.isclose(visible_px, thermal_px, rel_tol=1e-9)
            thermal_figures = self._figures if same else self._make_figures(actors, thermal_px)
            thermal = pool.submit(self._compose_thermal, thermal_figures)
            self._visible_view = View(
                self._scene, self._figures, shape, geometry.visible_from_uv, self._max_pan, thermal=False
            )
            self._visible_canvas = self._visible_view.compose_visible()
            self._thermal_view, self._thermal_canvas = thermal.result()
            self._visible_noise, self._thermal_noise, self._patterns = grain.result()
        for sheet in self._scene.sheets:
            sheet.drop_colours()  # hundreds of megabytes that nothing needs any more

    def _make_figures(self, actors: list[Actor], px_per_tangent: float) -> Figures:
        scene = self._scene
        return Figures(scene.tile, scene.night, actors, scene.extent.half_u, px_per_tangent)

    def _compose_thermal(self, figures: Figures) -> tuple[View, Float]:
        geometry = self.geometry
        view = View(self._scene, figures, geometry.thermal_shape, geometry.thermal_from_uv, self._max_pan, thermal=True)
        return view, view.compose_thermal()

    # ------------------------------------------------------------------------------------------------------- frames

    def visible(self, t_s: float) -> NDArray[np.uint8]:
        """The visible frame stamped t_s: (H, W, 3) uint8 RGB, a new array."""
        picture = self._visible_clean(t_s)
        noise = self._visible_noise.window(mix(self.config.seed, 11, _ticks(t_s)))
        return np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), np.uint8)

    def thermal(self, t_s: float) -> NDArray[np.uint16]:
        """The thermal frame stamped t_s: (Ht, Wt) uint16 counts, a new array.

        It shows the scene at t_s - time_skew_ms. While the shutter is closed the last frame before it repeats.
        """
        t_s = self._last_good_s(t_s)
        scene_s = t_s - self.config.time_skew_ms / 1000
        pan = self._pan(scene_s)
        picture = np.asarray(self._thermal_view.crop(self._thermal_canvas, pan), np.float32)
        self._thermal_view.draw_thermal(picture, scene_s, pan)
        counts = self._counts(_blurred(picture, self.config.thermal_blur_px, self.config.thermal_blur_px), t_s)
        counts += self._patterns[self._epoch(t_s) % len(self._patterns)]
        noise = self._thermal_noise.window(mix(self.config.seed, 12, _ticks(t_s)))
        return np.asarray(cv2.add(counts, noise, dtype=cv2.CV_16U), np.uint16)  # rounds and saturates

    def ffc_active(self, t_s: float) -> bool:
        """Whether the thermal shutter is closed at the stamp t_s."""
        return self._shutter_phase_s(t_s) < self.config.ffc_duration_s

    def warm_up(
        self, until_s: float | None = None, stopping: threading.Event | None = None, limit_s: float = math.inf
    ) -> None:
        """Paint all who move now instead of at first sight, so that no later frame is slow. Changes no frame.

        Any thread may call it. Paints in the order in which the frames need it. A real-time source calls it for the
        first moments before its first frame, and for the rest beside the cameras.

        Args:
            until_s: paint what the frames up to this time need; None: all that may ever be seen, about a second.
            stopping: ends it early when set.
            limit_s: ends it after this time; the rest is painted at first sight, or by another call.
        """
        end_s = time.monotonic() + limit_s
        for figures, number, phase in self._as_needed(until_s):
            if (stopping is not None and stopping.is_set()) or time.monotonic() > end_s:
                return
            figures.paint(number, phase)

    def _as_needed(self, until_s: float | None) -> Iterator[tuple[Figures, int, int]]:
        """Whose pictures the frames need, in the order of the frames; some come several times."""
        config = self.config
        books = ((self._visible_view.figures, 0.0), (self._thermal_view.figures, config.time_skew_ms / 1000))
        fps = max(config.visible_fps, config.thermal_fps)
        for index in range(math.ceil((_AHEAD_S if until_s is None else until_s) * fps)):
            for figures, late_s in books:
                for number, phase in figures.at(index / fps - late_s):
                    yield figures, number, phase
        for figures, _ in books if until_s is None else ():
            for number, phase in figures.every_phase():
                yield figures, number, phase

    def truth(self, t_s: float) -> RigTruth:
        """The truth at t_s. A skewed thermal camera stamps its frame of that moment t_s + time_skew_ms."""
        view, pan = self._visible_view, self._pan(t_s)
        inverse = np.asarray(view.crop(self._inverse_depth_canvas, pan, nearest=True), np.float32)
        self._truth_view.draw_inverse_depth(inverse, t_s, pan)
        temperature = np.asarray(view.crop(self._aligned_canvas, pan), np.float32)
        self._truth_view.draw_thermal(temperature, t_s, pan)
        # the lens' blur and the area of a thermal pixel, both on the visible grid
        ratio = self.config.width / self.config.thermal_width, self.config.height / self.config.thermal_height
        blur = [math.sqrt((self.config.thermal_blur_px * r) ** 2 + max(0.0, r * r - 1) / 12) for r in ratio]
        counts = self._counts(_blurred(temperature, blur[0], blur[1]), t_s)
        return RigTruth(
            visible_clean=self._visible_clean(t_s),
            thermal_aligned=np.rint(np.clip(counts, 0, 65535)).astype(np.uint16),
            displacement_px=self.geometry.displacement_px(inverse),
            depth_m=np.asarray(1 / np.maximum(inverse, 1e-3), np.float32),
            temperature_c=temperature,
        )

    # -------------------------------------------------------------------------------------------------------- times

    def visible_time_s(self, index: int) -> float:
        """Stamp of the visible camera's frame number `index`."""
        return self._beat_s(index, self.config.visible_fps, 21)

    def thermal_time_s(self, index: int) -> float:
        """Stamp of the thermal camera's frame number `index`."""
        return self._beat_s(index, self.config.thermal_fps, 22)

    def _beat_s(self, index: int, fps: float, stream: int) -> float:
        # clipped below the half period, so that frames never change places
        reach = min(self.config.jitter_ms / 1000, 0.45 / fps)
        share = mix(self.config.seed, stream, index) / 2**64
        return max(0.0, index / fps + reach * (2 * share - 1))

    def _shutter_phase_s(self, t_s: float) -> float:
        """Time since the shutter last closed; infinite before the first time."""
        period = self.config.ffc_period_s
        return t_s % period if period and t_s >= period else math.inf

    def _last_good_s(self, t_s: float) -> float:
        if not self.ffc_active(t_s):
            return t_s
        closed_s = t_s - self._shutter_phase_s(t_s)
        return (math.ceil(closed_s * self.config.thermal_fps - 1e-6) - 1) / self.config.thermal_fps

    def _epoch(self, t_s: float) -> int:
        """The number of shutter corrections so far."""
        return int(t_s // self.config.ffc_period_s) if self.config.ffc_period_s and t_s > 0 else 0

    def _offset_counts(self, t_s: float) -> float:
        """Offset of the whole thermal picture: drift since the last correction, and what that correction left."""
        t_s = self._last_good_s(t_s)
        epoch = self._epoch(t_s)
        if not epoch:
            return self.config.thermal_drift_counts_per_s * t_s
        since = self._shutter_phase_s(t_s) - self.config.ffc_duration_s
        left = 2 * mix(self.config.seed, 31, epoch) / 2**64 - 1
        left = math.copysign(0.3 + 0.7 * abs(left), left)  # always a jump that can be seen
        return self.config.thermal_drift_counts_per_s * since + self.config.ffc_jump_counts * left

    def _pan(self, t_s: float) -> float:
        """How far the scene has slid to the right, in units of tangent: a triangle between +-MAX_PAN_DEG."""
        if not self.config.pan_deg_per_s:
            return 0.0
        way = self.config.pan_deg_per_s * t_s / MAX_PAN_DEG  # 0 -> 1 -> -1 -> 0 in units of the sweep
        return self._max_pan * (1 - abs((way + 3) % 4 - 2))

    # ----------------------------------------------------------------------------------------------------- building

    def _build_scene(self) -> tuple[Scene, list[Actor]]:
        """The scene, painted as far as either camera can see it."""
        geometry = self.geometry
        views = ((geometry.visible_shape, geometry.K_visible), (geometry.thermal_shape, geometry.K_thermal))
        half_u = half_v = density = 0.0
        for (h, w), k in views:
            corners = np.array([[-1, w, -1, w], [-1, -1, h, h], [1, 1, 1, 1]])
            rays = np.linalg.inv(k) @ corners
            if k is geometry.K_thermal:
                rays = geometry.R_visible_thermal @ rays
            half_u = max(half_u, float(np.abs(rays[0]).max()))
            half_v = max(half_v, float(np.abs(rays[1]).max()))
            density = max(density, float(k[0, 0]))
        half_u += self._max_pan + abs(self.config.baseline_m) / min(NEAREST_M, CAMERA_HEIGHT_M / half_v) + 0.01
        half_v += 0.01
        density = min(1.5 * density, max(1600 / (2 * half_u), density))
        build = build_street if self.config.scene == "street" else build_yard
        return build(scene_extent(half_u, half_v, density), self.config.night, self.config.seed)

    def _visible_clean(self, t_s: float) -> NDArray[np.uint8]:
        pan = self._pan(t_s)
        picture = np.asarray(self._visible_view.crop(self._visible_canvas, pan), np.uint8)
        self._visible_view.draw_visible(picture, t_s, pan)
        return picture

    def _counts(self, temperature_c: Float, t_s: float) -> Float:
        offset = COUNTS_AT_20_C - 20 * self.config.thermal_gain + self._offset_counts(t_s)
        return np.asarray(temperature_c * np.float32(self.config.thermal_gain) + np.float32(offset), np.float32)

    @cached_property
    def _truth_view(self) -> View:
        """A thermal camera at the visible camera's place."""
        geometry = self.geometry
        return View(
            self._scene, self._figures, geometry.visible_shape, geometry.visible_from_uv, self._max_pan, thermal=True
        )

    @cached_property
    def _aligned_canvas(self) -> Float:
        return self._truth_view.compose_thermal()

    @cached_property
    def _inverse_depth_canvas(self) -> Float:
        return self._truth_view.compose_inverse_depth()


def _size_px(projection: Projection) -> float:
    """Pixels per unit of tangent."""
    return float(np.linalg.norm(projection((0.0, 0.0, 0.0))[:2, 0]))


def _sensor_noise(
    config: SimulatedRigConfig, shape: tuple[int, int], thermal_shape: tuple[int, int]
) -> tuple[NoiseBank, NoiseBank, Float]:
    """Noise of the visible and of the thermal camera, and what its shutter corrections leave."""
    rng = np.random.default_rng([config.seed, 3])
    visible = NoiseBank.visible(rng, shape, config.visible_noise * (1 + 4 * config.night))
    thermal = NoiseBank.thermal(rng, thermal_shape, config.thermal_noise_counts)
    return visible, thermal, _fixed_patterns(rng, thermal_shape, config.fixed_pattern_counts)


def _ticks(t_s: float) -> int:
    return round(t_s * 1e6)


def _blurred(picture: Float, across_px: float, down_px: float) -> Float:
    if max(across_px, down_px) < 0.05:
        return picture
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(across_px, 0.05), sigmaY=max(down_px, 0.05)), np.float32)


def _fixed_patterns(rng: np.random.Generator, shape: tuple[int, int], counts: float) -> Float:
    """Four residual patterns (pixels, columns, a smooth bowl) of the given RMS: one a shutter correction, in turn."""
    h, w = shape
    patterns = np.empty((4, h, w), np.float32)
    for pattern in patterns:
        bowl = cv2.resize(rng.standard_normal((3, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        pattern[:] = rng.standard_normal((h, w)) * 0.6 + rng.standard_normal((1, w)) * 0.6 + bowl * 0.7
        pattern *= counts / max(float(pattern.std()), 1e-6)
    return patterns


def rig_geometry(config: SimulatedRigConfig) -> RigGeometry:
    """The cameras that the configuration describes. Raises ConfigError when the residuals push the picture away."""
    h, w, ht, wt = config.height, config.width, config.thermal_height, config.thermal_width
    f = w / 2 / math.tan(math.radians(config.hfov_visible_deg) / 2)
    k_visible = np.array([[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1.0]])
    angle = math.radians(config.residual_rotation_deg)
    roll = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    if config.hfov_thermal_deg is None:
        fx, fy = f * wt / w, f * ht / h
    else:
        fx = fy = wt / 2 / math.tan(math.radians(config.hfov_thermal_deg) / 2)
    fx, fy = fx * config.residual_scale, fy * config.residual_scale
    dx, dy = config.residual_shift_px
    if abs(dx) > w / 4 or abs(dy) > h / 4:
        raise ConfigError(
            f"residual_shift_px is ({dx}, {dy}), at most a quarter of the picture ({w} x {h}) works; make it smaller"
        )
    toward = roll @ np.array([config.baseline_m / config.aligned_distance_m, 0, 0])
    cx = (wt - 1) / 2 + dx * wt / w + fx * toward[0]
    cy = (ht - 1) / 2 + dy * ht / h + fy * toward[1]
    k_thermal = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return RigGeometry(k_visible, k_thermal, roll.T, np.array([config.baseline_m, 0, 0]), (h, w), (ht, wt))
