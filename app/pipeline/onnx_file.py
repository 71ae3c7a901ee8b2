"""Looks through an ONNX file before a runtime builds anything of it: how much there is, and which files it names.

A runtime believes what a file says: a tensor of a terabyte, weights in /dev/zero or in another user's folder. This
reads the bare protobuf, without making anything of it.
"""

from __future__ import annotations

import mmap
import stat
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Final

from fusion_core.errors import BadInputError

__all__ = ["check_onnx"]

_MOST_BYTES: Final = 512_000_000  # of the file, and of those beside it that hold its weights
_MOST_FIELDS: Final = 1_000_000
_MOST_NODES: Final = 50_000
_MOST_DEPTH: Final = 20  # of graphs in nodes
_MOST_VALUES: Final = 1 << 29  # of one tensor
_SMALLEST: Final = 8  # values that a byte may hold at the most

# Which fields of a message hold which message, by the numbers in onnx.proto.
_INSIDE: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DIMS, _RAW, _NAME, _EXTERNAL, _LOCATION = 1, 9, 8, 13, 14
_DATA: Final = (4, 5, 6, 7, _RAW, 10, 11)

Value = int | memoryview


def check_onnx(path: Path) -> None:
    """Refuse a file that claims more than it holds, or leads elsewhere.

    Raises:
        BadInputError: says what is wrong. OSError: it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadInputError(f"detect.model: {path} is no plain file")
    if not 0 < status.st_size <= _MOST_BYTES:
        raise BadInputError(f"detect.model: {path} has {status.st_size} bytes; 1 to {_MOST_BYTES} are read")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        walk = _Walk(path, status.st_size)
        # Views must be gone before the map is closed, also those that a traceback would keep.
        wrong = walk.wrong(memoryview(mapped))
    if wrong:
        raise BadInputError(f"detect.model: {path} {wrong}")


class _Walk:
    """One look through one file."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._fields = self._nodes = self._graphs = 0
        self._beside: dict[str, int] = {}  # files with weights, and their sizes
        self._size = size

    def wrong(self, data: memoryview) -> str:
        """What is wrong with it; "" = nothing."""
        with data:
            try:
                self._message(data, "model", 0)
            except (ValueError, IndexError) as error:
                return str(error) if str(error).startswith(("has", "names", "says")) else f"is no ONNX file: {error}"
            return "" if self._graphs else "is no ONNX file: it holds no graph"

    def _message(self, data: memoryview, kind: str, depth: int) -> None:
        if kind == "graph":
            self._graphs += 1
            depth += 1
            if depth > _MOST_DEPTH:
                raise ValueError(f"has graphs in graphs, more than {_MOST_DEPTH} deep")
        elif kind == "node":
            self._nodes += 1
            if self._nodes > _MOST_NODES:
                raise ValueError(f"has more than {_MOST_NODES} nodes")
        inside = _INSIDE[kind]
        for number, value in self._each(data):
            found = inside.get(number)
            if found is None or isinstance(value, int):
                continue
            if found == "tensor":
                self._tensor(value)
            else:
                self._message(value, found, depth)

    def _each(self, data: memoryview) -> Iterator[tuple[int, Value]]:
        at = 0
        while at < len(data):
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise ValueError(f"has more than {_MOST_FIELDS} parts")
            key, at = _varint(data, at)
            if key & 7 == 0:
                value, at = _varint(data, at)
                yield key >> 3, value
                continue
            size = {1: 8, 5: 4}.get(key & 7, -1)
            if key & 7 == 2:
                size, at = _varint(data, at)
            if size < 0 or at + size > len(data):
                raise ValueError(f"damaged behind byte {at} of a part")
            yield key >> 3, data[at : at + size]
            at += size

    def _tensor(self, data: memoryview) -> None:
        dims: list[int] = []
        held, elsewhere, name = 0, False, ""
        place: dict[str, str] = {}
        for number, value in self._each(data):
            if number == _DIMS:
                dims += [value] if isinstance(value, int) else _packed(value)
            elif number in _DATA:
                held += 8 if isinstance(value, int) else len(value) + 2
            elif number == _LOCATION:
                elsewhere = value == 1
            elif number == _EXTERNAL and not isinstance(value, int):
                texts = {n: bytes(v).decode("utf-8", "replace") for n, v in self._each(value) if not isinstance(v, int)}
                place[texts.get(1, "")] = texts.get(2, "")
            elif number == _NAME and not isinstance(value, int):
                name = bytes(value[:80]).decode("utf-8", "replace")
        if len(dims) > 64:
            raise ValueError(f"says that its tensor {name!r} has {len(dims)} dimensions")
        count = prod(dims)
        if elsewhere or place:
            held += self._bytes_beside(place)
        if count > _MOST_VALUES:
            raise ValueError(f"says that its tensor {name!r} has {count} values; at most {_MOST_VALUES} are read")
        if count > _SMALLEST * held:
            raise ValueError(f"says that its tensor {name!r} has {count} values, and holds {held} bytes of it")

    def _bytes_beside(self, place: Mapping[str, str]) -> int:
        """How much of the tensor is in a file beside this one; no other file is opened for it."""
        name = place.get("location", "")
        if not name or Path(name).name != name or "\\" in name or "\0" in name or name in (".", ".."):
            raise ValueError(f"names {name[:200]!r} as the file of its weights; wanted one in its own folder")
        if name not in self._beside:
            try:
                status = (self._path.parent / name).lstat()
            except OSError:
                raise ValueError(f"names {name[:200]!r} as the file of its weights, which is not there") from None
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"names {name[:200]!r} as the file of its weights, which is no plain file")
            self._beside[name] = status.st_size
            if sum(self._beside.values()) + self._size > _MOST_BYTES:
                raise ValueError(f"has more than {_MOST_BYTES} bytes with {name[:200]!r}; at most so many are read")
        size, (offset, length) = self._beside[name], (_number(place.get(key, "")) for key in ("offset", "length"))
        length = size - offset if not place.get("length") else length
        if offset < 0 or length < 0 or offset + length > size:
            raise ValueError(f"names bytes {offset} to {offset + length} of {name[:200]!r}, which has {size}")
        return length


def _number(text: str) -> int:
    if not text:
        return 0
    return int(text) if len(text) < 20 and text.isascii() and text.isdigit() else -1


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift >= 70:
            raise ValueError(f"damaged at byte {at} of a part")


def _packed(data: memoryview) -> list[int]:
    found: list[int] = []
    at = 0
    while at < len(data) and len(found) <= 64:
        value, at = _varint(data, at)
        found.append(value)
    return found
