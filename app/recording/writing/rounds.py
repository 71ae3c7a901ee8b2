"""Where files may begin: rounds of key frames, cut so that the two frames of a pair fall into the same one."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.recording.config import TrackName

__all__ = ["Round", "Rounds"]

_BACKWARDS_NS = 1_000_000_000  # stamps that fall by more than this begin a new file (a source that was started anew)
_KEPT = 32  # rounds that a late fused picture can still belong to
_REMEMBERED = 512  # raw frames of a track: fusion is not later than these
_RAW = (TrackName.VISIBLE, TrackName.THERMAL)


@dataclass(slots=True, eq=False)
class Round:
    """Pictures from one key frame of each track to the next. With any round a file can begin.

    from_ns: stamps with which the raw tracks enter it; a track that is not named enters with its next picture. A fused
    picture goes where its raw frames went. until_ns: after a clock that fell back, what is later is from before.
    """

    number: int
    from_ns: dict[TrackName, float] = field(default_factory=dict)
    at_once: frozenset[TrackName] = frozenset()  # enter with their next picture, whatever its stamp
    until_ns: float = math.inf
    first_ns: int | None = None  # of the pictures in it

    @property
    def start_ns(self) -> int | None:
        """Its earliest stamp as far as it is known."""
        known = [*self.from_ns.values(), *([self.first_ns] if self.first_ns is not None else [])]
        return math.floor(min(known)) if known else None

    def admits(self, track: TrackName, t_ns: int) -> bool:
        """Whether a picture of this track belongs here or into a later round."""
        return track in self.at_once or self.from_ns.get(track, -math.inf) <= t_ns < self.until_ns


class Rounds:
    """Gives each picture its round. Not thread-safe; owner: the recorder's thread.

    Args:
        gop_s: longest time between two key frames of a track.
    """

    def __init__(self, gop_s: float) -> None:
        self._gop_ns = gop_s * 1e9
        self._rounds: deque[Round] = deque(maxlen=_KEPT)
        self._inside: dict[TrackName, Round] = {}
        self._went: dict[TrackName, OrderedDict[int, Round]] = {track: OrderedDict() for track in _RAW}
        self._last_ns: dict[TrackName, int] = {}
        self._key_ns: dict[TrackName, int] = {}
        self._period_ns: dict[TrackName, float] = {}
        self._split_wanted = False
        self._number = 0

    @property
    def newest(self) -> int:
        """Number of the newest round."""
        return self._number

    def period_ns(self, track: TrackName) -> float | None:
        """Of the track's pictures; None until it is known."""
        return self._period_ns.get(track)

    def begin(self, at_once: frozenset[TrackName] = frozenset(), until_ns: float = math.inf) -> int:
        """Begin a round with the next picture of each raw track; returns its number."""
        self._number += 1
        self._split_wanted = False
        self._rounds.append(Round(self._number, at_once=at_once, until_ns=until_ns))
        return self._number

    def want_split(self) -> None:
        """Begin a round soon, with the two frames of a pair."""
        self._split_wanted = True

    def place(self, track: TrackName, t_ns: int) -> tuple[Round, bool]:
        """The round of the next raw picture of a track, and whether it is the track's first there (a key frame).

        The fused track goes by its own stamps where it is recorded alone.
        """
        last_ns = self._last_ns.get(track)
        if last_ns is not None and t_ns < last_ns - _BACKWARDS_NS and not self._enters_newest(track, t_ns):
            self.begin(until_ns=(last_ns + t_ns) / 2)
        elif not self._rounds:
            self.begin()
        elif self._is_due(track, t_ns):
            self._begin_regular(track, t_ns)
        self._learn(track, t_ns)
        before = now = self._inside.get(track)
        for candidate in self._rounds:
            if (now is None or candidate.number > now.number) and candidate.admits(track, t_ns):
                now = candidate
        if now is None:  # from before everything
            now = Round(0)
        if track in _RAW:
            went = self._went[track]
            went[t_ns] = now
            if len(went) > _REMEMBERED:
                went.popitem(last=False)
        return self._enter(track, t_ns, before, now)

    def place_fused(self, t_ns: int, raw_ns: Mapping[TrackName, int]) -> tuple[Round, bool]:
        """The same for a fused picture beside raw tracks. raw_ns: stamps of its raw frames, by track."""
        found = [went for track, ns in raw_ns.items() if (went := self._went[track].get(ns)) is not None]
        before = now = self._inside.get(TrackName.FUSED)
        found += [candidate for candidate in self._rounds if TrackName.FUSED in candidate.at_once]
        last_ns, self._last_ns[TrackName.FUSED] = self._last_ns.get(TrackName.FUSED), t_ns
        if not found and last_ns is not None and t_ns < last_ns - _BACKWARDS_NS:
            if not (self._rounds and self._enters_newest(TrackName.FUSED, t_ns)):
                self.begin(until_ns=(last_ns + t_ns) / 2)
            found = [self._rounds[-1]]
        if not found:  # its frames wait for their encoder, were refused, or are older than what is recorded
            found = [candidate for candidate in self._rounds if candidate.first_ns is not None]
            found = [candidate for candidate in found if candidate.first_ns <= t_ns < candidate.until_ns]  # type: ignore[operator]
        for candidate in found:
            if now is None or candidate.number > now.number:
                now = candidate
        return self._enter(TrackName.FUSED, t_ns, before, now if now is not None else Round(0))

    def _enter(self, track: TrackName, t_ns: int, before: Round | None, now: Round) -> tuple[Round, bool]:
        self._inside[track] = now
        if now is not before:
            self._key_ns[track] = t_ns
            now.first_ns = t_ns if now.first_ns is None else min(now.first_ns, t_ns)
        return now, now is not before

    def _enters_newest(self, track: TrackName, t_ns: int) -> bool:
        """Whether the clock's fall is known already, and this is the track's first picture after it."""
        newest = self._rounds[-1]
        return math.isfinite(newest.until_ns) and self._inside.get(track) is not newest and newest.admits(track, t_ns)

    def _is_due(self, track: TrackName, t_ns: int) -> bool:
        newest, key_ns = self._rounds[-1], self._key_ns.get(track)
        if self._inside.get(track) is not newest or key_ns is None:
            return False  # it is about to enter one
        if self._split_wanted:
            return True
        longest_ns = min(max(self._period_ns.values(), default=0.0), 0.25 * self._gop_ns)
        return t_ns - key_ns >= self._gop_ns - 2.5 * longest_ns

    def _begin_regular(self, track: TrackName, t_ns: int) -> None:
        """Begin a round with a thermal frame to come, and with the visible frame that will be its partner."""
        split = self._split_wanted
        self.begin()
        visible_ns, thermal_ns = (self._last_ns.get(name) for name in _RAW)
        visible_p, thermal_p = (self._period_ns.get(name) for name in _RAW)
        if track not in _RAW or visible_ns is None or thermal_ns is None or visible_p is None or thermal_p is None:
            return
        slow = max(visible_p, thermal_p) > 0.2 * self._gop_ns
        away = abs(visible_ns - thermal_ns) > max(0.5 * self._gop_ns, 3 * max(visible_p, thermal_p))
        if (slow and not split) or away:
            return  # each with its next picture
        newest_ns = max(visible_ns, t_ns if track is TrackName.VISIBLE else 0)
        last_ns = max(thermal_ns, t_ns if track is TrackName.THERMAL else 0)
        steps = max(0, math.ceil((newest_ns - (last_ns + thermal_p - visible_p / 2)) / thermal_p))
        first_ns = last_ns + (steps + 1) * thermal_p
        self._rounds[-1].from_ns = {
            TrackName.VISIBLE: first_ns - visible_p / 2,
            TrackName.THERMAL: first_ns - thermal_p / 2,
        }

    def _learn(self, track: TrackName, t_ns: int) -> None:
        last_ns, self._last_ns[track] = self._last_ns.get(track), t_ns
        if last_ns is None or t_ns <= last_ns:
            return
        step, period = t_ns - last_ns, self._period_ns.get(track)
        if period is None or step <= 3 * period:
            self._period_ns[track] = step if period is None else 0.9 * period + 0.1 * step
