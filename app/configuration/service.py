"""Settings of the unattended service. Secrets are never in here: only the files that hold them are named."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fusion_core.redaction import Address

__all__ = [
    "ControlConfig",
    "HomeAssistantConfig",
    "HookConfig",
    "HookEvent",
    "PushConfig",
    "PushPicture",
    "RetentionConfig",
    "ServiceConfig",
    "TriggerConfig",
    "TriggerKind",
    "VirtualCameraConfig",
    "WatchdogConfig",
    "WebConfig",
    "is_loopback",
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def is_loopback(address: str) -> bool:
    """Whether only programs on this computer reach this address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class WebConfig(_Section):
    """Status page, HTTP API and metrics."""

    enabled: bool = Field(False, description="serve the status page, the API, /healthz, /readyz and /metrics")
    address: str = Field(
        "127.0.0.1",
        max_length=255,
        description="address to listen on; one that others reach needs token_file, or user and password_file",
    )
    port: int = Field(8080, ge=0, le=65535, description="TCP port; 0 = any free one, told in the log")
    user: Name | None = Field(None, description="user of the status page, with password_file")
    password_file: Path | None = Field(
        None, description="file with an argon2 hash from `lumitherm service password`; credential:NAME = from systemd"
    )
    token_file: Path | None = Field(
        None, description="file with a token of at least 24 characters for programs; credential:NAME = from systemd"
    )
    tls_cert: Path | None = Field(None, description="PEM certificate chain; with tls_key the page is https")
    tls_key: Path | None = Field(None, description="PEM key of tls_cert, readable by this user alone")
    allowed_hosts: tuple[str, ...] = Field(
        (), max_length=16, description="further names by which a loopback address is called, e.g. behind a proxy"
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        max_length=16,
        description="addresses or networks of reverse proxies whose X-Forwarded-For tells who asks, for the limits",
    )
    session_hours: float = Field(12, ge=0.1, le=720, description="h after which a browser has to log in again")
    failures_per_min: int = Field(
        6, ge=1, le=1000, description="failed logins a minute and address, above which it has to wait"
    )
    max_body_kb: int = Field(64, ge=1, le=1024, description="10^3 bytes of a request; larger ones are refused")
    max_connections: int = Field(
        48, ge=4, le=1024, description="requests at a time, half of them for one address; health checks need none"
    )
    slow_client_s: float = Field(
        10, ge=0.2, le=120, description="s in which a client must send its request, or take the next piece of an answer"
    )
    preview_fps: float = Field(10, ge=0.2, le=30, description="pictures/s of the preview at most")
    preview_width: int = Field(960, ge=64, le=4096, description="px, widest preview; larger pictures are scaled")
    preview_clients: int = Field(4, ge=1, le=32, description="viewers of the moving preview at a time")

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(f"{proxy!r} is no address or network; wanted e.g. 127.0.0.1 or 10.0.0.0/24") from None
        return proxies

    @field_validator("address")
    @classmethod
    def _address_is_one(cls, address: str) -> str:
        if address != "localhost":
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ValueError(f"{address!r} is no IP address; wanted e.g. 127.0.0.1, ::1 or 0.0.0.0") from None
        return address

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together; set both or none")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; set both or none")
        if self.enabled and not is_loopback(self.address) and not self.has_credentials:
            raise ValueError(
                f"address {self.address} can be reached from outside, but there is neither token_file nor user with"
                " password_file; set one (`lumitherm service token` makes a token) or listen on 127.0.0.1"
            )
        return self

    @property
    def has_credentials(self) -> bool:
        """Whether a client must prove who it is."""
        return self.token_file is not None or self.password_file is not None


class ControlConfig(_Section):
    """The local socket of `lumitherm ctl`."""

    enabled: bool = Field(True, description="listen on a local socket that only this user and root may open")
    socket: Path | None = Field(None, description="path of the socket; null = lumitherm/RIG.sock in the runtime folder")


class PushPicture(StrEnum):
    """Which picture is pushed."""

    FUSED = "fused"
    VISIBLE = "visible"
    THERMAL = "thermal"  # after AGC, on the visible grid


