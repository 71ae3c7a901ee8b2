"""The sound of an alarm: three short tones. The library that plays it is loaded when an alarm is first to be heard."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np
from PyQt6.QtCore import QObject, QTemporaryFile, QUrl, pyqtSignal
from PyQt6.QtWidgets import QApplication

__all__ = ["AlarmSound", "alarm_wave"]

_RATE_HZ, _TONE_HZ = 22050, 988.0
_TONE_S, _PAUSE_S, _TONES = 0.14, 0.09, 3


def alarm_wave() -> bytes:
    """Return the tones as a WAV file: 16 bit, one channel."""
    t_s = np.arange(round(_TONE_S * _RATE_HZ)) / _RATE_HZ
    fade = np.minimum(1.0, np.minimum(t_s, _TONE_S - t_s) / 0.01)
    tone = np.concatenate([np.sin(2 * np.pi * _TONE_HZ * t_s) * fade, np.zeros(round(_PAUSE_S * _RATE_HZ))])
    samples = (np.tile(tone, _TONES) * 26000).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE_HZ)
        out.writeframes(samples.tobytes())
    return file.getvalue()


class AlarmSound(QObject):
    """Plays on the system's output; where there is none, the desktop's bell has to do. GUI thread.

    silent: nothing can be played here; told once, at the first alarm.
    """

    silent = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.played = 0
        self._effect: Any = None
        self._looked = False
        self._file = QTemporaryFile(self)

    def play(self) -> None:
        """Be heard once; a second one while it plays begins anew."""
        self.played += 1
        if not self._looked:
            self._looked = True
            self._effect = self._make()
            if self._effect is None:
                self.silent.emit()
        if self._effect is not None:
            self._effect.play()
        else:
            QApplication.beep()

    def _make(self) -> Any:
        try:
            from PyQt6.QtMultimedia import QMediaDevices, QSoundEffect
        except ImportError:  # the system lacks the sound library: nothing else of the window needs it
            return None
        if QMediaDevices.defaultAudioOutput().isNull() or not self._file.open():
            return None
        self._file.write(alarm_wave())
        self._file.flush()
        effect = QSoundEffect(self)
        effect.statusChanged.connect(self._on_status)
        effect.setSource(QUrl.fromLocalFile(self._file.fileName()))
        return effect

    def _on_status(self) -> None:
        """The output takes no sound: the bell from now on, for the alarm that waits, too."""
        effect = self._effect
        if effect is not None and effect.status() is effect.Status.Error:
            self._effect = None
            effect.deleteLater()
            self.silent.emit()
            QApplication.beep()
