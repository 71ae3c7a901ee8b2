"""Which time offset each camera gets: the one that is configured, else the one that the calibration has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.capture.cameras.uri import parse_camera_uri
from fusion_core.frames import Stream

if TYPE_CHECKING:
    from app.capture.config import CameraConfig

__all__ = ["resolve_offsets"]

_REPLAYED: Final = frozenset({"file", "images"})  # their stamps were made, and corrected, when they were recorded
_CONTRADICTION_MS: Final = 10.0


def resolve_offsets(
    visible: CameraConfig, thermal: CameraConfig, visible_minus_thermal_ms: float | None
) -> tuple[dict[Stream, CameraConfig], str | None]:
    """Both cameras with a number for `offset_ms`, and what is wrong with what was configured, if anything.

    Where both offsets are null and both cameras are live, thermal gets what brings it onto the visible stamps by the
    calibration's measurement. A number for either is taken as the whole truth: null is 0 beside it.

    Args:
        visible_minus_thermal_ms: of one moment, the visible stamp less the thermal one, without any offset added; None
            where it was not measured.
    """
    visible_ms, thermal_ms = visible.offset_ms or 0.0, thermal.offset_ms or 0.0
    replayed = any(parse_camera_uri(camera.uri).kind in _REPLAYED for camera in (visible, thermal))
    problem = None
    if visible_minus_thermal_ms is not None and not replayed:
        if visible.offset_ms is None and thermal.offset_ms is None:
            thermal_ms = visible_minus_thermal_ms
        elif abs(thermal_ms - visible_ms - visible_minus_thermal_ms) > _CONTRADICTION_MS:
            problem = (
                f"thermal.offset_ms less visible.offset_ms is {thermal_ms - visible_ms:g} ms, the calibration has "
                f"measured {visible_minus_thermal_ms:.0f} ms; set both to null to take that, or calibrate again"
            )
    return {
        Stream.VISIBLE: visible.model_copy(update={"offset_ms": visible_ms}),
        Stream.THERMAL: thermal.model_copy(update={"offset_ms": thermal_ms}),
    }, problem