class PushConfig(_Section):
    """One stream to a media server that exists already."""

    name: Name = Field("fused", description="name in logs and metrics")
    url: Address | None = Field(
        None,
        description="rtsp: or rtsps: address to publish to, or http(s): for WHIP, which needs the openssl command",
    )
    url_file: Path | None = Field(
        None, description="file with the address, for one that holds a password; credential:NAME = from systemd"
    )
    token_file: Path | None = Field(None, description="file with the bearer token of a WHIP server")
    tls_ca_file: Path | None = Field(
        None, description="PEM with the authority of an rtsps or https server, or its own certificate; null = system's"
    )
    picture: PushPicture = Field(PushPicture.FUSED, description="fused, visible or thermal")
    max_fps: float = Field(30, ge=1, le=120, description="pictures/s at most")
    bitrate_kbps: int = Field(2500, ge=100, le=100_000, description="kbit/s that the encoder aims at")
    encoder: Literal["auto", "nvenc", "software"] = Field("auto", description="auto tries nvenc, then x264")
    key_interval_s: float = Field(1.0, ge=0.2, le=10, description="s between key frames: the wait of a new viewer")
    retry_s: float = Field(2.0, ge=0.2, le=5, description="s between two attempts to reach the server")
    stall_s: float = Field(4.0, ge=1, le=30, description="s a write may take before the connection is given up")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("wanted either url or url_file")
        if self.url is not None:
            check_push_url(self.url)
        return self


def check_push_url(url: Address) -> Address:
    """Give the URL back. Raises ValueError, without repeating it, when nothing can be pushed there."""
    try:
        parts = urlsplit(url.plain)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:  # its words repeat parts of the address
        raise ValueError(
            "the push address is no URL; wanted e.g. rtsp://server:8554/rig, with #, /, ? and @ in a user name or"
            " password written as %23, %2F, %3F and %40"
        ) from None
    if parts.scheme not in ("rtsp", "rtsps", "http", "https") or not parts.hostname:
        raise ValueError("the push address must be rtsp://, rtsps:// or, for WHIP, http(s)://SERVER/...")
    return url


class VirtualCameraConfig(_Section):
    """The picture as a video device of this computer, by v4l2loopback."""

    device: Annotated[str, Field(pattern=r"^/dev/video\d+$|^/")] = Field(
        description="/dev/videoN of v4l2loopback: sudo modprobe v4l2loopback exclusive_caps=1 card_label=Lumitherm"
    )
    picture: PushPicture = Field(PushPicture.FUSED, description="fused, visible or thermal")
    max_fps: float = Field(30, ge=1, le=120, description="pictures/s at most")


class HomeAssistantConfig(_Section):
    """The rig as a device of Home Assistant, by MQTT discovery."""

    broker: Address = Field(description="mqtt(s)://BROKER[:PORT]; needs paho-mqtt")
    secret_file: Path | None = Field(None, description="file with USER:PASSWORD of the broker")
    discovery_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_/-]+$")] = Field(
        "homeassistant", description="topic below which Home Assistant looks for devices"
    )
    interval_s: float = Field(10, ge=1, le=3600, description="s between two states")

    @model_validator(mode="after")
    def _is_a_broker(self) -> Self:
        parts = _split(self.broker, "home_assistant")
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError("home_assistant: wanted mqtt://HOST as its broker")
        if "@" in parts.netloc:
            raise ValueError("home_assistant: put the password into secret_file, not into the address")
        return self


class TriggerKind(StrEnum):
    """What sets a trigger off."""

    HOT = "hot"  # part of the thermal picture is at or above the threshold
    COLD = "cold"  # ... at or below it
    MOTION = "motion"  # part of the thermal picture changes by more than the threshold
    SCHEDULE = "schedule"  # at times of the day
    DETECTION = "detection"  # the detector (section `detect`) sees something


