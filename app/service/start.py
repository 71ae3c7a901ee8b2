"""How a run begins: with the configuration as it is, or in safe mode after too many runs that did not end in order."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import structlog

from app.configuration.service import ServiceConfig
from app.service.systemd import StartLedger, boot_id
from fusion_core.files import make_folder, plain_name, read_json, write_atomic

if TYPE_CHECKING:
    from app.configuration.config import AppConfig

__all__ = [
    "RequestedRecording",
    "RequestedRecordingFile",
    "ServiceStart",
    "begin_run",
    "requested_recording_file",
    "safe_mode_config",
    "state_directory",
]


_MAX_LABEL = 40


@dataclass(frozen=True, slots=True)
class RequestedRecording:
    """What somebody asked of the recorder last. wanted: a recording was begun, or ended. label: of the recording."""

    wanted: bool
    label: str | None = None


class RequestedRecordingFile:
    """Keeps what somebody asked of the recorder last, so that a restart goes on with it.

    A recording that was begun is wanted until somebody ends it, whatever happens in between. One that was ended stays
    so until the computer is switched off and on: then the configuration's `autostart` decides again. A damaged file
    counts as none.
    """

    def __init__(self, file: Path, boot: str | None = None) -> None:
        self._file = file
        self._boot = boot if boot is not None else boot_id()

    def read(self) -> RequestedRecording | None:
        """What holds now; None = nobody has said anything."""
        try:
            data = read_json(self._file)
            wanted, label, boot = data["recording"], data["label"], data["boot"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(wanted, bool) or not (wanted or boot == self._boot):
            return None
        return RequestedRecording(wanted, label if isinstance(label, str) and 0 < len(label) <= _MAX_LABEL else None)

    def note(self, wanted: bool, label: str | None) -> None:
        """Write it down. A folder that cannot be written is logged: the recording itself goes on."""
        text = json.dumps({"recording": wanted, "label": label, "boot": self._boot})
        try:
            make_folder(self._file.parent, 0o700, ours=True)
            write_atomic(self._file, text)
        except OSError as error:
            structlog.get_logger("service").warning(
                "a restart will not know what is to be recorded", file=str(self._file), reason=str(error)
            )


def state_directory(config: ServiceConfig) -> Path:
    """Where to keep what survives a restart."""
    if config.state_directory is not None:
        return config.state_directory
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else Path(platformdirs.user_state_path("lumitherm"))


def requested_recording_file(config: AppConfig) -> RequestedRecordingFile:
    """Where this rig keeps what somebody last asked of its recorder."""
    return RequestedRecordingFile(state_directory(config.service) / f"recording-{plain_name(config.rig)}.json")


@dataclass(frozen=True, slots=True)
class ServiceStart:
    """How a run begins.

    ledger: to end in order; None = starts are not counted. restarts: starts within the window whose run did not end in
    order.
    """

    config: AppConfig
    ledger: StartLedger | None = None
    restarts: int = 0
    safe_mode: bool = False


def begin_run(config: AppConfig) -> ServiceStart:
    """Note this start, and decide whether it is in safe mode. Call it once, before the pipeline is made.

    Returns:
        With the configuration to run, which is that of safe mode if it has to be.

    Raises:
        ConfigError: the state folder cannot be written.
    """
    limits = config.service.watchdog
    ledger = StartLedger(state_directory(config.service) / f"starts-{plain_name(config.rig)}.json", limits.window_s)
    restarts = ledger.begin()
    if restarts < limits.max_restarts:
        return ServiceStart(config, ledger, restarts)
    structlog.get_logger("service").error(
        "safe mode: raw recording only",
        restarts=restarts,
        window_s=limits.window_s,
        advice="the log before this line tells why it kept failing",
    )
    return ServiceStart(safe_mode_config(config), ledger, restarts, safe_mode=True)


def safe_mode_config(config: AppConfig) -> AppConfig:
    """Keep of a rig only what recording both cameras needs: no network, calibration, push or triggers."""
    engine = config.engine.model_copy(update={"name": _average(config), "weights": None})
    tracks = tuple(t for t in type(config.recording).model_fields["tracks"].default if t.value != "fused")
    recording = config.recording.model_copy(
        update={"autostart": True, "tracks": tracks, "pre_event_s": 0, "post_event_s": 0, "encoder": "software"}
    )
    if recording.disk_policy.value == "fused_only":
        recording = recording.model_copy(update={"disk_policy": type(recording.disk_policy)("stop")})
    return config.model_copy(
        update={
            "engine": engine.model_copy(update={"fallback": type(engine.fallback)("average")}),
            "calibration": type(config.calibration).model_validate({"self_align": "off"}),
            "recording": recording,
            "service": config.service.model_copy(update={"push": (), "triggers": ()}),
        }
    )


def _average(config: AppConfig) -> Any:
    return type(config.engine.name)("average")
