"""What can be asked of a running rig, once: the HTTP API, the local socket and the triggers all come through here."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.configuration.config import EngineName, Preset
from app.configuration.service import HookEvent
from app.recording.segments import is_protected, list_recordings
from app.service.state.log_ring import LogRing
from fusion_core import config_faults
from fusion_core.errors import BadInputError, LumithermError, RunError
from fusion_core.files import refuse_planted, write_atomic
from fusion_core.redaction import redact

if TYPE_CHECKING:
    from app.pipeline.live_fusion import LiveFusion

__all__ = ["KEEP", "SNAPSHOT_FOLDER", "Operations", "explain"]

SNAPSHOT_FOLDER = "snapshots"
KEEP = ".keep"  # beside a recording: empty for one with an event, with text for one that must never be deleted
_SNAPSHOT_NAME = re.compile(r"snapshot-[0-9TZ.]+(-\d+)?")
_SNAPSHOT_FILES = ("fused.png", "visible.png", "thermal.tiff", "snapshot.json")
_MAX_LISTED = 1000
Label = Annotated[str, Field(max_length=40, pattern=r"^[A-Za-z0-9 _.-]*$")]


class NothingThereError(BadInputError):
    """There is no file of the name that was asked for."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoRequest(_Request):
    """Nothing to say."""


class LabelRequest(_Request):
    """A name for a recording or an event."""

    label: Label = Field("", description="up to 40 letters, digits, spaces, dots, - and _")


class EngineRequest(_Request):
    """Another engine."""

    name: EngineName = Field(description="what fuses")
    preset: Preset = Field(Preset.TINY, description="size of the network")


class NameRequest(_Request):
    """One recording."""

    name: str = Field(max_length=200, description="file name as listed")


class LogRequest(_Request):
    """Log lines after a number."""

    since: int = Field(0, ge=0, description="number of the last line seen")