class TriggerConfig(_Section):
    """A condition that marks an event; an event is recorded with the seconds before it."""

    name: Name = Field(description="name of the trigger; label of its events")
    kind: TriggerKind = Field(description="hot, cold, motion, schedule or detection")
    celsius: float | None = Field(
        None, ge=-100, le=3000, description="deg C, threshold of hot and cold; needs a scale that knows degrees"
    )
    counts: int | None = Field(
        None, ge=0, le=65535, description="counts, threshold of hot, cold and motion in the camera's own unit"
    )
    scale: Literal["auto", "relative", "tlinear-0.01", "tlinear-0.1", "kelvin-64", "kelvin-16", "simulated"] = Field(
        "auto",
        description="what a count means in degrees; auto takes thermal.kelvin_per_count, and knows the simulated rig's",
    )
    area_percent: float = Field(0.1, gt=0, le=100, description="% of the region that must be so")
    region: tuple[float, float, float, float] = Field(
        (0.0, 0.0, 1.0, 1.0), description="top, left, height, width as fractions of the thermal picture"
    )
    hold_s: float = Field(0.3, ge=0, le=60, description="s that it must last, so that a glint does not count")
    cooldown_s: float = Field(10, ge=0, le=86400, description="s after an event in which no other is marked")
    at: tuple[str, ...] = Field((), max_length=96, description="HH:MM of local time, for schedule")
    labels: tuple[str, ...] = Field((), description="classes that set a detection off; () = any of the detector's")
    days: tuple[str, ...] = Field(_DAYS, description="days of schedule: mon tue wed thu fri sat sun")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind is TriggerKind.SCHEDULE:
            if not self.at:
                raise ValueError(f"trigger {self.name}: a schedule needs `at`, e.g. at: ['06:00', '18:30']")
            for moment in self.at:
                if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", moment):
                    raise ValueError(f"trigger {self.name}: at is {moment!r}, wanted HH:MM")
            unknown = [day for day in self.days if day not in _DAYS]
            if unknown:
                raise ValueError(f"trigger {self.name}: days has {unknown[0]!r}, wanted {' '.join(_DAYS)}")
            return self
        if self.kind is TriggerKind.DETECTION:
            return self
        given = [value for value in (self.celsius, self.counts) if value is not None]
        if len(given) != 1 or (self.kind is TriggerKind.MOTION and self.counts is None):
            wanted = "counts" if self.kind is TriggerKind.MOTION else "either celsius or counts"
            raise ValueError(f"trigger {self.name}: wanted {wanted} as its threshold")
        top, left, height, width = self.region
        if min(self.region) < 0 or height <= 0 or width <= 0 or top + height > 1.0001 or left + width > 1.0001:
            raise ValueError(f"trigger {self.name}: region {self.region} is not within the picture (0 to 1)")
        return self


class HookEvent(StrEnum):
    """When a hook is called."""

    EVENT = "event"  # a trigger, an external call, or a person marked an event
    RECORDING_STARTED = "recording_started"
    RECORDING_FINISHED = "recording_finished"  # a file is complete and may be uploaded
    STATE_CHANGED = "state_changed"  # running, degraded, no cameras, ...


class HookConfig(_Section):
    """Something outside that is told: a command, a web address, or an MQTT topic."""

    name: Name = Field(description="name in logs and metrics")
    on: tuple[HookEvent, ...] = Field((HookEvent.EVENT,), min_length=1, description="what it is told of")
    command: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="program and arguments, run without a shell; facts come as LUMITHERM_* variables and JSON on stdin",
    )
    webhook: Address | None = Field(None, description="http(s) address that gets the facts as JSON")
    mqtt: Address | None = Field(
        None, description="mqtt(s)://BROKER[:PORT]/TOPIC that gets the facts as JSON; needs paho-mqtt"
    )
    secret_file: Path | None = Field(
        None, description="file with the webhook's bearer token, or USER:PASSWORD of the MQTT broker"
    )
    timeout_s: float = Field(10, ge=0.2, le=3600, description="s after which it is given up (a command is ended)")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.command, self.webhook, self.mqtt)) != 1:
            raise ValueError(f"hook {self.name}: wanted one of command, webhook and mqtt")
        for value, schemes in ((self.webhook, ("http", "https")), (self.mqtt, ("mqtt", "mqtts"))):
            if value is not None:
                parts = _split(value, self.name)
                if parts.scheme not in schemes or not parts.hostname:
                    raise ValueError(f"hook {self.name}: wanted {schemes[0]}://HOST/... as its address")
                if "@" in parts.netloc:
                    raise ValueError(f"hook {self.name}: put the password into secret_file, not into the address")
        return self


