"""Setting up a pair of cameras: what is connected, both pictures live, the time offset, and the YAML file.

No toolkit here: a window or a terminal asks and shows.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import structlog

from app.configuration.config import AppConfig, load_config
from fusion_core.errors import (
    BadInputError,
    CameraTimeout,
    CaptureError,
    ConfigError,
    EndOfStream,
    LumithermError,
    UsageError,
)
from fusion_core.files import replacing
from fusion_core.frames import Frame, Stream

if TYPE_CHECKING:
    import numpy as np

    from app.capture.cameras.camera import Camera
    from app.capture.offset_estimator import OffsetEstimate
    from calibration.rig import Calibration

__all__ = [
    "FoundAlignment",
    "PairPreview",
    "SourceChoice",
    "address_uri",
    "config_text",
    "found_alignment",
    "list_profiles",
    "list_sources",
    "offset_to_save",
    "simulated_config",
    "write_config",
    "write_rig",
]

_READ_S = 0.2
_RETRY_S = 1.0
_JOIN_S = 6.0
_LEAST_OFFSET_MS, _OFFSET_SIGMAS = 10.0, 3.0
_ALIGN_PAIRS = 6  # a second apart: people and branches are elsewhere in each
_THERMAL_WORDS = re.compile(
    r"(?i)boson|lepton|flir|thermal|seek|infiray|purethermal|tau|hikmicro|topdon|tc001|p2pro|y16"
)


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """A source that can be picked. `reason` says why it is named so; `stream` is a guess, None = either."""

    uri: str
    name: str
    reason: str
    stream: Stream | None = None


def list_sources() -> list[SourceChoice]:
    """Connected cameras first, then the simulated pair. May take some 100 ms: not for a GUI thread."""
    found: list[SourceChoice] = []
    if sys.platform == "linux":
        from app.capture.cameras.identity import identify, list_devices

        devices = list_devices()
        for record in devices:
            identity = identify(record, devices)
            stream = Stream.THERMAL if _THERMAL_WORDS.search(record.name) else None
            if identity.uri:
                found.append(SourceChoice(identity.uri, record.name, f"{identity.reason} ({record.node})", stream))
    found.append(SourceChoice("sim:visible", "Simulated visible camera", "part of this program", Stream.VISIBLE))
    found.append(SourceChoice("sim:thermal", "Simulated thermal camera", "part of this program", Stream.THERMAL))
    return found


def simulated_config(**sections: Any) -> AppConfig:
    """The simulated rig as `configs/simulated.yaml` has it, for a start without any file.

    Args:
        sections: values that replace or add to those sections, e.g. engine={"name": "pyramid"}.
    """
    values: dict[str, Any] = {
        "rig": "simulated",
        "visible": {"uri": "sim:visible"},
        "thermal": {"uri": "sim:thermal"},
        "budget": {"baseline_m": 0.06, "focal_px": 554.0, "reference_distance_m": 15.0, "near_limit_m": 4.0},
        "simulation": {"jitter_ms": 1.0},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section if isinstance(section, dict) else section
    return AppConfig.model_validate(values)


@dataclass(frozen=True, slots=True, eq=False)
class FoundAlignment:
    """How thermal lies on visible, found from the scene alone.

    calibration: to be kept; None where plain scaling is right already, or the scene does not tell (`why_not`).
    off_px: how far plain scaling is off, median, where thermal lies far off; None where it is near. left_px: what is
    left, median.
    """

    calibration: Calibration | None = None
    off_px: float | None = None
    left_px: float = 0.0
    why_not: str = ""


class _StoppedError(Exception):
    """The preview ends while the alignment is searched."""


class PairPreview:
    """Both cameras live, without pairing or fusion, and the offset and the alignment between them from the scene.

    Threads: one a camera, `preview-STREAM`, and `preview-align`, from `start` to `stop`. All methods may be called from
    any thread.

    Raises:
        ConfigError: the URIs cannot be used together.
    """

    def __init__(self, visible_uri: str, thermal_uri: str, config: AppConfig | None = None) -> None:
        from app.capture.cameras.factory import create_cameras
        from app.capture.config import CameraConfig
        from app.capture.offset_estimator import OffsetEstimator

        simulation = config.simulation if config is not None else None
        try:
            visible, thermal = CameraConfig(uri=visible_uri), CameraConfig(uri=thermal_uri, accept_colour=False)
        except pydantic.ValidationError as error:
            raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
        pair = create_cameras(visible, thermal, simulation=simulation)
        self._cameras: dict[Stream, Camera] = {Stream.VISIBLE: pair.visible, Stream.THERMAL: pair.thermal}
        self._lock = threading.Lock()
        self._estimator = OffsetEstimator()
        self._frames: dict[Stream, Frame] = {}
        self._errors: dict[Stream, str] = {}
        self._began_s = 0.0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(stream,), name=f"preview-{stream}") for stream in Stream
        ]
        self._threads.append(threading.Thread(target=self._align, name="preview-align"))
        self._alignment: FoundAlignment | None = None

    def start(self) -> None:
        """Open both cameras, in their threads."""
        self._began_s = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close both cameras and wait for their threads."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_JOIN_S)

    def latest(self, stream: Stream) -> Frame | None:
        """The newest frame of a camera."""
        with self._lock:
            return self._frames.get(stream)

    def error(self, stream: Stream) -> str:
        """Why a camera gives no picture; "" if it does."""
        with self._lock:
            return self._errors.get(stream, "")

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began_s if self._began_s else 0.0

    def estimate(self) -> OffsetEstimate | None:
        """The offset from all frames so far; None while there are too few. Up to 100 ms."""
        with self._lock:
            try:
                return self._estimator.estimate()
            except BadInputError:
                return None

    @property
    def alignment(self) -> FoundAlignment | None:
        """How thermal lies on visible; None while it is searched."""
        with self._lock:
            return self._alignment

    def _align(self) -> None:
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        while not self._stopping.wait(1.0):
            visible, thermal = self.latest(Stream.VISIBLE), self.latest(Stream.THERMAL)
            if visible is not None and thermal is not None:
                pairs.append((visible.pixels, thermal.pixels))
            if len(pairs) < _ALIGN_PAIRS:
                continue
            try:
                found = found_alignment(pairs, self._go_on)
            except _StoppedError:
                return
            except Exception as error:  # a thread must not die silently: say it where it is looked for
                structlog.get_logger("assistant").error("no alignment", exc_info=error)
                found = FoundAlignment(why_not=f"unexpected: {type(error).__name__}: {error}")
            with self._lock:
                self._alignment = found
            if not found.why_not:
                return
            pairs.clear()  # the scene may tell more a moment later

    def _go_on(self, *_: object) -> None:
        if self._stopping.is_set():
            raise _StoppedError

    def _run(self, stream: Stream) -> None:
        camera = self._cameras[stream]
        while not self._stopping.is_set():
            try:
                camera.open()
                self._note(stream, "")
                self._read(stream, camera)
            except EndOfStream:
                self._note(stream, "the file has ended")
                self._stopping.wait(_RETRY_S)
            except LumithermError as error:
                self._note(stream, str(error))
                self._stopping.wait(_RETRY_S)
            except Exception as error:  # a thread must not die silently: say it where it is looked for
                structlog.get_logger("assistant").error("preview failed", exc_info=error)
                self._note(stream, f"unexpected: {type(error).__name__}: {error}")
                break
            finally:
                camera.close()

    def _read(self, stream: Stream, camera: Camera) -> None:
        while not self._stopping.is_set():
            try:
                frame = camera.read(_READ_S)
            except CameraTimeout:
                continue
            except CaptureError:
                raise
            with self._lock:
                self._frames[stream] = frame
                self._estimator.add(frame)

    def _note(self, stream: Stream, text: str) -> None:
        with self._lock:
            if text:
                self._errors[stream] = text
                self._frames.pop(stream, None)
            else:
                self._errors.pop(stream, None)


def offset_to_save(estimate: OffsetEstimate | None) -> float | None:
    """Return the offset, ms, if writing it down is better than writing none.

    Where it is small, what the measurement cannot tell is as large: different lenses, and a shutter that reads line
    by line, pull it by several ms either way.
    """
    if estimate is None or not estimate.sure:
        return None
    doubt_ms = max(_LEAST_OFFSET_MS, _OFFSET_SIGMAS * estimate.sigma_ms)
    return estimate.offset_ms if abs(estimate.offset_ms) > doubt_ms else None


def list_profiles() -> list[tuple[str, str, str]]:
    """Known network cameras with both channels: (name, visible URI, thermal URI), with HOST for the address."""
    from app.capture.cameras.profiles import load_profiles

    return [(profile.name, profile.visible, profile.thermal) for profile in load_profiles().network]


def address_uri(text: str) -> str:
    """Return the URI of what somebody pasted: an address, a path, a dropped file's URL. "" for nothing."""
    text = text.strip().strip("\"'")
    if text.lower().startswith("file://"):
        from urllib.parse import unquote, urlsplit

        return f"file:{unquote(urlsplit(text).path)}"
    if not text or re.match(r"(?i)(rtsps?|file|images|v4l2|sim|dshow|avfoundation):", text):
        return text
    return f"images:{text}" if Path(text).is_dir() else f"file:{text}"


