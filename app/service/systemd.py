"""What systemd and we tell each other: the notify protocol, the start ledger behind safe mode, and the unit file."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from fusion_core.errors import ConfigError
from fusion_core.files import make_folder, read_json, write_atomic

__all__ = ["Notifier", "StartLedger", "UnitSettings", "boot_id", "unit_text", "watchdog_period_s"]

_MAX_STATUS = 200


class Notifier:
    """Sends datagrams to $NOTIFY_SOCKET; does nothing where there is none. Thread-safe, never waits.

    Args:
        address: value of NOTIFY_SOCKET: a path, or @NAME in the abstract namespace; None = no systemd.
    """

    def __init__(self, address: str | None) -> None:
        self._address: str | None = None
        self._socket: socket.socket | None = None
        if address and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls) -> Notifier:
        """For the systemd that started this process."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Pictures come out: units that wait for this one may start."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        """One line that `systemctl status` shows."""
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def patience(self, seconds: float) -> None:
        """Let the next ping take that long from now on. This is no ping."""
        self._send(f"WATCHDOG_USEC={round(seconds * 1e6)}")

    def extend_start(self, seconds: float) -> None:
        """`ready` may take so much longer, counted from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        sock = self._socket
        if sock is None or self._address is None:
            return
        try:
            sock.sendto(message.encode(), self._address)
        except OSError as error:  # systemd is being reloaded, or its queue is full: the next message tells as much
            structlog.get_logger("service").warning("systemd was not told", reason=str(error))


def watchdog_period_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two pings that systemd wants at the least, from WATCHDOG_USEC; None if it watches nothing."""
    text = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6


def boot_id() -> str:
    """A name for the time since the computer was switched on."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class StartLedger:
    """Remembers in a file when the service was started again without having ended in order before.

    It is the restart that has to be within the window, not the start of the run that failed: that may be long ago.
    Times are those since the computer was switched on, so that no clock step makes or hides a restart. A damaged file
    counts as an empty one.
    """

    def __init__(
        self, file: Path, window_s: float, clock_s: Callable[[], float] = _boot_s, boot: str | None = None
    ) -> None:
        self._file, self._window_s, self._clock_s = file, window_s, clock_s
        self._boot = boot if boot is not None else boot_id()

    def begin(self) -> int:
        """Note this start; returns how many restarts there were within the window, this one included if it is one.

        Raises:
            ConfigError: the file cannot be written.
        """
        now_s = self._clock_s()
        running, restarts = self._read()
        restarts = [
            moment for moment in (*restarts, *([now_s] if running else [])) if 0 <= now_s - moment <= self._window_s
        ]
        self._write(True, restarts)
        return len(restarts)

    def end(self) -> None:
        """It ended in order: nothing before counts any more."""
        self._write(False, [])

    def _read(self) -> tuple[bool, list[float]]:
        """(whether the last run has not ended in order, restarts)."""
        try:
            data = read_json(self._file)
            if data["boot"] != self._boot:
                return False, []
            return data["running"] is True, [float(moment) for moment in data["restarts"]][-100:]
        except (OSError, ValueError, KeyError, TypeError):
            return False, []

    def _write(self, running: bool, restarts: list[float]) -> None:
        text = json.dumps({"boot": self._boot, "running": running, "restarts": restarts[-100:]})
        try:
            make_folder(self._file.parent, 0o700, ours=True)
            write_atomic(self._file, text)
        except OSError as error:
            raise ConfigError(
                f"service.state_directory: {self._file} cannot be written ({error.strerror or error}); wanted a folder"
                " of this user"
            ) from error


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What goes into the unit file.

    user_unit: for `systemctl --user`, where user and device rules do not apply. writable: folders besides the state
    folder that it may write, e.g. for recordings. groups: those that own cameras and GPUs; systemd does not start the
    service when one of them does not exist.
    """

    rig: str
    config: Path
    user: str = "lumitherm"
    python: Path = Path(sys.executable)
    writable: tuple[Path, ...] = ()
    credentials: tuple[tuple[str, Path], ...] = ()
    memory_max: str = "4G"
    user_unit: bool = False
    groups: tuple[str, ...] = ("video", "render")


_LIFE = (
    "Restart=always",
    "RestartSec=1",
    "TimeoutStartSec=90",
    "TimeoutStopSec=20",
    "WatchdogSec=10",
    "SuccessExitStatus=130 143",
    "# A wrong configuration does not mend itself by another start.",
    "RestartPreventExitStatus=2",
    "WatchdogSignal=SIGABRT",
    "TimeoutAbortSec=5",
    "# Capture and encoding go before fusion on a busy processor.",
    "LimitNICE=-5",
)
_OF_SYSTEM = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "usr"}
)
_CONFINED = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
)
_SYSTEM_UNIT = (
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "RemoveIPC=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "DevicePolicy=closed",
    "DeviceAllow=char-video4linux rw",
    "DeviceAllow=char-media rw",
    "DeviceAllow=char-drm rw",
    "DeviceAllow=/dev/nvidiactl rw",
    "DeviceAllow=/dev/nvidia-uvm rw",
    "DeviceAllow=/dev/nvidia-uvm-tools rw",
    "DeviceAllow=char-nvidia rw",
    "DeviceAllow=char-nvidia-frontend rw",
)
"""What a service of the system is kept from; a user's own has no such rights to give up."""


