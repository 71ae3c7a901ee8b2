"""The tree of errors that Lumitherm raises on purpose.

    LumithermError
    ├── UsageError                  exit code 2: the request itself is wrong
    │   ├── ConfigError             a configuration file or value
    │   └── BadInputError           a file or array that cannot be used
    │       ├── DamagedInputError   exit code 1: a file of the right kind that breaks while it is read
    │       └── CheckpointError     weights that are damaged, foreign or do not fit
    └── RunError                    exit code 1: a sound request failed at run time
        ├── EngineError             an engine would not start, build or run
        │   └── DeviceMemoryError   the GPU has no memory left for it just now
        ├── RecordingError          a recording could not be written or read
        └── CaptureError            a camera or stream
            ├── CameraTimeout       no frame within the time asked for; the camera may come back
            ├── CameraLost          the camera is gone or broken; close and reopen
            └── EndOfStream         a file or finite stream has ended

Every message says what happened, what was expected, and what to do. Anything else that escapes is a bug.
"""

from __future__ import annotations

from fusion_core.redaction import redacted

__all__ = [
    "BadInputError",
    "CameraLost",
    "CameraTimeout",
    "CaptureError",
    "CheckpointError",
    "ConfigError",
    "DamagedInputError",
    "DeviceMemoryError",
    "EndOfStream",
    "EngineError",
    "LumithermError",
    "RecordingError",
    "RunError",
    "UsageError",
]


class LumithermError(Exception):
    """Root of all errors raised on purpose; `str(error)` is fit for the user, its text without credentials."""

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(redacted(argument) if isinstance(argument, str) else argument for argument in arguments))


class UsageError(LumithermError):
    """The request cannot be carried out as it stands: wrong arguments, configuration or input."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or value is wrong; the message names file, line and key."""


class BadInputError(UsageError, ValueError):
    """An input file or array cannot be used."""


class DamagedInputError(BadInputError):
    """A file of the right kind that breaks while it is read. The request was sound, so the exit code is 1."""

    exit_code = 1


class CheckpointError(BadInputError):
    """A weights file is missing, damaged, foreign, or does not fit the network."""


class RunError(LumithermError):
    """A sound request failed while running."""


class EngineError(RunError):
    """A fusion engine would not start, build or run."""


class DeviceMemoryError(EngineError):
    """The GPU has no memory left for an engine; it may have later, and nothing is wrong with the engine's files."""


class RecordingError(RunError):
    """A recording could not be written or read."""


class CaptureError(RunError):
    """A camera or stream failed."""


class CameraTimeout(CaptureError):  # noqa: N818 - reads as what it says
    """No frame arrived within the time asked for."""


class CameraLost(CaptureError):  # noqa: N818
    """The camera is gone or broken: close it and reopen."""


class EndOfStream(CaptureError):  # noqa: N818
    """A file or finite stream has no more frames."""
