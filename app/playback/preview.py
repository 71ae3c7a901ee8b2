"""What a list of recordings says of each: when it was made, how long it is, and a small picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.errors import LumithermError

__all__ = ["RecordingPreview", "recording_preview"]


_PLACES = (0.5, 0.25, 0.75, 0.0, 1.0)
"""Where to look for the small picture; a stretch without one camera has none."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordingPreview:
    """began: local time. seconds: its length, None where that cannot be told. picture: (h, w, 3) uint8 RGB or None."""

    path: Path
    began: datetime
    seconds: float | None = None
    picture: npt.NDArray[np.uint8] | None = None


def recording_preview(path: Path, width_px: int = 96) -> RecordingPreview:
    """Look into a recording; one that does not open has its date only. Takes some 10 ms: not for a GUI thread."""
    from app.recording.config import TrackName  # brings codecs along, which a window need not wait for
    from app.recording.reader import RecordingReader

    try:
        began = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    except OSError:
        return RecordingPreview(path, datetime.now().astimezone())
    try:
        with RecordingReader(path) as reader:
            if len(reader) == 0 or not reader.tracks:
                return RecordingPreview(path, began)
            track = TrackName.FUSED if TrackName.FUSED in reader.tracks else reader.tracks[0]
            places = (round(share * (len(reader) - 1)) for share in _PLACES)
            picture = next((found for at in places if (found := reader.picture(track, at)) is not None), None)
            seconds = reader.info.duration_s
            began -= timedelta(seconds=seconds or 0.0)  # the file was written to until its end
    except LumithermError:
        return RecordingPreview(path, began)
    return RecordingPreview(path, began, seconds, None if picture is None else _small(picture, width_px))


def _small(picture: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], width_px: int) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    size = (width_px, max(1, round(height * width_px / width)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = cv2.normalize(small.astype(np.float32), np.empty(0), 0, 255, cv2.NORM_MINMAX)
    levels = np.asarray(small, dtype=np.uint8)
    return levels if levels.ndim == 3 else np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
