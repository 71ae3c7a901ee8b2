"""Plays pairs by number, fused by one or two sets of settings side by side.

No toolkit: a window asks for a pair and pulls the result. Only the newest request counts, so dragging never queues.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from app.pipeline.state.latest_slot import LatestSlot
from app.playback.fuser import FuseSettings, PlaybackFuser
from app.playback.sources import NumberedPairs
from fusion_core.errors import LumithermError, RecordingError
from fusion_core.frames import FramePair, FusedFrame

__all__ = ["PlaybackSession", "PlayedFrame"]

_JOIN_S = 30.0
_LOOK_S = 0.25  # for a network that has become ready

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class PlayedFrame:
    """One pair, fused by A, and by B where there is one. seconds: since the first pair."""

    index: int
    seconds: float
    frame: FusedFrame
    second: npt.NDArray[np.uint8] | None
    work_ms: float


class PlaybackSession:
    """One open source. `show` asks for a pair; the newest finished one is in `latest`.

    Thread: `playback`, from the constructor to `close`; it owns source and engines. All methods may be called from
    any thread. What goes wrong is in `error`, and the next request is tried again.

    Args:
        open_it: opens the source, on the thread.
    """

    def __init__(self, open_it: Callable[[], NumberedPairs], first: FuseSettings, second: FuseSettings | None) -> None:
        self.latest: LatestSlot[PlayedFrame] = LatestSlot()
        self._open_it = open_it
        self._condition = threading.Condition()
        self._settings = (first, second)
        self._wanted: int | None = None  # number of the pair that was asked for last and is not begun
        self._closing = False
        self._times: list[float] = []
        self._name = ""
        self._config: dict[str, Any] = {}
        self._opened = False
        self._error = ""
        self._busy = False
        self._last = 0
        self._fusers: list[PlaybackFuser | None] = [None, None]
        self._thread = threading.Thread(target=self._run, name="playback")
        self._thread.start()

    # ------------------------------------------------------------------ what is open

    @property
    def opened(self) -> bool:
        """Whether the source is open; `error` says why not."""
        with self._condition:
            return self._opened

    @property
    def error(self) -> str:
        """What went wrong last; "" when the last request was met."""
        with self._condition:
            return self._error

    @property
    def name(self) -> str:
        """Name of the source."""
        return self._name

    @property
    def config(self) -> dict[str, Any]:
        """What the recording rig was configured as; empty where that is not known."""
        return self._config

    @property
    def seconds(self) -> list[float]:
        """Time of each pair since the first one; not to be changed."""
        return self._times

    @property
    def building(self) -> tuple[float, float | None] | None:
        """For how long A's or B's network has been building, s, and how far it is, 0..1; None while none is."""
        found = [fuser.building for fuser in list(self._fusers) if fuser is not None]
        return next((building for building in found if building is not None), None)

    @property
    def busy(self) -> bool:
        """Whether a request is being met or waits."""
        with self._condition:
            return self._busy or self._wanted is not None

    # ------------------------------------------------------------------ requests

    def show(self, index: int) -> None:
        """Ask for a pair; an earlier request that was not begun is dropped."""
        with self._condition:
            self._wanted = index
            self._condition.notify_all()

    def set_settings(self, first: FuseSettings, second: FuseSettings | None) -> None:
        """Fuse by these from the next request on."""
        with self._condition:
            self._settings = (first, second)

    def close(self) -> None:
        """End the thread and close everything. Waits for the pair that is being fused."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(_JOIN_S)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        source: NumberedPairs | None = None
        fusers = self._fusers
        try:
            source = self._attempt(self._open)
            while source is not None:
                wanted = self._next()
                if wanted is None:
                    return
                found = self._attempt(partial(self._play, source, fusers, wanted))
                if found is not None:
                    self.latest.put(found)
                with self._condition:
                    self._busy = False
        finally:
            for fuser in fusers:
                if fuser is not None:
                    fuser.close()
            if source is not None:
                source.close()

    def _open(self) -> NumberedPairs:
        source = self._open_it()
        times = [source.seconds(index) for index in range(len(source))]
        with self._condition:
            self._times, self._name, self._config, self._opened = times, source.name, source.config, True
        return source

    def _attempt(self, work: Callable[[], _T]) -> _T | None:
        try:
            result = work()
        except Exception as error:  # the thread lives on: the window shows this and may ask again
            text = str(error)
            if not isinstance(error, LumithermError):
                structlog.get_logger("playback").error("playback failed", exc_info=error)
                text = f"unexpected: {type(error).__name__}: {error}"
            with self._condition:
                self._error = text
            return None
        with self._condition:
            self._error = ""
        return result

    def _next(self) -> int | None:
        with self._condition:
            while self._wanted is None and not self._closing:
                self._condition.wait(_LOOK_S)
                if self._wanted is None and any(fuser is not None and fuser.arrived() for fuser in self._fusers):
                    self._wanted = self._last  # fused again, by the network now
            if self._closing:
                return None
            wanted, self._wanted, self._busy = self._wanted, None, True
            return wanted

    def _play(self, source: NumberedPairs, fusers: list[PlaybackFuser | None], wanted: int) -> PlayedFrame:
        began_s = time.perf_counter()
        with self._condition:
            settings = self._settings
        self._last = index = min(max(wanted, 0), len(source) - 1)
        recorded = source.fused(index)
        try:
            pair: FramePair | None = source.pair(index)
        except RecordingError:
            if recorded is None:
                raise
            pair = None  # only the fused track was kept
        shown: list[FusedFrame | None] = [None, None]
        for number, chosen in enumerate(settings):
            fuser = fusers[number]
            if fuser is not None and chosen is not None:
                fuser.use_strength(chosen.strength)
            if fuser is not None and fuser.settings != chosen:
                fuser.close()
                fuser = fusers[number] = None
            if chosen is None:
                continue
            if fuser is None:
                fuser = fusers[number] = PlaybackFuser(chosen, source.calibration, background=True)
            shown[number] = fuser.fuse(pair, recorded)
        first, second = shown
        if first is None:
            raise RecordingError("nothing to show")
        pixels = None if second is None else second.pixels
        return PlayedFrame(index, self._times[index], first, pixels, (time.perf_counter() - began_s) * 1e3)
