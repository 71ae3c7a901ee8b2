"""Which visible frame belongs to which thermal frame: pure decisions, without locks, threads or a clock.

`match_nearest` is the rule; `PairMatcher` applies it to two streams that arrive bit by bit. Every call takes the time,
so a day passes in seconds in a test.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Final

from app.capture.sync_config import FfcFallback, OutputRate, SyncConfig
from fusion_core.frames import Frame, FrameFlag, FramePair, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DropCause", "PairMatcher", "match_nearest", "output_time_ns"]

_MS: Final = 1_000_000
_HISTORY: Final = 15  # stamps from which a stream's period and delay are taken (their median)
_DEFAULT_PERIOD_NS: Final = 33_333_333  # until two frames have come
_BACK_NS: Final = 300_000_000  # a lost stream has to be steady for this long, and 3 periods, before it is used again
_OTHER: Final = {Stream.VISIBLE: Stream.THERMAL, Stream.THERMAL: Stream.VISIBLE}
_RESTART_NS: Final = 1_000_000_000  # stamps that step back further than this are a new stream, not a disordered one


class DropCause(StrEnum):
    """Why a frame did not reach the output. `*_unused` is normal with different rates; the rest is loss."""

    VISIBLE_UNUSED = "visible_unused"
    THERMAL_UNUSED = "thermal_unused"
    VISIBLE_OVERFLOW = "visible_overflow"
    THERMAL_OVERFLOW = "thermal_overflow"
    VISIBLE_SUPERSEDED = "visible_superseded"
    THERMAL_SUPERSEDED = "thermal_superseded"
    VISIBLE_UNMATCHED = "visible_unmatched"
    THERMAL_UNMATCHED = "thermal_unmatched"
    VISIBLE_OUT_OF_ORDER = "visible_out_of_order"
    THERMAL_OUT_OF_ORDER = "thermal_out_of_order"


def match_nearest(visible_ns: Sequence[int], thermal_ns: int, max_skew_ns: int) -> int | None:
    """Position of the stamp in `visible_ns` (rising) nearest to `thermal_ns`, the earlier of two equally near ones.

    None if none is within `max_skew_ns`.
    """
    if not visible_ns:
        return None
    best = bisect_left(visible_ns, thermal_ns)
    if best == len(visible_ns) or (best > 0 and thermal_ns - visible_ns[best - 1] <= visible_ns[best] - thermal_ns):
        best -= 1
    return best if abs(visible_ns[best] - thermal_ns) <= max_skew_ns else None


def output_time_ns(pair: FramePair) -> int:
    """The moment the output picture shows: strictly rising over the outputs of one matcher in either mode.

    The thermal stamp, but the visible one where thermal is missing or HELD (then its stamp is of the past).
    """
    if pair.visible is not None and (pair.thermal is None or FrameFlag.HELD & pair.flags):
        return pair.visible.timestamp_ns
    return pair.timestamp_ns


@dataclass(slots=True, eq=False)
class _Entry:
    frame: Frame
    arrived_ns: int
    deadline_ns: int = 0  # master frames: when they leave at the latest
    ready_ns: int | None = None  # master frames: since when their partner is known
    used: bool = False


@dataclass(slots=True, eq=False)
class _StreamState:
    """What is known of one stream: its waiting frames, period, delivery delay, and when it was last alive."""

    buffer: deque[_Entry]
    least_stale_ns: float
    hold_ns: float
    stale_ns: float = 0.0  # silent for longer: late
    lost_ns: float = 0.0  # silent for longer while the other one was alive: lost
    period_ns: float = _DEFAULT_PERIOD_NS
    delay_ns: float = 0.0  # from time stamp to arrival
    last_stamp_ns: int | None = None
    last_index: int = 0
    last_arrival_ns: int | None = None
    alive_since_ns: int | None = None
    ended: bool = False
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    delays: deque[int] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    def __post_init__(self) -> None:
        self._bound()

    def learn(self, frame: Frame, now_ns: int) -> None:
        if self.last_arrival_ns is None or now_ns - self.last_arrival_ns > self.stale_ns:
            self.alive_since_ns = now_ns
        self.last_arrival_ns = now_ns
        if self.last_stamp_ns is not None:
            lost = max(1, frame.index - self.last_index)
            self.steps.append((frame.timestamp_ns - self.last_stamp_ns) / lost)
            self.period_ns = median(self.steps)
            self._bound()
        self.delays.append(now_ns - frame.timestamp_ns)
        self.delay_ns = median(self.delays)
        self.last_stamp_ns = frame.timestamp_ns
        self.last_index = frame.index

    def silent(self, now_ns: int) -> bool:
        return self.last_arrival_ns is None or now_ns - self.last_arrival_ns > self.stale_ns

    def _bound(self) -> None:
        self.stale_ns = max(self.least_stale_ns, 1.5 * self.period_ns) if self.steps else self.least_stale_ns
        self.lost_ns = max(self.hold_ns, self.stale_ns)

    def forget(self) -> None:
        self.buffer.clear()
        self.steps.clear()
        self.delays.clear()
        self.last_stamp_ns = None
        self.period_ns = _DEFAULT_PERIOD_NS
        self._bound()


class PairMatcher:
    """Two streams in, pairs out. The master stream's frames are answered one by one, in order; the newest wins.

    A master frame is ready when no later partner can be nearer, or when its deadline (half a visible period after its
    arrival; longer where visible is delivered later) has passed. Not thread-safe: `PairSynchronizer` adds the lock.

    One rule decides about pictures of one camera alone, and it is a state of a stream, not of a frame: a stream is lost
    when it has given nothing for `hold_ms` while the other one was alive, and found again when it has been steady for
    0.3 s. While it is merely late (silent for `stale_ms`) its last frame stands in, flagged; then there is no such
    picture. A shutter freeze that outlasts `hold_ms` is the other state.

    Args:
        lossless: for files read as fast as possible: time plays no part, nothing is dropped from the master stream, and
            the caller pushes only where `has_room`.
    """

    def __init__(self, config: SyncConfig, lossless: bool = False) -> None:
        self.config = config
        self.lossless = lossless
        self.dropped: Counter[DropCause] = Counter()
        limits_ns = config.stale_ms * _MS, config.hold_ms * _MS
        self._streams = {stream: _StreamState(deque(), *limits_ns) for stream in Stream}
        self.master: Final = Stream.THERMAL if config.output_rate is OutputRate.THERMAL else Stream.VISIBLE
        self._partner = Stream.VISIBLE if self.master is Stream.THERMAL else Stream.THERMAL
        self._max_skew_ns = round(config.max_skew_ms * _MS)
        self._last_good: Frame | None = None  # thermal, stands in while thermal is late or its shutter is closed
        self._last_visible: Frame | None = None  # stands in while visible is late
        self._lost: set[Stream] = set()
        self._not_before_ns: int | None = None  # shown while the master was silent: what it delivers late is over
        self._in_ffc = False
        self._last_output_ns: int | None = None
        self._out_of_step = False  # nothing has fitted for a while: flagged pairs go out instead of none

    # ------------------------------------------------------------------ in

    def has_room(self, stream: Stream) -> bool:
        """Whether a frame can be pushed without dropping one."""
        return len(self._streams[stream].buffer) < self.config.buffer_frames

    def push(self, frame: Frame, now_ns: int) -> None:
        """Take one frame of either stream; `now_ns` is the time of its arrival."""
        state = self._streams[frame.stream]
        if state.last_stamp_ns is not None and frame.timestamp_ns <= state.last_stamp_ns:
            if state.last_stamp_ns - frame.timestamp_ns <= _RESTART_NS:
                self._drop(frame.stream, "OUT_OF_ORDER")
                return
            state.forget()
            self._not_before_ns = None
        state.ended = False
        state.learn(frame, now_ns)
        if self._last_output_ns is None:
            self._last_output_ns = now_ns
        if len(state.buffer) >= self.config.buffer_frames:
            oldest = state.buffer.popleft()
            if not oldest.used:
                self._drop(frame.stream, "OVERFLOW" if frame.stream is self.master else "UNUSED")
        entry = _Entry(frame, now_ns)
        if frame.stream is self.master:
            entry.deadline_ns = now_ns + self._longest_wait_ns(entry)
        else:
            state.buffer.append(entry)
            for waiting in self._streams[self.master].buffer:
                self._settle(waiting, now_ns)
            return
        self._settle(entry, now_ns)
        state.buffer.append(entry)

    def end(self, stream: Stream) -> None:
        """The stream is over (a file's end): nobody waits for it any more."""
        self._streams[stream].ended = True

    @property
    def finished(self) -> bool:
        """Both streams have ended and everything has been given out."""
        return all(state.ended for state in self._streams.values()) and not self._pending(self.master)

    # ------------------------------------------------------------------ out

    def poll(self, now_ns: int) -> FramePair | None:
        """The next pair, or None. Call again until None: several may be ready at once."""
        master = self._streams[self.master]
        if self._missing(self.master, now_ns):
            return self._emit_alone(self._partner, now_ns)
        partner_missing = self._missing(self._partner, now_ns)
        if self.lossless:
            return self._poll_lossless(now_ns, partner_missing)
        self._drop_what_is_over(master.buffer)
        if not master.buffer and self._late(self.master, now_ns):
            return self._emit_with_last_master(now_ns)
        ready = []
        for entry in master.buffer:
            if entry.ready_ns is None and (partner_missing or entry.deadline_ns <= now_ns):
                entry.ready_ns = now_ns if partner_missing else entry.deadline_ns
            if entry.ready_ns is not None:
                ready.append(entry)
        if not ready:
            return None
        # Newest wins: what was ready clearly before the newest ready one is the backlog of a slow consumer. What became
        # ready at the same moment (one visible frame settled two thermal ones) all goes out.
        newest_ready_ns = max(entry.ready_ns or 0 for entry in ready)
        for entry in ready:
            while master.buffer[0] is not entry:
                master.buffer.popleft()
                self._drop(self.master, "SUPERSEDED")
            is_backlog = newest_ready_ns - (entry.ready_ns or 0) > master.period_ns / 4
            if is_backlog and entry is not ready[-1]:
                continue
            master.buffer.popleft()
            pair = self._emit_master(entry, now_ns, partner_missing)
            if pair is not None:
                return pair
        return None

    def next_event_ns(self, now_ns: int) -> int | None:
        """When `poll` may give something without a further push; None if it will not."""
        times: list[float] = [entry.deadline_ns for entry in self._streams[self.master].buffer]
        for stream, state in self._streams.items():
            if self._pending(_OTHER[stream]) and (since := self._silent_since_ns(stream)) is not None:
                times += [since + state.stale_ns, since + state.lost_ns]
        later = [time for time in times if time > now_ns]
        return int(min(later)) + 1 if later else None

    def period_ms(self, stream: Stream) -> float:
        """The stream's measured frame period."""
        return self._streams[stream].period_ns / _MS

    def delay_ms(self, stream: Stream) -> float:
        """The stream's measured time from stamp to arrival."""
        return self._streams[stream].delay_ns / _MS

    def depth(self, stream: Stream) -> int:
        """Frames waiting."""
        return len(self._streams[stream].buffer)

    # ------------------------------------------------------------------ decisions

    def _longest_wait_ns(self, entry: _Entry) -> int:
        half_visible_ns = self._streams[Stream.VISIBLE].period_ns / 2
        partner_delay_ns = self._streams[self._partner].delay_ns
        later_ns = max(0.0, partner_delay_ns - (entry.arrived_ns - entry.frame.timestamp_ns))
        return round(min(half_visible_ns + later_ns, self.config.max_wait_ms * _MS))

    def _settle(self, entry: _Entry, now_ns: int) -> None:
        """Mark a master frame ready if no partner still to come is expected to be nearer."""
        if entry.ready_ns is not None:
            return
        partner = self._streams[self._partner]
        if not partner.buffer:
            return
        behind_ns = entry.frame.timestamp_ns - partner.buffer[-1].frame.timestamp_ns
        if behind_ns <= 0:
            entry.ready_ns = now_ns
            return
        if self.lossless:
            return
        to_next_ns = partner.period_ns - behind_ns
        if behind_ns <= partner.period_ns / 2 or to_next_ns > self._streams[Stream.VISIBLE].period_ns / 2:
            entry.ready_ns = now_ns

    def _silent_since_ns(self, stream: Stream) -> int | None:
        """Since when the other stream has been alive and this one silent; None if the other one is not alive either."""
        other = self._streams[_OTHER[stream]]
        if other.alive_since_ns is None:
            return None
        own = self._streams[stream].last_arrival_ns
        return other.alive_since_ns if own is None else max(own, other.alive_since_ns)

    def _missing(self, stream: Stream, now_ns: int) -> bool:
        """Whether the stream is to be left out: ended or lost. The state changes here and nowhere else."""
        state = self._streams[stream]
        if state.ended:
            return not self._pending(stream)
        if self.lossless:
            return False
        if stream not in self._lost:
            if self._silent_for(stream, now_ns, state.lost_ns):
                self._lost.add(stream)
        elif not state.silent(now_ns):
            steady_ns = now_ns - (state.alive_since_ns or 0)
            if steady_ns >= max(_BACK_NS, 3 * state.period_ns):
                self._lost.discard(stream)
        return stream in self._lost

    def _late(self, stream: Stream, now_ns: int) -> bool:
        """Whether the stream has been silent for longer than it should be, and its last frame is to stand in."""
        return self._silent_for(stream, now_ns, self._streams[stream].stale_ns)

    def _silent_for(self, stream: Stream, now_ns: int, limit_ns: float) -> bool:
        """Whether it has been silent that long while the other one was alive; after a stop of the process both are."""
        own_ns = self._streams[stream].last_arrival_ns
        if own_ns is not None and now_ns - own_ns < limit_ns:
            return False
        since = self._silent_since_ns(stream)
        if since is None or self._streams[_OTHER[stream]].silent(now_ns):
            return False
        return now_ns - since >= limit_ns

    def _pending(self, stream: Stream) -> bool:
        for entry in self._streams[stream].buffer:  # noqa: SIM110 - a third of the time of any()
            if not entry.used:
                return True
        return False

    def _drop_what_is_over(self, buffer: deque[_Entry]) -> None:
        """Forget master frames of a time that has been shown without them."""
        before_ns = self._not_before_ns
        while before_ns is not None and buffer and buffer[0].frame.timestamp_ns <= before_ns:
            buffer.popleft()
            self._drop(self.master, "SUPERSEDED")

    def _poll_lossless(self, now_ns: int, partner_missing: bool) -> FramePair | None:
        master, partner = self._streams[self.master].buffer, self._streams[self._partner].buffer
        if not master:
            return None
        head_ns = master[0].frame.timestamp_ns
        while len(partner) > 1 and partner[1].frame.timestamp_ns <= head_ns:  # cannot be the nearest any more
            if not partner.popleft().used:
                self._drop(self._partner, "UNUSED")
        if master[0].ready_ns is None:
            self._settle(master[0], now_ns)
        if master[0].ready_ns is None and not partner_missing and not self._streams[self._partner].ended:
            return None
        return self._emit_master(master.popleft(), now_ns, partner_missing)

    # ------------------------------------------------------------------ making pairs

    def _choose_partner(self, entry: _Entry) -> _Entry | None:
        """The nearest partner; an unused one if that costs no more than half a visible period. Not limited by skew."""
        buffer = self._streams[self._partner].buffer
        time_ns = entry.frame.timestamp_ns
        stamps = [partner.frame.timestamp_ns for partner in buffer]
        position = match_nearest(stamps, time_ns, 1 << 62)
        if position is None:
            return None
        best = buffer[position]
        if best.used and self.master is Stream.THERMAL:
            fresh = [p for p in buffer if not p.used and self._near_enough(p, time_ns)]
            if fresh:
                return min(fresh, key=lambda p: abs(p.frame.timestamp_ns - time_ns))
        return best

    def _near_enough(self, partner: _Entry, time_ns: int) -> bool:
        half_ns = self._streams[Stream.VISIBLE].period_ns / 2
        return abs(partner.frame.timestamp_ns - time_ns) <= min(half_ns, self._max_skew_ns)

    def _emit_master(self, entry: _Entry, now_ns: int, partner_missing: bool) -> FramePair | None:
        partner = self._choose_partner(entry)
        within = partner is not None and abs(partner.frame.timestamp_ns - entry.frame.timestamp_ns) <= self._max_skew_ns
        if self.master is Stream.VISIBLE:
            return self._emit_visible_rate(entry, partner, within, now_ns, partner_missing)
        if partner is None or partner_missing:
            if partner_missing or self._streams[self._partner].ended:
                return self._done(self._lone_thermal(entry.frame), now_ns)
            self._drop(Stream.THERMAL, "UNMATCHED")
            return None
        flags = FrameFlag.NONE
        self._out_of_step &= not within
        if not within:
            silent_ns = now_ns - (self._last_output_ns or 0)
            self._out_of_step |= silent_ns >= self._streams[Stream.THERMAL].stale_ns
            if not self.lossless and not self._out_of_step:
                self._drop(Stream.THERMAL, "UNMATCHED")
                return None
            flags |= FrameFlag.SKEW_EXCEEDED  # a picture that says so is better than none
        if partner.used:
            if not self.config.reuse_visible:
                self._drop(Stream.THERMAL, "UNMATCHED")
                return None
            flags |= FrameFlag.REUSED_VISIBLE
        self._use(partner)
        return self._done(self._with_thermal(partner.frame, entry.frame, flags), now_ns)

    def _emit_visible_rate(
        self, entry: _Entry, partner: _Entry | None, within: bool, now_ns: int, partner_missing: bool
    ) -> FramePair | None:
        entry.used = True
        if partner_missing:
            return self._done(self._lone_visible(entry.frame), now_ns)
        if partner is not None and within and not partner.used:
            self._use(partner)
            self._last_visible = entry.frame
            return self._done(self._with_thermal(entry.frame, partner.frame, FrameFlag.NONE), now_ns)
        good = self._last_good
        if partner is not None and entry.frame.timestamp_ns - partner.frame.timestamp_ns >= -self._max_skew_ns:
            self._use(partner)
            if FrameFlag.FFC & partner.frame.flags:
                return self._done(self._with_thermal(entry.frame, partner.frame, FrameFlag.NONE), now_ns)
            good = self._last_good = partner.frame
        if good is None:
            self._drop(Stream.VISIBLE, "UNMATCHED")
            return None
        self._last_visible = entry.frame
        return self._done(self._held(entry.frame, good), now_ns)

    def _emit_with_last_master(self, now_ns: int) -> FramePair | None:
        """The newest frame of the other stream with the last one of the master, which is late."""
        fresh = [entry for entry in self._streams[self._partner].buffer if not entry.used]
        if not fresh:
            return None
        frame = fresh[-1].frame
        if self.master is Stream.THERMAL and self._last_good is not None:
            pair = self._held(frame, self._last_good)
            if self._in_ffc:
                pair = self._lone_visible(frame)
        elif self.master is Stream.VISIBLE and self._last_visible is not None and self.config.reuse_visible:
            apart_ns = abs(frame.timestamp_ns - self._last_visible.timestamp_ns)
            exceeded = FrameFlag.SKEW_EXCEEDED if apart_ns > self._max_skew_ns else FrameFlag.NONE
            pair = self._with_thermal(self._last_visible, frame, FrameFlag.REUSED_VISIBLE | exceeded)
        else:
            return None
        self._use(fresh[-1])
        self._not_before_ns = output_time_ns(pair)
        return self._done(pair, now_ns)

    def _emit_alone(self, stream: Stream, now_ns: int) -> FramePair | None:
        """The newest frame of a stream whose master is missing (in lossless mode the oldest)."""
        buffer = self._streams[stream].buffer
        fresh = [entry for entry in buffer if not entry.used]
        if not fresh:
            return None
        chosen = fresh[0] if self.lossless else fresh[-1]
        for entry in fresh:
            if entry is chosen:
                break
            entry.used = True
            self._drop(stream, "SUPERSEDED")
        self._not_before_ns = chosen.frame.timestamp_ns
        if stream is Stream.THERMAL:
            while buffer.popleft() is not chosen:
                pass
            return self._done(self._lone_thermal(chosen.frame), now_ns)
        self._use(chosen)
        return self._done(self._lone_visible(chosen.frame), now_ns)

    def _held(self, visible: Frame, thermal: Frame) -> FramePair:
        """The pair with a thermal frame from before, STALE where it is older than `hold_ms`."""
        too_old = visible.timestamp_ns - thermal.timestamp_ns > self.config.hold_ms * _MS
        flags = FrameFlag.HELD | (FrameFlag.STALE if too_old else FrameFlag.NONE)
        return FramePair(visible, replace(thermal, flags=thermal.flags | flags), flags)

    def _with_thermal(self, visible: Frame, thermal: Frame, flags: FrameFlag) -> FramePair:
        """The pair, with the last good thermal frame in place of one that the shutter spoils."""
        self._in_ffc = bool(FrameFlag.FFC & thermal.flags)
        if not self._in_ffc:
            self._last_good = thermal
            return FramePair(visible, thermal, flags)
        flags |= FrameFlag.FFC
        good = self._last_good
        too_old = good is None or visible.timestamp_ns - good.timestamp_ns > self.config.hold_ms * _MS
        if good is None or (too_old and self.config.ffc_fallback is FfcFallback.VISIBLE_ONLY):
            return FramePair(visible, None, flags & ~FrameFlag.SKEW_EXCEEDED | FrameFlag.VISIBLE_ONLY)
        extra = FrameFlag.HELD | (FrameFlag.STALE if too_old else FrameFlag.NONE)
        return FramePair(visible, replace(good, flags=good.flags | FrameFlag.FFC | extra), flags | extra)

    def _lone_visible(self, frame: Frame) -> FramePair:
        good = self._last_good
        if self._in_ffc and good is not None and frame.timestamp_ns - good.timestamp_ns <= self.config.hold_ms * _MS:
            extra = FrameFlag.FFC | FrameFlag.HELD
            return FramePair(frame, replace(good, flags=good.flags | extra), extra)
        return FramePair(frame, None, FrameFlag.VISIBLE_ONLY)

    def _lone_thermal(self, frame: Frame) -> FramePair:
        self._in_ffc = bool(FrameFlag.FFC & frame.flags)
        if not self._in_ffc:
            self._last_good = frame
        return FramePair(None, frame, FrameFlag.THERMAL_ONLY | (frame.flags & FrameFlag.FFC))

    def _use(self, entry: _Entry) -> None:
        """Mark a frame as given out and forget older ones of its stream."""
        buffer = self._streams[entry.frame.stream].buffer
        while buffer[0] is not entry:
            if not buffer.popleft().used:
                self._drop(entry.frame.stream, "UNUSED")
        entry.used = True

    def _done(self, pair: FramePair, now_ns: int) -> FramePair:
        self._last_output_ns = now_ns
        return pair

    def _drop(self, stream: Stream, why: str) -> None:
        self.dropped[DropCause[f"{stream.name}_{why}"]] += 1
