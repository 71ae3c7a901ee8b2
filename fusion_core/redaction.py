"""Hides credentials wherever text leaves the program: the one place that knows what one looks like.

Two ways in. `Address` is an address as a value: it prints itself without its secrets, and who connects asks for
`plain`. `redact` is for text that others wrote, and must find the addresses in it. Both hide too much rather than too
little: an address is told apart by its scheme, its host and its harmless options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

__all__ = ["HIDDEN", "Address", "redact", "redact_address", "redacted"]

HIDDEN: Final = "***"
_LOCAL: Final = ("file", "images", "sim", "v4l2", "dshow", "avfoundation")
"""Kinds of sources that have no host and so no login; @ and : stand in their names."""
_SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.\-]*"
_LONGEST: Final = 4096  # characters of a login that are looked through, so that no text takes long

# Parts of names whose values are secrets: anywhere in the name, or as a word or the end of one.
_NAMES: Final = (
    r"(?:[\w.\-]*(?:passw|passphrase|passcode|pwd|token|secret|api_?key|credential|signature|session)[\w.\-]*"
    r"|[\w.\-]*(?:key|auth|authorization|pass|pas|psw|pw|sig|sas|jwt)"
    r"|(?:[\w.\-]*[_.\-])?(?:sid|pin|hmac))"
)
_NOT_SECRET: Final = re.compile(r"(?:_file|_env|_s|_hours|_per_min|csrf)$", re.IGNORECASE)  # of our own settings
_LOGIN_NAMES: Final = r"(?:[\w.\-]*[_.\-])?(?:user|username|usr|login|loginuse|account)"
_NEXT: Final = (
    r"(?=[&;][\w.\-%]+=|#(?:half|rotate|mirror|counts|track|transport|realtime|loop)="
    r"|[_/,&;](?:channel|stream|ch|subtype|type|profile|unicast|onvif|user|username|pass|password)=|{end})"
)
_VALUE_IN_ADDRESS: Final = re.compile(
    rf"({_NAMES}|{_LOGIN_NAMES})(=|%3d)(.*?)" + _NEXT.format(end=r"\Z"), re.IGNORECASE | re.DOTALL
)
_VALUE_IN_TEXT: Final = re.compile(
    rf"(?<![\w.\-])({_NAMES})(=|%3d)([^\s\"'<>]+?)" + _NEXT.format(end=r"[\s\"'<>]|\Z"), re.IGNORECASE
)
_QUOTED_VALUE: Final = re.compile(rf"([\"'])({_NAMES})\1(\s*:\s*)([\"'])(?:\\.|(?!\4).)*\4", re.IGNORECASE)
_SAID_VALUE: Final = re.compile(  # as YAML and messages have it
    r"(?<![\w.\-])([\w.\-]*(?:password|passwd|passphrase|pwd|secret|api_?key|access_?token))(\s*[:=]\s+|\s+=)"
    r"(?!(?:see|must|is|was|not|no|none|null|the|wanted|expected|missing|wrong|cannot|may|has)\b)"
    r"((?P<mark>[\"'])(?:(?!(?P=mark)).)*(?P=mark)|[^\s\"'<>]+)",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(r"\b(authorization\s*[:=]\s*|(?:bearer|basic)\s+(?=\S{16}))(?:\S+ )?\S+", re.IGNORECASE)

_LOGIN_IN_TEXT: Final = re.compile(
    rf"(?<![A-Za-z0-9+.\-])({_SCHEME})(:[/\\]+)"
    rf"(?:\S{{0,{_LONGEST}}}|[^/\n]{{0,{_LONGEST}}})@"
)
_QUOTED_LOGIN: Final = re.compile(rf"({_SCHEME})(%3a%2f%2f)\S{{0,{_LONGEST}}}(%40|@)", re.IGNORECASE)
_BARE_LOGIN: Final = re.compile(
    rf"(?<![^\s\"'=(\[,])(?!(?:{'|'.join(_LOCAL)}):)[^\s\"'@:,]{{1,256}}:[^\s\"']{{1,256}}@[^\s\"'<>]*"
)
_ADDRESS_IN_TEXT: Final = re.compile(rf"(?<![A-Za-z0-9+.\-])(?!(?:{'|'.join(_LOCAL)}):){_SCHEME}:[/\\]+[^\s\"'<>]+")
# Host and port, and nothing else.
_PLACE: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.\-]+)?\]|[^:%\[\]]*)(?::\d{0,5})?")
_LOGIN_PART: Final = re.compile(r"(?<=/)[^/?#:]+:[^/?#]+")  # NAME:WORD between two slashes
_STREAM_KEY: Final = re.compile(r"(?<=[^/:]/)[^/?#]+(?=/?(?:[?#]|\Z))")
_HARMLESS: Final = re.compile(  # options of queries whose values are shown
    r"action|after|audio|buffer|bitrate|ch|channel|codec|counts|format|fps|framerate|h|half|height|latency|loop|mirror"
    r"|mode|number|onvif|picture|pkt_size|profile|proto|quality|rate|realtime|resolution|rotate|since|size|stream|streamtype"
    r"|subtype|timeout|tls_verify|track|transport|transportmode|type|unicast|verify|video|w|width",
    re.IGNORECASE,
)
_RANDOM_PART: Final = re.compile(r"(?<=/)(?=[\w~\-]*\d)(?=[\w~\-]*[A-Za-z])[\w~\-]{16,}")


def redact_address(address: str) -> str:
    """An address fit for messages. The whole text is taken for one, so its login may hold any character."""
    text = str.__str__(address)
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in _LOCAL:
        return _VALUE_IN_ADDRESS.sub(_hide_value, text)
    slashes = re.match(r"[/\\]*", rest)
    assert slashes is not None  # the pattern fits nothing, too
    named = colon and (slashes[0] or scheme.lower() in ("rtsp", "rtsps")) and re.fullmatch(_SCHEME, scheme)
    start = f"{scheme}:{slashes[0]}" if named else ""
    hidden = _VALUE_IN_ADDRESS.sub(_hide_value, text)
    if "@" in hidden:
        hidden = f"{start}{HIDDEN}@{hidden.rpartition('@')[2]}"
    elif "@" in text:
        return start + HIDDEN  # a value with an @, or a login with a =: nobody can tell
    return _RANDOM_PART.sub(HIDDEN, _hide_odd(start, hidden) if named else hidden)


def _hide_odd(start: str, text: str) -> str:
    """An address without what stands where no secret should be: in place of the port, and in options nobody knows."""
    rest = text[len(start) :]
    place = re.match(r"[^/\\?#]*", rest)
    assert place is not None  # the pattern fits nothing, too
    shown = place[0].rpartition("@")[2].rstrip(":.,;)")
    if not _PLACE.fullmatch(shown) and HIDDEN not in shown:
        return start + HIDDEN
    before, mark, query = rest[place.end() :].partition("?")
    before = _LOGIN_PART.sub(HIDDEN, before)
    if start.lower().startswith("rtmp"):
        before = _STREAM_KEY.sub(HIDDEN, "x" + before)[1:]
    return f"{start}{place[0]}{before}{mark}{re.sub(r'[^&;?#]+', _hide_option, query)}"


def _hide_option(found: re.Match[str]) -> str:
    name, equals, value = found[0].partition("=")
    if not equals:  # a word by itself
        return name if re.fullmatch(r"[A-Za-z_./\-]{0,12}|\*+", name) else HIDDEN
    shown = _HARMLESS.fullmatch(name) or re.fullmatch(r"\d{0,2}|\*+", value)
    return found[0] if shown else f"{name}={HIDDEN}"


def redact(text: str) -> str:
    """Any text without the logins of addresses and without values whose names tell that they are secret."""
    text = str.__str__(text)
    if ":/" in text or ":\\" in text:
        text = _ADDRESS_IN_TEXT.sub(lambda found: redact_address(found[0]), text)
    if "@" in text or "%40" in text:
        text = _LOGIN_IN_TEXT.sub(_hide_login, text)
        text = _QUOTED_LOGIN.sub(rf"\1\2{HIDDEN}\3", text)
        text = _BARE_LOGIN.sub(lambda found: redact_address(found[0]), text)
    text = _QUOTED_VALUE.sub(_hide_quoted, text)
    text = _VALUE_IN_TEXT.sub(_hide_value, text)
    text = _SAID_VALUE.sub(_hide_said, text)
    return _HEADER.sub(rf"\1{HIDDEN}", text)


def redacted(value: Any, secret_names: frozenset[str] = frozenset()) -> Any:
    """A value of plain data (mappings, lists, text, paths, exceptions) with every text in it redacted.

    secret_names: lower-case keys of mappings whose values are hidden whatever they are.
    """
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if str(key).lower() in secret_names else redacted(inner, secret_names)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(inner, secret_names) for inner in value]
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, PathLike):
        return redacted(fspath(value), secret_names)
    if isinstance(value, BaseException):
        return redact(str(value))
    return value


class Address(str):
    """An address that prints itself without its secrets: in messages, `repr`, format strings and dumped settings.

    It compares and splits as the text that it is; `plain` is for whoever connects.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return redact_address(self)

    def __repr__(self) -> str:
        return repr(redact_address(self))

    def __format__(self, format_spec: str) -> str:
        return format(redact_address(self), format_spec)

    @property
    def plain(self) -> str:
        """The address with its secrets."""
        return str.__str__(self)[:]

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        from pydantic_core import core_schema  # here alone: errors and frames stay light

        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(max_length=2048),
            serialization=core_schema.plain_serializer_function_ser_schema(redact_address, when_used="json"),
        )


def _hide_login(found: re.Match[str]) -> str:
    if found[1].lower() in _LOCAL:
        return found[0]
    return f"{found[1]}{found[2]}{HIDDEN}@"


def _hide_value(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{HIDDEN if not _NOT_SECRET.search(found[1]) else found[3]}"


def _hide_said(found: re.Match[str]) -> str:
    return found[0] if _NOT_SECRET.search(found[1]) else f"{found[1]}{found[2]}{HIDDEN}"


def _hide_quoted(found: re.Match[str]) -> str:
    quote, name, between, mark = found[1], found[2], found[3], found[4]
    return found[0] if _NOT_SECRET.search(name) else f"{quote}{name}{quote}{between}{mark}{HIDDEN}{mark}"
