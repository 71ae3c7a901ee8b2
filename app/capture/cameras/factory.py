"""Makes the cameras that the configuration names."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pydantic

from app.capture.cameras.av_camera import AvFileCamera, AvLiveCamera
from app.capture.cameras.camera import Camera, Clock, MonotonicClock, TimeBase
from app.capture.cameras.child_camera import ChildCamera
from app.capture.cameras.image_sequence_camera import ImageSequenceCamera
from app.capture.cameras.simulated_camera import SimulatedCamera
from app.capture.cameras.split_camera import SplitCamera, SplitSource
from app.capture.cameras.turned_camera import TurnedCamera
from app.capture.cameras.uri import CameraUri, parse_camera_uri
from app.capture.cameras.v4l2_camera import V4l2Camera
from app.media.geometry import PictureCut
from fusion_core.errors import ConfigError
from fusion_core.frames import Stream

if TYPE_CHECKING:
    from app.capture.config import CameraConfig
    from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

__all__ = ["CameraPair", "create_cameras", "create_here"]

_OF_STRANGERS: Final = ("rtsp", "rtsps")
"""Kinds whose bytes come from the network: in a process of their own unless the configuration says otherwise."""
_OWN_FIELDS: Final = frozenset({"uri", "offset_ms", "accept_colour", "reopen", "rotate", "mirror", "kelvin_per_count"})
"""May differ between the halves of a source."""


@dataclass(frozen=True, slots=True)
class CameraPair:
    """Both cameras, closed.

    lossless: both give frames as fast as they are read; hand this to `PairSynchronizer`, so that nothing is dropped.
    rig: the simulated rig, if one of the two is simulated.
    """

    visible: Camera
    thermal: Camera
    lossless: bool
    rig: SimulatedRig | None


def create_cameras(
    visible: CameraConfig,
    thermal: CameraConfig,
    *,
    simulation: SimulatedRigConfig | None = None,
    clock: Clock | None = None,
) -> CameraPair:
    """Make both cameras of a rig; opens nothing.

    Two files share their time zero, two simulated cameras their rig, two halves of a picture their device.

    Args:
        simulation: the rig behind sim:visible and sim:thermal; its rates are overridden by the cameras' `fps`.

    Raises:
        ConfigError: the same source twice, or something that this system cannot open.
    """
    configs = {Stream.VISIBLE: visible, Stream.THERMAL: thermal}
    uris = {stream: parse_camera_uri(config.uri) for stream, config in configs.items()}
    _refuse_same_source(configs, uris)
    base = TimeBase(clock if clock is not None else MonotonicClock())
    rig = _make_rig(configs, uris, simulation)
    shared: dict[object, SplitSource] = {}
    cameras: dict[Stream, Camera] = {}
    for stream, config in configs.items():
        uri = uris[stream]
        if uri.half is None or uri.kind in ("file", "images"):  # files cut their half themselves, and can be read twice
            cameras[stream] = _turned(_create(stream, uri, config, base, rig), uri, config)
            continue
        source = shared.get(uri.source)
        if source is None:
            source = SplitSource(_create(Stream.VISIBLE, uri, config, base, rig))
            shared[uri.source] = source
        cameras[stream] = _turned(SplitCamera(stream, uri, config, source), uri, config)
    unpaced = all(uri.kind in ("file", "images", "sim") and not _is_paced(uri) for uri in uris.values())
    return CameraPair(cameras[Stream.VISIBLE], cameras[Stream.THERMAL], unpaced, rig)


def _turned(camera: Camera, uri: CameraUri, config: CameraConfig) -> Camera:
    """The camera, turned as its uri says, else as its configuration says."""
    cut = PictureCut(
        rotate=uri.cut.rotate if "rotate" in uri.options else config.rotate,
        mirror=uri.cut.mirror if "mirror" in uri.options else config.mirror,
    )
    return TurnedCamera(camera, cut) if cut != PictureCut() else camera


def _is_paced(uri: CameraUri) -> bool:
    return uri.flag("realtime", default=uri.kind == "sim")


def _create(stream: Stream, uri: CameraUri, config: CameraConfig, base: TimeBase, rig: SimulatedRig | None) -> Camera:
    apart = config.own_process if config.own_process is not None else uri.kind in _OF_STRANGERS
    if apart and sys.platform == "linux" and isinstance(base.clock, MonotonicClock):
        return ChildCamera(stream, uri, config, base, rig)
    return create_here(stream, uri, config, base, rig)


def create_here(
    stream: Stream, uri: CameraUri, config: CameraConfig, base: TimeBase, rig: SimulatedRig | None
) -> Camera:
    """One camera in this process, closed. rig: behind sim: cameras. Raises ConfigError."""
    if uri.kind == "file":
        return AvFileCamera(stream, uri, config, base)
    if uri.kind == "images":
        return ImageSequenceCamera(stream, uri, config, base)
    if uri.kind == "v4l2":
        return V4l2Camera(stream, uri, config, base.clock, packed=uri.half is not None)
    if uri.kind == "sim":
        if rig is None:  # _make_rig made it; for the type checker
            raise ConfigError(f"{config.shown_uri} needs a simulated rig")
        fps = rig.config.visible_fps if uri.target == "visible" else rig.config.thermal_fps
        return SimulatedCamera(Stream(uri.target), rig, fps, base, realtime=_is_paced(uri))
    return AvLiveCamera(stream, uri, config, base.clock)


def _make_rig(
    configs: dict[Stream, CameraConfig], uris: dict[Stream, CameraUri], simulation: SimulatedRigConfig | None
) -> SimulatedRig | None:
    if all(uri.kind != "sim" for uri in uris.values()):
        return None
    from fusion_core.simulation.rig import (  # only where it is needed: it paints a world
        SimulatedRig,
        SimulatedRigConfig,
    )

    values: dict[str, Any] = simulation.model_dump() if simulation is not None else {}
    for stream, uri in uris.items():
        if uri.kind != "sim":
            continue
        if uri.target != stream.value or uri.half is not None:
            raise ConfigError(
                f"the {stream} camera is {configs[stream].shown_uri}, must be sim:{stream} for a simulated rig"
            )
        fps = configs[stream].fps
        if fps is not None:
            values[f"{stream}_fps"] = fps
    try:
        return SimulatedRig(SimulatedRigConfig.model_validate(values))
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"simulated rig: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _refuse_same_source(configs: dict[Stream, CameraConfig], uris: dict[Stream, CameraUri]) -> None:
    visible, thermal = uris[Stream.VISIBLE], uris[Stream.THERMAL]
    if visible.source != thermal.source:
        return
    shown = configs[Stream.VISIBLE].shown_uri
    if visible.half is None or thermal.half is None or visible.half == thermal.half:
        raise ConfigError(
            f"visible and thermal are the same source, {shown}; give each its own, its half (#half=left, #half=right)"
            " or, of a file, its track (?track=0, ?track=1)"
        )
    differing = [
        name
        for name in type(configs[Stream.VISIBLE]).model_fields
        if name not in _OWN_FIELDS and getattr(configs[Stream.VISIBLE], name) != getattr(configs[Stream.THERMAL], name)
    ]
    if differing:
        raise ConfigError(
            f"visible and thermal are halves of {shown}, so {', '.join(differing)} must be the same for both"
        )
