"""What can be played: a recording, or a visible and a thermal video, as pairs by number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fusion_core.errors import BadInputError, LumithermError
from fusion_core.files import read_bounded
from fusion_core.frames import FrameFlag, FramePair
from fusion_core.yaml_config import MAX_BYTES

__all__ = ["NumberedPairs", "open_source", "recorded_calibration"]


class NumberedPairs(Protocol):
    """Pairs by number: a recording, or two files. One thread at a time."""

    @property
    def name(self) -> str: ...
    @property
    def calibration(self) -> Path | None:
        """File that aligns thermal; None = plain scaling."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """What the recording rig was configured as; empty where that is not known."""
        ...

    def __len__(self) -> int: ...
    def seconds(self, index: int) -> float:
        """Time of a pair since the first one."""
        ...

    def pair(self, index: int) -> FramePair:
        """A pair. Its flags are those of the recorded picture, which may be of two cameras where the file has one."""
        ...

    def fused(self, index: int) -> npt.NDArray[np.uint8] | None:
        """The fused picture that was recorded, None if there is none."""
        ...

    def close(self) -> None: ...


class _Recording:
    """A Lumitherm recording as a source of pairs."""

    def __init__(self, path: Path) -> None:
        from app.recording.reader import RecordingReader

        self._reader = RecordingReader(path)
        self.name = path.name
        self.calibration: Path | None = None
        self.config: dict[str, Any] = {}
        if len(self._reader) == 0:
            self._reader.close()
            raise BadInputError(f"{path} holds no pairs; `lumitherm recording recover` may find some")
        header = self._reader.info.header
        if header is not None:
            app = header.config.get("app")
            self.config = dict(app) if isinstance(app, Mapping) else {}
            self.calibration = recorded_calibration(header.config, self._reader.line(0).calibration)

    def __len__(self) -> int:
        return len(self._reader)

    def seconds(self, index: int) -> float:
        return (self._reader.line(index).t_ns - self._reader.line(0).t_ns) / 1e9

    def pair(self, index: int) -> FramePair:
        pair, line = self._reader.pair(index), self._reader.line(index)
        return pair if line.fused is None else replace(pair, flags=FrameFlag(line.flags))

    def fused(self, index: int) -> npt.NDArray[np.uint8] | None:
        return self._reader.fused(index)

    def close(self) -> None:
        self._reader.close()


def recorded_calibration(config: dict[str, Any], identity: str | None) -> Path | None:
    """Find the calibration file that a recording was made with; None if it is gone or was changed since.

    Args:
        config: of the recording's header. identity: as its first pair has it, see `ThermalGrid.identity`.
    """
    app = config.get("app")
    calibration = app.get("calibration") if isinstance(app, Mapping) else None
    name = calibration.get("file") if isinstance(calibration, Mapping) else None
    if not isinstance(name, str) or not name or not identity:
        return None
    try:  # a stranger's recording may name any file
        data = read_bounded(name, MAX_BYTES, "calibration")
    except (OSError, ValueError, LumithermError):
        return None
    used = identity.partition("+")[0]  # without what self-alignment added, which is not kept
    return Path(name) if hashlib.sha256(data).hexdigest()[:16] == used else None


def open_source(path: Path, thermal: Path | None = None) -> NumberedPairs:
    """Open a recording, or with `thermal` a visible and a thermal video.

    Raises:
        BadInputError: a file cannot be read, or holds no pairs.
    """
    if thermal is None:
        return _Recording(path)
    from app.playback.video_files import VideoFiles  # brings codecs along, which a window need not wait for

    return VideoFiles(path, thermal)
