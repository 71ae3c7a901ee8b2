"""A slot that holds the newest value only: the crossing from fusion to whoever looks, at whatever speed."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

__all__ = ["LatestSlot"]

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """One producer overwrites, any number of consumers pull. Never blocks the producer; holds one value.

    Each value has a sequence number, 1 for the first. A consumer keeps the number it saw last and starts with 0.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._value: T | None = None
        self._sequence = 0
        self._seen = 0
        self._overwritten = 0

    def put(self, value: T) -> int:
        """Replace the value; returns its sequence number."""
        with self._changed:
            if self._seen < self._sequence:
                self._overwritten += 1
            self._value = value
            self._sequence += 1
            self._changed.notify_all()
            return self._sequence

    def get_newer(self, than_sequence: int) -> tuple[int, T] | None:
        """(sequence, value) if there is one newer than `than_sequence`, else None. Never waits."""
        with self._changed:
            return self._take(than_sequence)

    def wait_newer(self, than_sequence: int, timeout_s: float) -> tuple[int, T] | None:
        """As `get_newer`, but waits up to `timeout_s` for a newer value."""
        with self._changed:
            self._changed.wait_for(lambda: self._value is not None and self._sequence > than_sequence, timeout_s)
            return self._take(than_sequence)

    def peek(self) -> T | None:
        """The value, without counting as a consumer; None while there is none."""
        with self._changed:
            return self._value

    def peek_newer(self, than_sequence: int) -> tuple[int, T] | None:
        """As `get_newer`, without counting as a consumer."""
        with self._changed:
            return None if self._value is None or self._sequence <= than_sequence else (self._sequence, self._value)

    def clear(self) -> None:
        """Let the value go; the numbering goes on."""
        with self._changed:
            self._value = None

    @property
    def sequence(self) -> int:
        """Number of the newest value, 0 before the first."""
        with self._changed:
            return self._sequence

    @property
    def overwritten(self) -> int:
        """Values that were replaced before any consumer took them."""
        with self._changed:
            return self._overwritten

    def _take(self, than_sequence: int) -> tuple[int, T] | None:
        if self._value is None or self._sequence <= than_sequence:
            return None
        self._seen = self._sequence
        return self._sequence, self._value
