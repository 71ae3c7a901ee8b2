"""Alarms on what is measured: when one begins, when it is over, and what then happens. No toolkit, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.view.measuring import Mark, Reading

__all__ = ["Alarm", "AlarmKind", "AlarmWatch", "KeptMark"]

_BACK = 0.02  # of the limit's distance from 0 it must come back by, at least 0.3: a value at the limit must not chatter
_LEAST_BACK = 0.3


class AlarmKind(StrEnum):
    """When it goes off."""

    ABOVE = "above"  # the hottest is above the limit
    BELOW = "below"  # the coldest is below it


@dataclass(frozen=True, slots=True)
class Alarm:
    """limit: in the unit of the readings. sound: be heard. event: mark an event, which also starts a recording."""

    kind: AlarmKind
    limit: float
    sound: bool = True
    event: bool = False


@dataclass(frozen=True, slots=True)
class KeptMark:
    """A mark as it is remembered. degrees: whether the limit of its alarm is in °C."""

    mark: Mark
    alarm: Alarm | None = None
    degrees: bool = False


class AlarmWatch:
    """One alarm with its memory."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.active = False

    def judge(self, reading: Reading | None) -> bool:
        """Take the newest reading; returns whether the alarm begins with it. Without a reading it stays as it is."""
        if reading is None:
            return False
        alarm, was = self.alarm, self.active
        back = max(_LEAST_BACK, _BACK * abs(alarm.limit)) if was else 0.0
        if alarm.kind is AlarmKind.ABOVE:
            self.active = reading.maximum > alarm.limit - back
        else:
            self.active = reading.minimum < alarm.limit + back
        return self.active and not was
