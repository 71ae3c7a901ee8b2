"""Time stamps of decoded frames: strictly increasing, whatever the file's own are. No frame is left out for its stamp.

What a player does, too: a stream without stamps runs at its rate; where the clock starts over (joined files) the time
goes on; a frame without a stamp, or with one that is not later, follows the one before.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any

__all__ = ["FrameTimes"]

_NO_TIMESTAMPS = 0x0080  # AVFMT_NOTIMESTAMPS
_FALLBACK_RATE = Fraction(25)
_JOIN_FRAMES = 5  # a stamp further back than this many frames begins another file; less is a matter of order
_AHEAD_FRAMES = 100
_AHEAD_S = 10


class FrameTimes:
    """Gives each decoded frame its stamp, in `time_base`, in the order of decoding. One owner thread.

    begins: the container's start in `time_base`, which is no delay of the camera. joins: where the clock started over.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        rate = stream.codec_context.framerate or stream.average_rate or stream.guessed_rate or None
        self.by_rate = bool(int(container.format.flags) & _NO_TIMESTAMPS)
        self.rate_is_known = bool(stream.codec_context.framerate) or not self.by_rate
        self.rate: Fraction | None = rate if self.by_rate else stream.average_rate or stream.guessed_rate or None
        if self.by_rate and not self.rate_is_known:
            self.rate = _FALLBACK_RATE
        self.time_base: Fraction = stream.time_base
        if self.by_rate:
            assert self.rate is not None  # for the type checker
            self.time_base = 1 / self.rate
        self.step = max(1, round(1 / ((self.rate or _FALLBACK_RATE) * self.time_base)))
        # AVI stamps packets by their place in the file; with B frames that is not the order in which they are shown.
        self._by_packet = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        start = container.start_time
        ordinary = start is not None and not self.by_rate and not self._by_packet
        self.begins = round(Fraction(start, 1_000_000) / self.time_base) if ordinary else 0
        self.joins = self.moved = 0
        self.longest_jump_s = 0.0
        self._packets: deque[int] = deque()
        self._last: int | None = None
        self._shift = 0

    def sent(self, packet: Any) -> None:
        """A packet goes to the decoder."""
        if self._by_packet and packet is not None and packet.size and packet.dts is not None:
            self._packets.append(packet.dts)

    def refused(self) -> None:
        """The packet sent last was damaged and gives no frame."""
        if self._packets:
            self._packets.pop()

    def stamp(self, decoded: Any) -> int:
        """The time of this frame, later than that of the one before."""
        stamp = decoded.pts
        if self.by_rate:
            stamp = None
        elif self._by_packet:
            stamp = self._packets.popleft() if self._packets else None
        if self._last is None:
            self._last = (0 if self.by_rate else self.begins) if stamp is None else stamp
            return self._last
        if stamp is None:
            stamp = self._last + self.step
        else:
            stamp += self._shift
            if stamp < self._last - _JOIN_FRAMES * self.step:
                self.joins += 1
                self._shift += self._last + self.step - stamp
                stamp = self._last + self.step
            elif stamp <= self._last:
                self.moved += 1
                stamp = self._last + 1
            elif stamp - self._last > _AHEAD_FRAMES * self.step:
                self.longest_jump_s = max(self.longest_jump_s, float((stamp - self._last) * self.time_base))
        self._last = int(stamp)
        return self._last

    def notes(self, name: str) -> list[str]:
        """What is to be said of the stamps, one line each."""
        lines = []
        if self.by_rate:
            origin = "the rate in its header" if self.rate_is_known else "which is assumed: it tells no rate"
            lines.append(f"{name}: has no time stamps; it runs at {float(self.rate or 0):g} frames/s, {origin}")
        if self.joins:
            lines.append(f"{name}: its clock starts over {self.joins} times (joined files?); time was made to go on")
        if self.moved:
            lines.append(f"{name}: {self.moved} frames without a later time stamp follow the one before at once")
        if self.longest_jump_s > _AHEAD_S:
            lines.append(f"{name}: its time stamps leap ahead by {self.longest_jump_s:.1f} s, taken as a pause")
        return lines