class Operations:
    """Carries requests out. All methods may be called from any thread; `call` is what the outside uses.

    Args:
        reload: re-reads the configuration; None where there is no file to read.
        tell: is told of events, for the hooks.
    """

    def __init__(
        self,
        live: LiveFusion,
        log: LogRing,
        facts: Callable[[], Mapping[str, Any]],
        reload: Callable[[], dict[str, Any]] | None = None,
        tell: Callable[[HookEvent, dict[str, Any]], None] = lambda event, facts: None,
    ) -> None:
        self._live, self._log, self._facts, self._reload, self._tell = live, log, facts, reload, tell
        self._lock = threading.Lock()
        self._events: Counter[str] = Counter()
        self.requests: Mapping[str, tuple[type[_Request], Callable[[Any], dict[str, Any]], str]] = {
            "status": (NoRequest, self._status, "What the rig does, with all numbers"),
            "log": (LogRequest, self._log_lines, "The newest log lines"),
            "recordings": (NoRequest, self._recordings, "Recordings, newest first"),
            "start": (LabelRequest, self._start, "Begin a recording"),
            "stop": (NoRequest, self._stop, "End the recording and check it"),
            "event": (LabelRequest, self._event, "Mark this moment; begins a recording with the seconds before"),
            "trigger": (LabelRequest, self._trigger, "As event, called by another program"),
            "snapshot": (NoRequest, self._snapshot, "Save the newest picture with both sources"),
            "engine": (EngineRequest, self._engine, "Build another engine and swap it in"),
            "protect": (NameRequest, self._protect, "Keep a recording from being deleted"),
            "reload": (NoRequest, self._do_reload, "Read the configuration again and take what may change"),
        }

    def call(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one request.

        Raises:
            BadInputError: there is no such command, or its arguments are wrong.
            LumithermError: it could not be done.
        """
        if command not in self.requests:
            raise BadInputError(f"there is no command {command[:40]!r}; wanted one of {', '.join(self.requests)}")
        model, method, _ = self.requests[command]
        try:
            request = model.model_validate(dict(arguments))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "arguments"
            raise BadInputError(f"{command}: {where}: {config_faults.explain(model, first['loc'], first)}") from None
        return method(request)

    @property
    def events(self) -> Mapping[str, int]:
        """Events so far, by source."""
        with self._lock:
            return dict(self._events)

    @property
    def directory(self) -> Path:
        """Where recordings are."""
        return self._live.config.recording.directory

    # ------------------------------------------------------------------ files

    def recording_file(self, name: str) -> Path:
        """The file of a recording (.mkv, .jsonl or .md) by its bare name, never anything outside the folder.

        Raises:
            NothingThereError: there is none of that name.
        """
        stem, _, suffix = name.rpartition(".")
        for video in list_recordings(self.directory) if suffix in ("mkv", "jsonl", "md") else []:
            if video.stem == stem:
                path = video.with_suffix(f".{suffix}")
                if path.is_file() and not path.is_symlink():
                    return path
        raise NothingThereError("there is no recording of that name; the command recordings lists them")

    def snapshot_file(self, bundle: str, name: str) -> Path:
        """A file of a snapshot. Raises NothingThereError when there is none."""
        if _SNAPSHOT_NAME.fullmatch(bundle) and name in _SNAPSHOT_FILES:
            path = self.directory / SNAPSHOT_FOLDER / bundle / name
            if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
                with contextlib.suppress(PermissionError):
                    refuse_planted(path)
                    return path
        raise NothingThereError("there is no snapshot file of that name; the command recordings lists them")

    # ------------------------------------------------------------------ requests

    def mark(self, source: str, label: str) -> dict[str, Any]:
        """Mark an event that `source` (a trigger's name, external, person) noticed. Raises LumithermError."""
        self._live.recording.mark(label or source)
        with self._lock:
            self._events[source] += 1
        facts = {"source": source, "label": label or source, "time": datetime.now(UTC).isoformat()}
        self._tell(HookEvent.EVENT, facts)
        return facts

    def _status(self, _request: NoRequest) -> dict[str, Any]:
        live = self._live
        problems = [
            {
                "when": problem.when.isoformat(timespec="milliseconds"),
                "severity": problem.severity.value,
                "source": problem.source,
                "text": redact(problem.text),
                "advice": redact(problem.advice),
            }
            for problem in live.problems.recent()[-20:]
        ]
        newest = live.latest.peek()
        detector = None if live.detector is None else asdict(live.detector.figures)
        return {
            "rig": live.config.rig,
            "detector": detector,
            "detections": [] if newest is None else [asdict(each) for each in newest.detections],
            "state": live.state.value,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **self._facts(),
            "stats": live.stats.snapshot().to_dict(),
            "problems": problems,
        }

    def _log_lines(self, request: LogRequest) -> dict[str, Any]:
        return {"lines": [asdict(line) for line in self._log.newer(request.since)]}

    def _recordings(self, _request: NoRequest) -> dict[str, Any]:
        snapshot = self._live.stats.snapshot()
        current = Path(snapshot.recording_file).name if snapshot.recording_file else None
        listed = []
        for video in reversed(list_recordings(self.directory)[-_MAX_LISTED:]) if self.directory.is_dir() else ():
            try:
                status = video.stat()
            except OSError:
                continue  # deleted meanwhile
            listed.append(
                {
                    "name": video.name,
                    "bytes": status.st_size,
                    "modified": datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds"),
                    "kept": is_protected(video),
                    "being_written": video.name == current,
                }
            )
        folder = self.directory / SNAPSHOT_FOLDER
        names = sorted((path.name for path in folder.glob("snapshot-*") if path.is_dir()), reverse=True)
        return {"recordings": listed, "snapshots": names[:_MAX_LISTED]}

    def _start(self, request: LabelRequest) -> dict[str, Any]:
        self._live.recording.start(request.label or None)
        self._tell(HookEvent.RECORDING_STARTED, {"label": request.label})
        return {"recording": True}

    def _stop(self, _request: NoRequest) -> dict[str, Any]:
        summary = self._live.recording.stop()
        if summary is None:
            return {"recording": False, "files": [], "problems": []}
        return {
            "recording": False,
            "seconds": round(summary.seconds, 3),
            "bytes": summary.bytes,
            "frames": summary.frames,
            "refused": dict(summary.refused),
            "left_out": summary.left_out,
            "files": [segment.path.name for segment in summary.segments],
            "problems": list(summary.problems),
        }

    def _event(self, request: LabelRequest) -> dict[str, Any]:
        return self.mark("person", request.label)

    def _trigger(self, request: LabelRequest) -> dict[str, Any]:
        return self.mark("external", request.label)

    def _snapshot(self, _request: NoRequest) -> dict[str, Any]:
        bundle = self._live.snapshot(self.directory / SNAPSHOT_FOLDER)
        return {"snapshot": bundle.name, "files": sorted(path.name for path in bundle.iterdir())}

    def _engine(self, request: EngineRequest) -> dict[str, Any]:
        self._live.engine.request(request.name.value, request.preset.value, None)
        return {"asked_for": request.name.value, "preset": request.preset.value}

    def _protect(self, request: NameRequest) -> dict[str, Any]:
        video = self.recording_file(request.name).with_suffix(".mkv")
        try:
            write_atomic(video.with_suffix(KEEP), "by request\n")
        except OSError as error:
            raise RunError(f"{video.name} cannot be protected: {error.strerror or error}") from error
        return {"kept": video.name}

    def _do_reload(self, _request: NoRequest) -> dict[str, Any]:
        if self._reload is None:
            raise RunError("this run has no configuration file to read again")
        return self._reload()


def explain(error: LumithermError) -> str:
    """What the outside is told of an error: no passwords."""
    return redact(str(error))
