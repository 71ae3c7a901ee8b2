"""Files that a kill or a power cut leaves whole, and files of strangers: nothing is read before its size is known.

Writing leaves the old contents or the new ones, never a part. Reading refuses what is no plain file and what is larger
than its limit; `picture_size` tells what a picture would take before a decoder sees it. Nothing is written through a
link that another user has laid (`make_folder`, `refuse_planted`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from fusion_core.errors import BadInputError

__all__ = [
    "NoPlainFileError",
    "jpeg_segments",
    "make_folder",
    "open_plain",
    "picture_size",
    "plain_name",
    "put_in_place",
    "read_bounded",
    "read_json",
    "refuse_planted",
    "replacing",
    "sync",
    "write_atomic",
]

_STEM_BYTES = 200  # a name of up to 255 bytes must leave room for what is put round it
_MOST_JSON_BYTES: Final = 16_000_000
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}  # of its colour types; a palette may come out with opacity
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNM_NUMBER: Final = re.compile(rb"(?:\s|#[^\n]*\n)+(\d{1,9})")


def refuse_planted(path: Path, ours: bool = False) -> None:
    """Refuse a path that somebody else may have laid to have us write elsewhere. A part that is not there is no fault.

    Links of this user or of root are followed: a disk may be elsewhere. It does not hold against somebody who may write
    in a folder above and exchanges it while we write.

    Args:
        ours: `path` is a folder of a name that the program chooses, so it belongs to this user, to root, or to whom the
            folder above belongs (as on a mounted share, where everything has one owner).

    Raises:
        PermissionError: says what is in the way.
    """
    if not hasattr(os, "getuid"):
        return
    trusted = {os.getuid(), 0}
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve would follow the links that are looked for
    for part in (*reversed(whole.parents), whole):
        try:
            status = part.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in trusted:
            raise PermissionError(errno.EPERM, f"{part} is a symbolic link that another user made", str(path))
    if ours and whole.stat().st_uid not in trusted | {whole.parent.stat().st_uid}:
        raise PermissionError(errno.EPERM, f"{whole} belongs to another user", str(path))


def make_folder(folder: Path, mode: int = 0o777, ours: bool = False) -> None:
    """Make the folder and those above it if need be. Raises OSError, also as `refuse_planted` does."""
    refuse_planted(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    refuse_planted(folder, ours)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Make these the contents of the file; text is written as UTF-8. Raises OSError, and leaves what was there."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, with its suffix, to write the new file to; at the end it takes the place of `path`.

    After an error `path` is as it was. Raises OSError.
    """
    stem = os.fsencode(path.stem)[:_STEM_BYTES].decode("utf-8", "ignore")
    # A name that nobody can foresee: in a folder of several users a link of that name would lead the writing elsewhere.
    refuse_planted(path.parent)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, wanted the name of a file", str(path))
    part = path.with_name(f".{stem}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield part
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path) -> None:
    """Rename a finished file of one folder onto `path`, with contents and name forced to the disk. Raises OSError."""
    sync(part)
    part.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk. Raises OSError."""
    if os.name != "posix":
        return  # a folder cannot be opened there, and a rename is ordered
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain_name(text: str) -> str:
    """A name, e.g. of a rig, as part of a file name: all but letters, digits, - and _ become _."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in text)


def read_bounded(path: Path | str, most_bytes: int, what: str = "file") -> bytes:
    """The contents of a plain file of at most so many bytes; its size is looked at before anything is read.

    Args:
        what: it is expected to be, for messages, e.g. "YAML configuration".

    Raises:
        OSError: it is not there or cannot be read.
        BadInputError: it is a folder, a pipe or a device, or too large.
    """
    with open_plain(path, what) as stream:
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(most_bytes + 1) if size <= most_bytes else b""
    if size > most_bytes or len(data) > most_bytes:
        size = max(size, len(data))
        raise BadInputError(f"{path} has {size} bytes, a {what} may have at most {most_bytes}; is it another file?")
    return data