def _split(address: Address, hook: str) -> SplitResult:
    try:
        parts = urlsplit(address.plain)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:  # its words repeat parts of the address
        raise ValueError(f"hook {hook}: its address is no URL; wanted e.g. https://HOST/path") from None
    return parts


class RetentionConfig(_Section):
    """Which recordings are deleted, oldest first by their number, never one that is being written."""

    enabled: bool = Field(False, description="delete recordings by the limits below")
    max_gb: float | None = Field(None, gt=0, description="10^9 bytes that all recordings may take; null = no limit")
    min_free_gb: float = Field(2, ge=0, description="10^9 bytes of the disk to keep free")
    max_age_days: float | None = Field(
        None, gt=0, description="days that ordinary recordings are kept; null = no limit"
    )
    event_max_age_days: float | None = Field(
        None, gt=0, description="days that recordings with an event are kept; null = no limit"
    )
    delete_events_for_space: bool = Field(
        False, description="when ordinary recordings are gone and space is still short, delete events too"
    )
    max_snapshots: int = Field(500, ge=1, le=100_000, description="snapshots that are kept")
    interval_s: float = Field(30, ge=0.1, le=3600, description="s between two looks")


class WatchdogConfig(_Section):
    """When the service counts as stuck, and when restarting it is given up."""

    worker_limit_s: float = Field(
        4, ge=0.5, le=120, description="s that a worker may stand still before the service counts as stuck"
    )
    no_camera_s: float = Field(
        60, ge=0, description="s without any camera, while both are being reopened, before one restart is tried"
    )
    exit_after_s: float = Field(
        10, ge=0, description="s of being stuck after which it ends itself where no systemd does it; 0 = never"
    )
    max_restarts: int = Field(5, ge=1, le=100, description="restarts in window_s after which safe mode begins")
    window_s: float = Field(600, ge=10, le=86400, description="s in which restarts are counted")
    safe_mode_s: float = Field(
        1800, ge=0, description="s after which safe mode ends and everything is tried again; 0 = stay in it"
    )


class ServiceConfig(_Section):
    """Everything that an unattended rig needs; used by `lumitherm run --service`."""

    state_directory: Path | None = Field(
        None, description="folder for what must survive a restart; null = systemd's, else the user's state folder"
    )
    labels: dict[Name, Annotated[str, Field(max_length=64)]] = Field(
        default_factory=dict, max_length=8, description="further labels of every metric, e.g. site: harbour"
    )
    web: WebConfig = Field(default_factory=lambda: WebConfig.model_validate({}), description="status page and API")
    control: ControlConfig = Field(
        default_factory=lambda: ControlConfig.model_validate({}), description="the local socket of `lumitherm ctl`"
    )
    push: tuple[PushConfig, ...] = Field((), max_length=4, description="streams to media servers")
    virtual_camera: VirtualCameraConfig | None = Field(None, description="a video device with the picture; null = none")
    home_assistant: HomeAssistantConfig | None = Field(None, description="tell Home Assistant; null = do not")
    triggers: tuple[TriggerConfig, ...] = Field((), max_length=32, description="conditions that mark events")
    hooks: tuple[HookConfig, ...] = Field((), max_length=32, description="who is told of events")
    retention: RetentionConfig = Field(
        default_factory=lambda: RetentionConfig.model_validate({}), description="which recordings are deleted"
    )
    watchdog: WatchdogConfig = Field(
        default_factory=lambda: WatchdogConfig.model_validate({}), description="when it counts as stuck"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (
            ("push", [entry.name for entry in self.push]),
            ("triggers", [entry.name for entry in self.triggers]),
            ("hooks", [entry.name for entry in self.hooks]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"{what} has the name {min(twice)!r} twice; wanted a name of its own for each")
        for label in self.labels:
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label) or label in ("rig", "le") or label.startswith("__"):
                raise ValueError(f"labels has {label!r}; wanted letters, digits and _ and neither rig nor le")
        return self
