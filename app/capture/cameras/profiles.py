"""Cameras by name: the mode, scale and layout of those that people own, from profiles.yaml."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

from app.capture.cameras.v4l2_formats import V4l2Mode
from fusion_core.frames import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CameraProfiles",
    "NetworkProfile",
    "UsbProfile",
    "counts_row",
    "doubles",
    "load_profiles",
    "profile_of",
    "sensor_rows",
    "split_double",
    "without_telemetry",
]

_TELEMETRY_ROWS = (0, 2, 8)
Price = Literal["low", "middle", "high"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProfileMode(_Entry):
    """The mode to ask the driver for."""

    pixel_format: str
    width: int
    height: int
    fps: float


class UsbProfile(_Entry):
    """A thermal camera on USB; profiles.yaml says what each field means."""

    name: str
    also: str
    usb: tuple[str, ...]
    sensor: tuple[int, int]
    mode: ProfileMode
    double: bool
    kelvin_per_count: float | None
    freeze_s: float
    price: Price
    tested: bool


class NetworkProfile(_Entry):
    """A network camera with a visible and a thermal channel. HOST stands for its address."""

    name: str
    visible: str
    thermal: str
    fps: float
    freeze_s: float
    price: Price
    tested: bool


class UnsupportedCamera(_Entry):
    """A camera that cannot be used directly, and what to do."""

    name: str
    usb: tuple[str, ...]
    why: str


class CameraProfiles(_Entry):
    """Everything in profiles.yaml."""

    usb: tuple[UsbProfile, ...]
    network: tuple[NetworkProfile, ...]
    unsupported: tuple[UnsupportedCamera, ...]


@lru_cache(maxsize=1)
def load_profiles() -> CameraProfiles:
    """Read the profiles that are shipped."""
    text = resources.files("app.capture.cameras").joinpath("profiles.yaml").read_text(encoding="utf-8")
    return CameraProfiles.model_validate(yaml.safe_load(text))


def profile_of(usb_id: str, modes: Sequence[V4l2Mode]) -> UsbProfile | None:
    """Find the profile of a device by its id and by what it offers; None for a camera that is not listed."""
    for profile in load_profiles().usb:
        wanted = profile.mode
        if usb_id in profile.usb and any(
            (mode.pixel_format, mode.width, mode.height) == (wanted.pixel_format, wanted.width, wanted.height)
            for mode in modes
        ):
            return profile
    return None


def counts_row(height: int, rows: int) -> int:
    """The first row of counts in a double-height picture of `height` rows, for a sensor of `rows`.

    What is over belongs to telemetry: four rows under each part, or two between the parts.
    """
    return height // 2 if (height - 2 * rows) % 8 == 0 else height - rows


def sensor_rows(mode: V4l2Mode, modes: Sequence[V4l2Mode]) -> int:
    """The rows of the sensor behind a double-height mode: those of a mode of half its height, but for telemetry.

    Sensors have multiples of 16 rows, where no such mode tells.
    """
    possible = [(mode.height - telemetry) // 2 for telemetry in _TELEMETRY_ROWS]
    offered = [other.height for other in modes if other.width == mode.width and other.height in possible]
    return next(iter(offered or [rows for rows in possible if rows % 16 == 0]), mode.height // 2)


def doubles(modes: Sequence[V4l2Mode]) -> list[V4l2Mode]:
    """The YUYV modes of twice the height of another mode of a thermal sensor's size: a picture above, counts below."""
    sizes = {(mode.width, mode.height) for mode in modes}
    halves = {(width, 2 * height + more) for width, height in sizes for more in _TELEMETRY_ROWS}
    return [
        mode
        for mode in modes
        if mode.pixel_format == "YUYV" and mode.height % 2 == 0 and mode.height > mode.width
        and ((mode.width, mode.height) in halves or len(sizes) == 1)
    ]  # fmt: skip


def without_telemetry(packed: np.ndarray, rows: int) -> np.ndarray:
    """(2 * rows, W, 2) of a double-height picture of YUYV bytes: the rows of picture and counts alone."""
    if packed.shape[0] == 2 * rows:
        return packed
    start = counts_row(packed.shape[0], rows)
    return np.concatenate([packed[:rows], packed[start : start + rows]])


def split_double(packed: np.ndarray, stream: Stream) -> np.ndarray:
    """Cut (H, W, 2) uint8 of YUYV bytes: thermal takes the counts below, visible the picture above as RGB."""
    half = packed.shape[0] // 2
    if stream is Stream.THERMAL:
        return np.ascontiguousarray(packed[packed.shape[0] - half :]).view("<u2")[..., 0]
    return cv2.cvtColor(np.ascontiguousarray(packed[:half]), cv2.COLOR_YUV2RGB_YUYV)