def open_plain(path: Path | str, what: str = "file") -> BinaryIO:
    """Open a plain file for reading; a pipe that nobody writes to would hold an ordinary open for ever.

    Raises:
        OSError: it is not there or cannot be read.
        NoPlainFileError: it is a folder, a pipe or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((name for test, name in _KINDS if test(mode)), "no plain file")
        raise NoPlainFileError(f"{path} is {kind}, wanted a {what} in a plain file")
    return os.fdopen(descriptor, "rb")


class NoPlainFileError(BadInputError, OSError):
    """Who looks for a file that cannot be read finds this one, too."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def read_json(path: Path | str, most_bytes: int = _MOST_JSON_BYTES) -> Any:
    """The contents of a JSON file.

    Raises:
        OSError: it cannot be read. ValueError: it is too large, no plain file, no UTF-8, no JSON, or nested too deeply.
    """
    data = read_bounded(path, most_bytes, "JSON file")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, payload) of each segment of a JPEG before the picture data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA or length < 2:
            return
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def picture_size(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, bytes a pixel once decoded) by the header of a PNG, JPEG, BMP, WebP, JPEG 2000 or PNM picture.

    None for every other kind, and where the header breaks off: nobody can say what such a file would take.
    """
    try:
        if data.startswith(_PNG_HEAD):
            width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
            return height, width, _PNG_CHANNELS[colour] * (2 if bits == 16 else 1)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(height), abs(width), 4
        if data.startswith(b"\xff\xd8"):
            frames = [body for marker, body in jpeg_segments(data) if marker in _JPEG_FRAMES]
            height, width = struct.unpack_from(">HH", frames[0], 1)
            return height, width, 3
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[4:12] in (b"jP  \r\n\x87\n", b"jP\x1a\x1a\r\n\x87\n") or data.startswith(b"\xff\x4f\xff\x51"):
            return _jpeg2000_size(data)
        if data[:1] == b"P" and data[1:2] in b"123456" and len(data) > 2:
            return _pnm_size(data)
    except (struct.error, IndexError, KeyError):
        pass
    return None


def _webp_size(data: bytes) -> tuple[int, int, int] | None:
    """The largest of its canvas and frames."""
    sizes, at = [], 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + min(length, 32)]
        if kind == b"VP8X":
            sizes.append((1 + int.from_bytes(body[7:10], "little"), 1 + int.from_bytes(body[4:7], "little")))
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            sizes.append((height & 0x3FFF, width & 0x3FFF))
        elif kind == b"VP8L":
            packed = struct.unpack_from("<I", body, 1)[0]
            sizes.append((1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF)))
        at += 8 + length + length % 2
    return (*max(sizes, key=lambda size: size[0] * size[1]), 4) if sizes else None


def _jpeg2000_size(data: bytes) -> tuple[int, int, int]:
    """By the stream itself, which is what is decoded, not by the box round it; many small tiles count as pixels."""
    at = data.index(b"\xff\x4f\xff\x51")
    right, lower, left, upper, tile_width, tile_height = struct.unpack_from(">IIIIII", data, at + 8)
    channels = struct.unpack_from(">H", data, at + 40)[0]
    height, width = lower - upper, right - left
    tiles = max(1, height // max(1, tile_height)) * max(1, width // max(1, tile_width))
    return (height, width, 4 * channels) if tiles <= 65_535 else (tiles, 1 << 16, 4 * channels)


def _pnm_size(data: bytes) -> tuple[int, int, int]:
    numbers, at = [], 2
    for _ in range(2 if data[1:2] in b"14" else 3):
        found = _PNM_NUMBER.match(data, at, at + 10_000)
        if found is None:
            raise IndexError
        numbers.append(int(found[1]))
        at = found.end()
    deep = len(numbers) > 2 and numbers[2] > 255
    return numbers[1], numbers[0], (3 if data[1:2] in b"36" else 1) * (2 if deep else 1)