def found_alignment(pairs: list[tuple[np.ndarray, np.ndarray]], go_on: Callable[..., None]) -> FoundAlignment:
    """How thermal lies on visible in these pairs, (H, W, 3) uint8 and (Ht, Wt). Some ten seconds of work.

    Args:
        go_on: called often; may raise to end it.
    """
    from calibration.rig import plain_scaling
    from calibration.targetless import align_from_nothing

    same = [pair for pair in pairs if pair[0].shape == pairs[-1][0].shape and pair[1].shape == pairs[-1][1].shape]
    try:
        found = align_from_nothing(same, progress=go_on, searched=go_on)
    except BadInputError as error:
        return FoundAlignment(why_not=str(error))
    left_px = found.after.magnitude_px
    if found.start is not None:
        off_px = found.start.off_px(plain_scaling(*found.start.sizes))
        return FoundAlignment(found.calibration, off_px, left_px)
    return FoundAlignment(None if found.problem else found.calibration, None, left_px)


def config_text(
    rig: str, visible_uri: str, thermal_uri: str, offset_ms: float | None, calibration: Path | None = None
) -> str:
    """The YAML of a new rig.

    Args:
        offset_ms: as measured: what the visible stamps lack against the thermal ones; None = not measured.
        calibration: the file that the alignment found was written to.
    """
    file = "null" if calibration is None else _quoted(str(calibration))
    made = (
        "`lumitherm calibrate` makes one; without it only a distant scene is aligned"
        if calibration is None
        else "found from the scene by the assistant; a board is more exact"
    )
    thermal_offset = "null" if offset_ms is None else f"{-offset_ms:.1f}"
    told = "null: as the calibration measures it" if offset_ms is None else "measured by the assistant"
    return f"""# Made by the set-up assistant. `lumitherm config schema` explains every key.

rig: {_quoted(rig)}

visible:
  uri: {_quoted(visible_uri)}
  offset_ms: null

thermal:
  uri: {_quoted(thermal_uri)}
  offset_ms: {thermal_offset}  # ms added to each stamp; {told}

sync:
  output_rate: thermal

engine:
  name: auto
  fallback: pyramid

calibration:
  file: {file}  # {made}

# recording:
#   directory: recordings  # unless said here, the window records to your folder for videos
"""


def write_rig(
    path: Path, rig: str, uris: tuple[str, str], offset_ms: float | None, found: FoundAlignment | None
) -> AppConfig:
    """Write a new rig's configuration, and beside it the alignment that was found.

    Raises:
        UsageError, ConfigError: as `write_config`.
    """
    if found is None or found.calibration is None:
        return write_config(path, config_text(rig, *uris, offset_ms))
    from calibration.rig import save_calibration

    file = path.with_name(f"{path.stem}.calibration.yaml")
    if path.exists() or file.exists():
        raise UsageError(f"{path if path.exists() else file} exists already; give another name")
    try:
        save_calibration(replace(found.calibration, verdict="found from the scene by the assistant"), file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}; choose a folder of yours") from error
    try:
        return write_config(path, config_text(rig, *uris, offset_ms, file.resolve()))
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def write_config(path: Path, text: str) -> AppConfig:
    """Write a configuration file and read it back.

    Raises:
        UsageError: the file exists and may not be replaced. ConfigError: it cannot be written, or is wrong (then
            nothing is left behind).
    """
    if path.exists():
        raise UsageError(f"{path} exists already; give another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
            return load_config(part)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}; choose a folder of yours") from error


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
