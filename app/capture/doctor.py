"""Measures both cameras together and says what is wrong with them and with this machine, each with the remedy."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from app.capture.cameras.camera import Clock, MonotonicClock
from app.capture.capture_thread import CaptureState, CaptureStats, CaptureThread
from app.capture.offset_estimator import OffsetEstimate, OffsetEstimator
from app.capture.synchronizer import PairSynchronizer, SyncStats
from fusion_core.errors import BadInputError, CameraTimeout, EndOfStream
from fusion_core.frames import Frame, Stream

if TYPE_CHECKING:
    from app.capture.cameras.factory import CameraPair
    from app.capture.config import CameraConfig
    from app.capture.sync_config import SyncConfig

__all__ = ["Finding", "Measurement", "check_disk", "check_video_group", "judge", "measure"]

_LEAST_RATE: Final = 0.8  # of the nominal rate
_LEAST_FREE_GB: Final = 2.0
_SURE_OFFSET_MS: Final = 5.0  # a smaller one is within the estimate's error


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `fix` is empty where all is well."""

    name: str
    text: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done."""
        return not self.fix


@dataclass(frozen=True, slots=True)
class Measurement:
    """What both cameras did in the time. stamps_ns, by stream: of all frames, with the configured offsets applied."""

    stamps_ns: dict[Stream, list[int]]
    capture: dict[Stream, CaptureStats]
    sync: SyncStats
    offset: OffsetEstimate
    failures: dict[Stream, str]


def measure(
    cameras: CameraPair,
    configs: dict[Stream, CameraConfig],
    sync_config: SyncConfig,
    seconds: float,
    clock: Clock | None = None,
) -> Measurement:
    """Run both cameras and the pairing for `seconds` of streaming, plus at most 5 s for opening."""
    clock = clock if clock is not None else MonotonicClock()
    sync = PairSynchronizer(sync_config, clock)
    estimator, lock = OffsetEstimator(), threading.Lock()
    stamps: dict[Stream, list[int]] = {stream: [] for stream in Stream}
    failures: dict[Stream, str] = {}

    def take(frame: Frame) -> None:
        sync.put(frame)
        with lock:
            stamps[frame.stream].append(frame.timestamp_ns)
            estimator.add(frame)

    def failed(stream: Stream, error: Exception) -> None:
        failures[stream] = str(error)
        sync.end(stream)

    pair = {Stream.VISIBLE: cameras.visible, Stream.THERMAL: cameras.thermal}
    threads = {
        stream: CaptureThread(camera, stream, configs[stream], take, clock=clock, on_end=sync.end, on_failure=failed)
        for stream, camera in pair.items()
    }
    for thread in threads.values():
        thread.start()
    open_until_ns = clock.now_ns() + 5_000_000_000
    until_ns: int | None = None
    try:
        while until_ns is None or clock.now_ns() < until_ns:
            if until_ns is None and (all(stamps.values()) or clock.now_ns() >= open_until_ns):
                until_ns = clock.now_ns() + round(seconds * 1e9)
            try:
                sync.get(0.1)
            except CameraTimeout:
                continue
            except EndOfStream:
                break
        capture = {stream: thread.stats() for stream, thread in threads.items()}
    finally:
        for thread in threads.values():
            thread.request_stop()
        for thread in threads.values():
            thread.stop()
    try:
        offset = estimator.estimate()
    except BadInputError as error:
        offset = OffsetEstimate(0.0, 0.0, False, str(error))
    return Measurement(stamps, capture, sync.stats(), offset, failures)


def judge(measured: Measurement, configs: dict[Stream, CameraConfig], sync_config: SyncConfig) -> list[Finding]:
    """The findings of a measurement: both cameras, their skew, the offset between them."""
    findings = [_judge_camera(stream, measured, configs[stream]) for stream in (Stream.VISIBLE, Stream.THERMAL)]
    if not all(len(stamps) >= 2 for stamps in measured.stamps_ns.values()):
        return findings
    sync = measured.sync
    text = (
        f"median {sync.skew_median_ms:+.1f} ms, 95 % within {sync.skew_abs_p95_ms:.1f} ms,"
        f" {sync.pairs} pairs of {sync.outputs} outputs"
    )
    fix = ""
    if not sync.pairs or sync.skew_exceeded > sync.pairs / 10:
        fix = (
            f"the stamps do not meet within sync.max_skew_ms ({sync_config.max_skew_ms:g}): set the offset_ms proposed"
            " below; if one camera is delivered much later, raise sync.buffer_frames"
        )
    findings.append(Finding("skew", text, fix))
    offset = measured.offset
    if not offset.sure:
        findings.append(Finding("offset", f"not measured: {offset.why_not}"))
    elif abs(offset.offset_ms) < _SURE_OFFSET_MS:
        findings.append(
            Finding("offset", f"{offset.offset_ms:+.1f} ms{_sigma(offset)}: the time stamps of both cameras agree")
        )
    else:
        proposed = (configs[Stream.VISIBLE].offset_ms or 0.0) + offset.offset_ms
        beside = configs[Stream.THERMAL].offset_ms or 0.0  # as it is, also where it came from the calibration
        findings.append(
            Finding(
                "offset",
                f"visible is stamped {abs(offset.offset_ms):.0f} ms too {'early' if offset.offset_ms > 0 else 'late'}"
                f" against thermal (agreement {offset.correlation:.2f}{_sigma(offset)})",
                f"set visible.offset_ms: {proposed:.0f}" + (f" and thermal.offset_ms: {beside:.0f}" if beside else ""),
            )
        )
    return findings


def _sigma(offset: OffsetEstimate) -> str:
    return f", 1 sigma {offset.sigma_ms:.1f} ms" if math.isfinite(offset.sigma_ms) else ""


def _judge_camera(stream: Stream, measured: Measurement, config: CameraConfig) -> Finding:
    stats = measured.capture[stream]
    name = f"{stream} camera"
    if stream in measured.failures:
        return Finding(name, config.shown_uri, measured.failures[stream])
    stamps = measured.stamps_ns[stream]
    if len(stamps) < 2 or stats.info is None:
        reason = stats.reason or "no picture came"
        return Finding(name, config.shown_uri, f"{reason}; `lumitherm devices` shows what is connected")
    steps_ms = np.diff(np.asarray(stamps, np.float64)) / 1e6
    period_ms = float(np.median(steps_ms))
    rate = (len(stamps) - 1) * 1e3 / float(steps_ms.sum())
    jitter_ms = float(np.percentile(np.abs(steps_ms - period_ms), 95))
    info = stats.info
    text = (
        f"{info.model} {info.width}x{info.height} {info.pixel_format}, {rate:.2f} fps (nominal {info.fps:g}), jitter"
        f" {jitter_ms:.1f} ms (95 %), stamps: {info.ts_source}, lost {stats.dropped}, reopened {stats.reconnects}"
    )
    fix = ""
    if info.fps and rate < _LEAST_RATE * info.fps:
        fix = (
            "too few pictures: a dark scene lengthens the exposure; USB: another port or MJPG; network: lower bit rate"
        )
    if stats.state not in (CaptureState.STREAMING, CaptureState.ENDED):
        fix = stats.reason or f"the camera is {stats.state}"
    return Finding(name, text, fix)


def check_disk(directory: Path) -> Finding:
    """Free space where recordings go."""
    existing = directory.expanduser().absolute()
    while not existing.exists():
        existing = existing.parent
    free_gb = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    fix = ""
    if free_gb < _LEAST_FREE_GB:
        fix = f"less than {_LEAST_FREE_GB:g} GB: free some, or set recording.directory to another disk"
    if not writable:
        fix = f"you may not write to {existing}: set recording.directory to a folder of yours"
    return Finding("disk", f"{free_gb:.1f} GB free in {existing}", fix)


def check_video_group(needed: bool) -> Finding:
    """Whether the user may open V4L2 devices; without such a camera the answer is only told."""
    if sys.platform != "linux":
        return Finding("permissions", "not needed on this system")
    import grp

    try:
        group_id = grp.getgrnam("video").gr_gid
    except KeyError:
        return Finding("permissions", "this system has no video group")
    member = os.geteuid() == 0 or group_id in os.getgroups()
    if member:
        return Finding("permissions", "you may open video devices")
    text = "you are not in the video group"
    return Finding("permissions", text, "sudo usermod -aG video $USER, then log in again" if needed else "")
