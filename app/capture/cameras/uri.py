"""Camera URIs: what kind of source, which one, and with which options. No secret leaves here in a message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from app.media.geometry import PictureCut, parse_cut
from fusion_core.errors import BadInputError, ConfigError
from fusion_core.redaction import Address, redact_address

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "CameraUri", "parse_camera_uri"]

KINDS: Final = ("v4l2", "rtsp", "rtsps", "file", "images", "sim", "dshow", "avfoundation")
_CUT: Final = ("counts", "rotate", "mirror")  # every kind has these; they may differ between the halves of a source
_RESERVED: Final = (
    "Write #, /, ? and @ in a user name or password as %23, %2F, %3F and %40, or put user:password into a file and name"
    " it by credentials_file"
)
_V4L2_KEYS: Final = ("serial", "by-id", "port")
_FLAG_VALUES: Final = {"1": "1", "true": "1", "yes": "1", "0": "0", "false": "0", "no": "0"}
_QUERY_KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"file": ("realtime", "loop", "track"), "images": ("realtime", "loop"), "sim": ("realtime",)}
)


@dataclass(frozen=True, slots=True)
class CameraUri:
    """A parsed camera URI.

    target: what the kind needs: a path, a device name, an RTSP URL without our options, `visible` or `thermal`.
    key: v4l2 only: `serial`, `by-id` or `port`.
    options: our own, by name: realtime, loop, counts, mirror ("0"/"1"), rotate (degrees clockwise), track (a number),
        transport (tcp/udp).
    half: the part of a dual-spectrum picture that is this stream, or None.
    """

    kind: str
    target: str
    key: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    half: str | None = None

    def flag(self, name: str, default: bool = False) -> bool:
        """An option that is 0 or 1."""
        value = self.options.get(name)
        return default if value is None else value == "1"

    @property
    def cut(self) -> PictureCut:
        """The part of the picture that is meant, and how it is turned."""
        rotate = int(self.options.get("rotate", "0"))
        return PictureCut(self.half, rotate, self.flag("mirror"), self.flag("counts"))

    @property
    def source(self) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
        """Equal for two URIs that are halves of the same source."""
        return (
            self.kind,
            self.key,
            self.target,
            tuple(sorted((k, v) for k, v in self.options.items() if k not in _CUT)),
        )


def parse_camera_uri(uri: str) -> CameraUri:
    """Take a camera URI apart.

    Raises:
        ConfigError: unknown kind, a V4L2 index, a missing name, or an option that the kind does not have.
    """
    uri = str.__str__(uri)
    shown = redact_address(uri)
    kind, colon, rest = uri.partition(":")
    if not colon or kind not in KINDS:
        if re.fullmatch(r"(/dev/video)?\d+", uri):
            raise ConfigError(_index_message(shown))
        raise ConfigError(
            f"camera uri {shown!r} has no known kind, must start with one of {', '.join(k + ':' for k in KINDS)}"
            " (a file is file:PATH)"
        )
    path = rest.removeprefix("//")
    if kind == "file" and any(mark in path for mark in "#?%") and Path(path).is_file():
        return CameraUri(kind, path)  # a file of exactly this name is that file
    rest, _, fragment = rest.partition("#")
    own = _own_options(fragment, uri, shown)
    half = own.pop("half", None)
    try:
        parse_cut(f"camera uri {shown!r}", own | ({} if half is None else {"half": half}))
    except BadInputError as error:
        told = str(error) if shown == uri else f"camera uri {shown!r}: half, rotate, mirror or counts has no such value"
        raise ConfigError(told) from None
    if kind in ("rtsp", "rtsps"):
        return _parse_rtsp(kind, f"{kind}:{rest}", own, half, uri, shown)
    if kind == "v4l2":
        key, equals, value = rest.partition("=")
        if key not in _V4L2_KEYS or not equals or not value:
            raise ConfigError(_index_message(shown))
        return CameraUri(kind, value, key, _checked(own, _CUT, uri, shown), half)
    target, _, query = rest.partition("?")
    if kind in _QUERY_KEYS:
        own |= dict(parse_qsl(query, keep_blank_values=True))
    else:
        target = rest  # a device name may hold a question mark
    if kind == "file":
        target = target.removeprefix("//")
        target = target if Path(target).is_file() else unquote(target)
    if not target:
        raise ConfigError(f"camera uri {shown!r} names nothing after {kind}:, e.g. {_example(kind)}")
    if kind == "sim" and target not in ("visible", "thermal"):
        raise ConfigError(f"camera uri {shown!r}: the simulated rig has sim:visible and sim:thermal, not sim:{target}")
    return CameraUri(kind, target, "", _checked(own, (*_QUERY_KEYS.get(kind, ()), *_CUT), uri, shown), half)


def _parse_rtsp(kind: str, url: str, own: dict[str, str], half: str | None, uri: str, shown: str) -> CameraUri:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none, as when a password holds a slash
    except ValueError:  # its words repeat parts of the address
        raise ConfigError(f"camera uri {shown!r} is no address. {_RESERVED}") from None
    if not parts.hostname:
        raise ConfigError(f"camera uri {shown!r} has no host, e.g. {_example(kind)}")
    kept = []
    for item in filter(None, parts.query.split("&")):
        name, _, value = item.partition("=")
        if name == "transport":
            own[name] = value
        else:
            kept.append(item)
    options = _checked(own, ("transport", "track", *_CUT), uri, shown)
    if options.get("transport", "tcp") not in ("tcp", "udp"):
        raise ConfigError(f"camera uri {shown!r}: transport must be tcp or udp")
    clean = urlunsplit((parts.scheme, parts.netloc, parts.path, "&".join(kept), ""))
    return CameraUri(kind, Address(clean), "", options, half)


def _own_options(fragment: str, uri: str, shown: str) -> dict[str, str]:
    options = {}
    for item in filter(None, fragment.split("&")):
        name, equals, value = item.partition("=")
        if "@" in fragment and shown != uri:
            raise ConfigError(f"camera uri {shown!r} has a # in its user name or password. {_RESERVED}")
        if not equals:
            what = repr(item) if shown == uri else "what comes"
            raise ConfigError(f"camera uri {shown!r}: {what} after # must be name=value, e.g. #half=left")
        options[name] = value
    return options


def _checked(options: dict[str, str], known: tuple[str, ...], uri: str, shown: str) -> Mapping[str, str]:
    for name, value in options.items():
        named, given = (repr(name), repr(value)) if shown == uri else ("of another name", "something else")
        if name not in known:
            raise ConfigError(
                f"camera uri {shown!r} has the option {named}; this kind takes {', '.join((*known, 'half'))}"
            )
        if name in ("realtime", "loop", "counts", "mirror"):
            if value.lower() not in _FLAG_VALUES:
                raise ConfigError(f"camera uri {shown!r}: {name} is {given}, must be 0 or 1")
            options[name] = _FLAG_VALUES[value.lower()]
        if name == "track" and not (value.isdecimal() and len(value) < 4):
            raise ConfigError(
                f"camera uri {shown!r}: track is {given}, must be a number from 0 (the first video track)"
            )
    return MappingProxyType(options)


def _index_message(shown: str) -> str:
    return (
        f"camera uri {shown!r} does not say which camera: an index changes when a cable is moved, and then visible and"
        " thermal are swapped. Name it by v4l2:serial=..., v4l2:by-id=... or v4l2:port=... (see `lumitherm devices`)"
    )


def _example(kind: str) -> str:
    return {
        "file": "file:recording.mkv?realtime=1",
        "images": "images:frames/thermal",
        "sim": "sim:visible",
        "dshow": "dshow:HD Webcam",
        "avfoundation": "avfoundation:FaceTime HD Camera",
    }.get(kind, "rtsp://camera.local:554/stream1")
