"""What a watch post relies on, checked during a run of the window: marks on pictures, recordings that can be found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from app.gui.application import Session
    from benchmarks.soak.window_report import Sample

__all__ = ["TrustWatch", "memory_growth_mb"]

_STEP = 16  # rows and columns that are compared


class TrustWatch:
    """Looks at every picture that is shown, on the GUI thread; a comparison takes some 10 us."""

    def __init__(self, session: Session) -> None:
        self.shown = self.single = 0
        self.unmarked: list[str] = []
        self._session = session
        session.controller.live.frame_ready.connect(self._look)

    def _look(self, frame: FusedFrame, _: object) -> None:
        self.shown += 1
        if not of_one_camera(frame):
            return
        self.single += 1
        texts = [chip.text for chip in self._session.window.live.stage.video.chips]
        if not any("ONLY" in text for text in texts):
            self.unmarked.append(f"picture {self.shown}: of one camera, and only {texts} on it")

    def not_in_recent(self, folder: Path) -> list[str]:
        """Recordings in the folder that the start page does not offer; it offers the last eight."""
        found = sorted(folder.glob("*.mkv"), key=lambda path: path.stat().st_mtime)[-8:]
        offered = self._session.settings.recent("recordings")
        return [path.name for path in found if path not in offered and not path.name.startswith("view_")]


def of_one_camera(frame: FusedFrame) -> bool:
    """Whether one camera alone made this picture, whatever its flags say."""
    visible, thermal = frame.pair.visible, frame.pair.thermal
    if visible is None or thermal is None:
        return True
    fused = frame.pixels[::_STEP, ::_STEP]
    if visible.pixels.shape == frame.pixels.shape and np.array_equal(fused, visible.pixels[::_STEP, ::_STEP]):
        return True
    levels = frame.thermal_8bit
    return levels is not None and np.array_equal(fused, np.repeat(levels[::_STEP, ::_STEP, None], 3, axis=2))


def memory_growth_mb(samples: list[Sample], after_s: float = 300.0) -> float | None:
    """Growth from the first to the last tenth of what comes after the fifth minute, MB; None for a shorter run."""
    later = [sample.rss_mb for sample in samples if sample.t_s >= after_s]
    tenth = len(later) // 10
    return float(np.median(later[-tenth:]) - np.median(later[:tenth])) if tenth >= 3 else None
