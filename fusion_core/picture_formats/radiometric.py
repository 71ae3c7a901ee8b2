"""Raw thermal counts inside the JPEGs that FLIR and DJI cameras write: the painted picture is for people only.

FLIR: APP1 segments "FLIR" hold a file of records ("FFF"), in either byte order. Record 1 holds the counts, as a PNG
(some cameras swap the two bytes of each value) or as plain 16-bit values. DJI: APP3 segments hold plain little-endian
values, as many as the sensor has pixels. Both are sensor counts: they rise with temperature.
"""

from __future__ import annotations

import io
import re
import struct

import numpy as np

from fusion_core.files import jpeg_segments

__all__ = ["jpeg_is_whole", "radiometric_counts"]

_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_DJI_SIZES = ((512, 640), (256, 336), (120, 160), (192, 256), (1024, 1280), (240, 320), (288, 384))  # height, width
_MOST_RECORDS = 1000
_MOST_PIXELS = 1 << 24


def jpeg_is_whole(data: bytes) -> bool:
    """Whether the end mark of the picture itself is there; what other programs put behind it does not count."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            found = _MARKER_IN_SCAN.search(data, at)
            if found is None:
                return False
            at = found.start()
    return data[at : at + 2] == b"\xff\xd9"


def radiometric_counts(data: bytes) -> np.ndarray | None:
    """(H, W) uint16 counts inside a JPEG file's bytes; None where there are none that can be read."""
    flir: dict[int, bytes] = {}
    dji = bytearray()
    for marker, payload in jpeg_segments(data):
        if marker == 0xE1 and payload.startswith(b"FLIR\0") and len(payload) > 8:
            flir[payload[6]] = payload[8:]
        elif marker == 0xE3:
            dji += payload
    if flir:
        return _flir_counts(b"".join(flir[number] for number in sorted(flir)))
    for height, width in _DJI_SIZES:
        if len(dji) == 2 * height * width:
            return np.frombuffer(bytes(dji), "<u2").reshape(height, width).astype(np.uint16)
    return None


def _flir_counts(records: bytes) -> np.ndarray | None:
    if records[:4] not in (b"FFF\0", b"AFF\0") or len(records) < 64:
        return None
    for order in (">", "<"):
        version, start, count = struct.unpack_from(f"{order}III", records, 20)
        if 100 <= version < 200 and count <= _MOST_RECORDS:
            break
    else:
        return None
    for number in range(count):
        at = start + 32 * number
        if at + 32 > len(records):
            break
        kind = struct.unpack_from(f"{order}H", records, at)[0]
        offset, length = struct.unpack_from(f"{order}II", records, at + 12)
        if kind == 1 and length > 32:
            return _raw_record(records[offset : offset + length])
    return None


def _raw_record(record: bytes) -> np.ndarray | None:
    """The first word is 2 in the byte order of this record."""
    if len(record) < 36:
        return None
    order = "<" if record[:2] == b"\x02\x00" else ">"
    width, height = struct.unpack_from(f"{order}HH", record, 2)
    if not 0 < width * height <= _MOST_PIXELS:
        return None
    body = record[32:]
    if body.startswith(b"\x89PNG"):
        if len(body) < 24 or struct.unpack_from(">II", body, 16) != (width, height):
            return None
        picture = _png_counts(body)
        if picture is None:
            return None
        swapped = picture.byteswap()
        # Neighbours differ little in the right order of bytes, and by whole 256s in the wrong one.
        return np.asarray(swapped if _roughness(swapped) < _roughness(picture) else picture)
    if len(body) < 2 * width * height:
        return None
    return np.frombuffer(body, f"{order}u2", width * height).reshape(height, width).astype(np.uint16)


def _png_counts(body: bytes) -> np.ndarray | None:
    from PIL import Image  # only for such a picture

    try:
        with Image.open(io.BytesIO(body), formats=("PNG",)) as opened:
            opened.load()
            return np.array(opened, np.uint16) if opened.mode == "I;16" else None
    except (OSError, ValueError, SyntaxError, struct.error):
        return None


def _roughness(picture: np.ndarray) -> float:
    values = picture.astype(np.int32)
    return float(np.abs(np.diff(values, axis=1)).mean()) if values.shape[1] > 1 else 0.0