def unit_text(settings: UnitSettings) -> str:
    """The unit file.

    Raises:
        ConfigError: a path or name cannot stand in a unit file.
    """
    for what, text in (("rig", settings.rig), ("user", settings.user), *(("group", name) for name in settings.groups)):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]*", text):
            raise ConfigError(f"{what} is {text!r}; wanted letters, digits, space, dot, - and _")
    command = " ".join(
        _word(part)
        for part in (
            str(settings.python),
            "-P",
            "-m",
            "app",
            "run",
            "--headless",
            "--service",
            "--config",
            str(settings.config),
        )
    )
    for path in settings.writable:
        _check_writable(path, settings)
    lines = [
        "[Unit]",
        f"Description=Lumitherm, visible and thermal fusion of the rig {settings.rig}",
        "After=local-fs.target time-sync.target network.target",
        "# No start limit here: after five restarts in ten minutes the service itself goes on in safe mode.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={command}",
        'ExecReload=/bin/sh -c "kill -HUP $$MAINPID"',  # the shell's own: a small system has no /bin/kill
        *_LIFE,
        f"SyslogIdentifier=lumitherm-{re.sub(r'[^A-Za-z0-9_-]', '-', settings.rig)}",
        f"LogExtraFields=LUMITHERM_RIG={re.sub(r'[^A-Za-z0-9_-]', '-', settings.rig)}",
        "StateDirectory=lumitherm",
        "StateDirectoryMode=0700",
        "RuntimeDirectory=lumitherm",
        "RuntimeDirectoryMode=0700",
        "CacheDirectory=lumitherm",
        "Environment=PYTHONUNBUFFERED=1 HOME=%S/lumitherm XDG_CACHE_HOME=%C/lumitherm",
        "WorkingDirectory=%S/lumitherm",
        "UMask=0077",
        f"MemoryMax={settings.memory_max}",
        "TasksMax=512",
        "OOMPolicy=stop",
        "# A core dump holds passwords and pictures; where each thread hung is in the journal without it.",
        "LimitCORE=0",
    ]
    lines += [f"LoadCredential={_word(name)}:{_word(str(path))}" for name, path in settings.credentials]
    lines += [
        "",
        *_CONFINED,
    ]
    if settings.writable:
        # With -, a disk that is missing does not keep the service from starting and saying so.
        lines.append("ReadWritePaths=" + " ".join(_word(f"-{path}") for path in settings.writable))
    if not settings.user_unit:
        lines += [
            f"User={settings.user}",
            f"Group={settings.user}",
            f"SupplementaryGroups={' '.join(settings.groups)}",
            *_SYSTEM_UNIT,
        ]
    lines += ["", "[Install]", f"WantedBy={'default' if settings.user_unit else 'multi-user'}.target", ""]
    return "\n".join(lines)


def _check_writable(path: Path, settings: UnitSettings) -> None:
    """Refuse to open a folder of the system, or one that holds what the service itself runs.

    Raises:
        ConfigError: it is such a folder.
    """
    parts = path.parts
    reason = ""
    if len(parts) < 3 and path != Path("/data"):
        reason = "it is the system's own; wanted a folder in it"
    elif parts[1] in _OF_SYSTEM or (parts[1] == "var" and (len(parts) < 4 or parts[2] not in ("lib", "local"))):
        reason = f"/{parts[1]} is the system's own"
    elif parts[1] == "home" and (len(parts) < 4 or parts[3].startswith(".")):
        reason = "it holds what a user's programs run by"
    else:
        inside = [
            kept
            for kept in (settings.config, settings.python, *(file for _, file in settings.credentials))
            if kept.is_relative_to(path)
        ]
        if inside:
            reason = f"{inside[0]} is in it, which the service must not be able to change"
    if reason:
        raise ConfigError(
            f"recording.directory is {path}, which the unit would have to make writable: {reason}. Choose a folder of"
            " its own, e.g. /srv/lumitherm, /var/lib/lumitherm/recordings or a disk under /mnt"
        )


def _word(text: str) -> str:
    """One word of a unit file. `%` and `$` would be replaced, and a line break would begin a new setting."""
    if any(ord(character) < 32 for character in text):
        raise ConfigError(f"{text!r} has a control character and cannot stand in a unit file")
    escaped = text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    if shlex.quote(text) == text:
        return escaped
    return '"' + escaped.replace('"', '\\"') + '"'


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_STATUS]
