"""The pre-event buffer: the last seconds of encoded pictures, kept in memory until something happens."""

from __future__ import annotations

from collections import deque

from app.recording.segments import EncodedPicture

__all__ = ["PacketRing"]


class PacketRing:
    """Encoded pictures of the last `seconds`, in whole rounds, so that a file can begin with them. Not thread-safe.

    It holds up to one round more than `seconds`, so that the first picture is never too late. Above `max_bytes` it
    gets shorter.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._span_ns = round(seconds * 1e9)
        self._max_bytes = max_bytes
        self._pictures: deque[EncodedPicture] = deque()
        self._rounds: deque[tuple[int, int]] = deque()  # number, and time of the first picture
        self._newest_ns = 0
        self.nbytes = 0
        self.begin_round = 0
        """An empty buffer begins with no earlier round: of that some pictures may be gone."""

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def seconds(self) -> float:
        """Time between the oldest and the newest picture."""
        return (self._newest_ns - self._rounds[0][1]) / 1e9 if self._rounds else 0.0

    @property
    def first_ns(self) -> int | None:
        """Time of the oldest picture; None when empty."""
        return self._rounds[0][1] if self._rounds else None

    def add(self, picture: EncodedPicture) -> None:
        """Take the next picture in and let go of what is too old or too much."""
        begins = picture.fresh and picture.round >= self.begin_round
        if not self._span_ns or (not self._rounds and not begins):
            return
        if not self._rounds or picture.round > self._rounds[-1][0]:
            self._rounds.append((picture.round, picture.t_ns))
        elif picture.round < self._rounds[0][0]:
            return  # fused long after: its round is gone
        self._pictures.append(picture)
        self._newest_ns = picture.t_ns
        self.nbytes += picture.nbytes
        while len(self._rounds) > 1:
            if self.nbytes <= self._max_bytes and picture.t_ns - self._rounds[1][1] < self._span_ns:
                break
            self._drop_first_round()
        if self.nbytes > self._max_bytes and len(self._rounds) == 1:
            self.clear()  # not even one round fits

    def _drop_first_round(self) -> None:
        self._rounds.popleft()
        first = self._rounds[0][0]
        self._pictures = deque(picture for picture in self._pictures if picture.round >= first)
        self.nbytes = sum(picture.nbytes for picture in self._pictures)

    def take_all(self) -> list[EncodedPicture]:
        """Everything, oldest first; the ring is empty afterwards."""
        pictures = list(self._pictures)
        self.clear()
        return pictures

    def clear(self) -> None:
        """Forget everything."""
        self._pictures.clear()
        self._rounds.clear()
        self.nbytes = 0
