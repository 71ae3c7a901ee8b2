"""The few parts of EBML, Matroska's binary language, that are written without libavformat: clusters, index, sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fusion_core.errors import RecordingError

__all__ = [
    "CLUSTER",
    "CODEC_ID",
    "CODEC_PRIVATE",
    "CUES",
    "DURATION",
    "INFO",
    "SEEK_HEAD",
    "SEGMENT",
    "TAGS",
    "TRACKS",
    "VOID",
    "Block",
    "Element",
    "children",
    "cluster",
    "cues",
    "element",
    "seek_head",
    "void",
]

SEGMENT = b"\x18\x53\x80\x67"
SEEK_HEAD = b"\x11\x4d\x9b\x74"
INFO = b"\x15\x49\xa9\x66"
TRACKS = b"\x16\x54\xae\x6b"
TAGS = b"\x12\x54\xc3\x67"
CUES = b"\x1c\x53\xbb\x6b"
CLUSTER = b"\x1f\x43\xb6\x75"
VOID = b"\xec"
DURATION = b"\x44\x89"
CODEC_ID = b"\x86"
CODEC_PRIVATE = b"\x63\xa2"

_TIMESTAMP, _SIMPLE_BLOCK = b"\xe7", b"\xa3"
_BLOCK_GROUP, _BLOCK, _BLOCK_DURATION = b"\xa0", b"\xa1", b"\x9b"
_CUE_POINT, _CUE_TIME, _CUE_POSITIONS, _CUE_TRACK, _CUE_CLUSTER = b"\xbb", b"\xb3", b"\xb7", b"\xf7", b"\xf1"
_SEEK, _SEEK_ID, _SEEK_POSITION = b"\x4d\xbb", b"\x53\xab", b"\x53\xac"
_KEY_FLAG = 0x80


@dataclass(frozen=True, slots=True)
class Element:
    """Where an element lies: of its first byte, of its content, and how long that is (None = not known yet)."""

    identity: bytes
    start: int
    content: int
    size: int | None

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.content + (self.size or 0)


@dataclass(frozen=True, slots=True)
class Block:
    """One picture or line of a track. duration_ms: written where it is not None, as texts need it."""

    track: int
    ms: int
    data: bytes
    key: bool
    duration_ms: int | None = None


def element(identity: bytes, content: bytes) -> bytes:
    """An element with its size."""
    return identity + _size(len(content)) + content


def _size(value: int) -> bytes:
    length = max(1, -(-(value + 1).bit_length() // 7))
    return (value | 1 << 7 * length).to_bytes(length, "big")


def _number(identity: bytes, value: int) -> bytes:
    return element(identity, value.to_bytes(max(1, -(-value.bit_length() // 8)), "big"))


def void(length: int) -> bytes:
    """Nothing, in exactly `length` bytes: 0, or 2 to 9 and more."""
    if not length:
        return b""
    if length < 10:
        return VOID + bytes([0x80 | (length - 2)]) + bytes(length - 2)
    return VOID + (1 << 56 | (length - 9)).to_bytes(8, "big") + bytes(length - 9)


def cluster(blocks: Iterable[Block]) -> bytes:
    """A cluster of these blocks in the order of their time; at least one, none further than 32 s from the first."""
    ordered = sorted(blocks, key=lambda block: block.ms)
    start_ms = ordered[0].ms
    return element(CLUSTER, b"".join([_number(_TIMESTAMP, start_ms), *(_block(block, start_ms) for block in ordered)]))


def _block(block: Block, start_ms: int) -> bytes:
    head = _size(block.track) + struct.pack(
        ">hB", block.ms - start_ms, 0 if block.duration_ms is not None else _KEY_FLAG * block.key
    )
    if block.duration_ms is None:
        return b"".join((_SIMPLE_BLOCK, _size(len(head) + len(block.data)), head, block.data))
    inner = element(_BLOCK, head + block.data) + _number(_BLOCK_DURATION, block.duration_ms)
    return element(_BLOCK_GROUP, inner)


def cues(entries: Iterable[tuple[int, int, int]]) -> bytes:
    """The index. entries: (ms, track, position of the cluster from the segment's content on)."""
    points = (
        element(
            _CUE_POINT,
            _number(_CUE_TIME, ms)
            + element(_CUE_POSITIONS, _number(_CUE_TRACK, track) + _number(_CUE_CLUSTER, position)),
        )
        for ms, track, position in entries
    )
    return element(CUES, b"".join(points))


def seek_head(places: Iterable[tuple[bytes, int]]) -> bytes:
    """Where the segment's parts lie. places: (identity, position from the segment's content on)."""
    seeks = (
        element(_SEEK, element(_SEEK_ID, identity) + element(_SEEK_POSITION, position.to_bytes(8, "big")))
        for identity, position in places
    )
    return element(SEEK_HEAD, b"".join(seeks))


def children(data: bytes, start: int, end: int) -> Iterator[Element]:
    """The elements between two places, one after the other. Raises RecordingError when they make no sense."""
    while start < end:
        id_length = _vint_length(data, start)
        at = start + id_length
        size_length = _vint_length(data, at)
        content = at + size_length
        raw = int.from_bytes(data[at:content], "big") & ((1 << 7 * size_length) - 1)
        unknown = raw == (1 << 7 * size_length) - 1
        found = Element(data[start:at], start, content, None if unknown else raw)
        yield found
        if unknown:
            return
        start = found.end


def _vint_length(data: bytes, at: int) -> int:
    if at >= len(data) or not data[at]:
        raise RecordingError(f"no Matroska element at byte {at} of the header; expected one")
    return 9 - data[at].bit_length()
