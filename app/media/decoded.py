"""Decoded video frames as pixels: the one conversion for files and live sources.

Visible: RGB, by the matrix, range, transfer and primaries that the stream declares; where it declares no matrix, BT.709
from 720 lines up and BT.601 below, limited range. HLG, PQ and BT.2020 are brought to what a BT.709 screen shows.
Thermal: grey 8 bit unchanged, grey 9 to 16 bit as uint16 counts, also where three equal channels hold them; colour
formats their luma (limited range widened to 0..255), unless the picture is painted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from app.media.geometry import PictureCut, frame_orientation
from fusion_core.errors import BadInputError
from fusion_core.frames import Stream
from fusion_core.picture_formats.decoders import turned
from fusion_core.thermal.painted import Unpainter

__all__ = ["DECODER_LIMITS", "MOST_VIDEO_PIXELS", "FrameConverter", "bound_decoder"]

MOST_VIDEO_PIXELS: Final = 36_000_000  # 8K with its padding
DECODER_LIMITS: Final = MappingProxyType({"max_pixels": str(MOST_VIDEO_PIXELS)})
"""FFmpeg options for every container of others: what is probed is decoded, so the limit must be there before."""

# Matrix coefficients as numbered by ITU-T H.273 -> what swscale calls them.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_PQ, _HLG, _BT2020 = 16, 18, 9  # transfer, transfer, primaries; as numbered there
_PLANAR_LUMA = re.compile(r"^(yuv[aj]?4\d\dp|nv\d\d|gray|p01|p21|p41)")
_RGB = re.compile(r"^(rgb|bgr|gbr|pal8|gray|argb|abgr|0rgb|0bgr|ya\d|x2rgb|x2bgr|mono)")
_LIMITED_TO_FULL = np.clip(np.round((np.arange(256) - 16.0) * (255.0 / 219.0)), 0, 255).astype(np.uint8)
# Full chroma interpolation on top costs about 2.5 ms more a 640x480 frame on one core.
_RESAMPLING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
_TO_BT709 = np.array(  # linear light, from BT.2020 primaries
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_CHROMA_TOLERANCE = 10  # of a grey picture that went through a lossy codec, in levels from the middle
_CHROMA_SHARE = 0.01
_CODES = 4096


def bound_decoder(context: Any, shown: str) -> None:
    """Limit the coded size that a decoder takes, before its first packet: the header of the file may tell another one.

    Raises:
        BadInputError: the header tells of more already.
    """
    context.options = {**context.options, **DECODER_LIMITS}
    if context.width * context.height > MOST_VIDEO_PIXELS:
        raise BadInputError(
            f"{shown} says that it is {context.width}x{context.height}; at most {MOST_VIDEO_PIXELS} pixels a picture"
            " are decoded. Is it damaged?"
        )


class FrameConverter:
    """Turns the decoded frames of one stream into pixels. One thread at a time.

    Args:
        name: of the source, for messages.
        accept_colour: thermal: take the brightness of a picture in an unknown palette.
    """

    def __init__(self, stream: Stream, name: str, accept_colour: bool = False, cut: PictureCut | None = None) -> None:
        self._stream, self._name, self._cut = stream, name, cut or PictureCut()
        self._unpainter = Unpainter(accept_colour)
        self._reformatter = VideoReformatter()
        self._is_hdr = False

    @property
    def notes(self) -> list[str]:
        """What was done to the pictures, one line each."""
        lines = list(self._unpainter.notes(self._name))
        if self._is_hdr:
            lines.append(f"{self._name}: its high dynamic range was brought to an ordinary screen's")
        return lines

    def pixels(self, decoded: Any) -> np.ndarray:
        """Upright pixels of the part that is meant.

        Returns:
            visible (H, W, 3) uint8 RGB; thermal (H, W) uint8 or uint16.

        Raises:
            BadInputError: a thermal picture in an unknown palette; counts asked of a picture that holds none.
        """
        orientation = frame_orientation(decoded)
        if self._cut.counts:
            pixels = self._packed_counts(decoded)
        elif self._stream is Stream.VISIBLE:
            pixels = self._rgb(decoded)
        else:
            pixels = self._thermal(decoded)
        if orientation != 1:
            pixels = turned(pixels, orientation)
        pixels = np.ascontiguousarray(self._cut.apply(pixels))
        return self._grey(pixels) if pixels.ndim == 3 and self._stream is Stream.THERMAL else pixels

    def _grey(self, rgb: np.ndarray) -> np.ndarray:
        grey = self._unpainter.grey(rgb)
        if grey is None:
            raise BadInputError(
                f"{self._name}: the thermal picture is in colour, and its palette is not one that can be undone. Are"
                " the visible and the thermal input swapped? If a camera painted it, set that to white-hot, or take its"
                " brightness by accept_colour (--accept-colour)"
            )
        return grey

    def _packed_counts(self, decoded: Any) -> np.ndarray:
        if decoded.format.name != "yuyv422":
            raise BadInputError(
                f"{self._name}: counts=1 reads the bytes of YUYV pictures, and these are {decoded.format.name}; leave"
                " it out, or take the camera's own stream"
            )
        return np.ascontiguousarray(decoded.to_ndarray()).view("<u2")[..., 0]

    def _rgb(self, decoded: Any) -> np.ndarray:
        transfer = int(getattr(decoded, "color_trc", 2))
        wide = int(getattr(decoded, "color_primaries", 2)) == _BT2020
        if transfer in (_PQ, _HLG) or (wide and not _RGB.match(decoded.format.name)):
            self._is_hdr = self._is_hdr or transfer in (_PQ, _HLG)
            return _to_screen(self._reformatted(decoded, "rgb48le"), transfer, wide)
        return self._reformatted(decoded, "rgb24")

    def _reformatted(self, decoded: Any, wanted: str) -> np.ndarray:
        if _RGB.match(decoded.format.name):
            rgb = self._reformatter.reformat(decoded, format=wanted, interpolation=_RESAMPLING, threads=1)
        else:
            is_large = decoded.height > 576 or decoded.width >= 1280
            guessed = Colorspace.ITU709 if is_large else Colorspace.ITU601
            rgb = self._reformatter.reformat(
                decoded,
                format=wanted,
                src_colorspace=_MATRICES.get(int(decoded.colorspace), guessed),
                src_color_range=ColorRange.JPEG if _is_full_range(decoded) else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=_RESAMPLING,
                threads=1,
            )
        return np.asarray(rgb.to_ndarray())

    def _thermal(self, decoded: Any) -> np.ndarray:
        """(H, W) counts or levels, or (H, W, 3) uint8 RGB where the picture may be painted."""
        name: str = decoded.format.name
        bits = int(decoded.format.components[0].bits)
        if bits > 16:
            raise BadInputError(f"{self._name} holds {name} pixels; a thermal video has 8 to 16 bits")
        if not _PLANAR_LUMA.match(name):
            return self._rgb(decoded) if bits <= 8 else self._deep_rgb(decoded, name, bits)
        if not name.startswith("gray") and (self._cut.half is not None or _has_colour(decoded, bits)):
            return self._rgb(decoded)
        luma_plane = _plane(decoded, 0, bits, decoded.width, decoded.height)
        if bits > 8:
            if name.startswith(("p01", "p21", "p41")):  # these hold their bits at the upper end
                luma_plane = luma_plane >> (16 - bits)
            return luma_plane
        is_limited = (
            int(decoded.color_range) == ColorRange.MPEG if name.startswith("gray") else not _is_full_range(decoded)
        )
        return cv2.LUT(luma_plane, _LIMITED_TO_FULL) if is_limited else luma_plane

    def _deep_rgb(self, decoded: Any, name: str, bits: int) -> np.ndarray:
        """Equal channels of more than 8 bits are counts."""
        planar = decoded
        if not name.startswith("gbr"):
            planar, bits = self._reformatter.reformat(decoded, format="gbrp16le", threads=1), 16
        first, second, third = (_plane(planar, number, bits, decoded.width, decoded.height) for number in range(3))
        if np.array_equal(first, second) and np.array_equal(first, third):
            return first
        return self._rgb(decoded)


def _is_full_range(decoded: Any) -> bool:
    return bool(decoded.format.name.startswith("yuvj") or int(decoded.color_range) == ColorRange.JPEG)


def _has_colour(decoded: Any, bits: int) -> bool:
    """Whether the chroma planes of a planar picture say that it is painted; a cheap look at each frame."""
    planes = decoded.planes[1:3] if len(decoded.planes) >= 3 else decoded.planes[1:2]
    for plane in planes:
        values: np.ndarray = np.frombuffer(plane, np.uint16 if bits > 8 else np.uint8)
        rows = values.reshape(-1, plane.line_size // values.itemsize)[:: 1 + (decoded.height > 600)]
        width = plane.width * (2 if len(planes) == 1 else 1)
        upper = decoded.format.name.startswith(("p01", "p21", "p41"))
        scaled = rows[:, :width] >> (8 if upper else bits - 8)
        off = np.abs(scaled.astype(np.int16) - 128) > _CHROMA_TOLERANCE
        if np.count_nonzero(off) > _CHROMA_SHARE * off.size:
            return True
    return False


def _plane(decoded: Any, number: int, bits: int, width: int, height: int) -> np.ndarray:
    """A copy of one plane: (height, width) uint8, or uint16 for more than 8 bits."""
    plane = decoded.planes[number]
    wide = ">u2" if decoded.format.is_big_endian else "<u2"
    dtype: np.dtype[Any] = np.dtype(wide if bits > 8 else np.uint8)
    rows = np.frombuffer(plane, dtype=dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[:height, :width].astype(np.uint16 if bits > 8 else np.uint8)


def _to_screen(rgb: np.ndarray, transfer: int, wide: bool) -> np.ndarray:
    """(H, W, 3) uint16 of any transfer and BT.2020 or BT.709 primaries: uint8 for an ordinary screen."""
    linear = _light_table(transfer)[rgb >> 4]
    if wide:
        linear = linear @ _TO_BT709.T
    levels: np.ndarray = _screen_table()[np.clip(linear * (_CODES - 1), 0, 2 * _CODES - 1).astype(np.uint16)]
    return np.asarray(levels)


@lru_cache(maxsize=4)
def _light_table(transfer: int) -> np.ndarray:
    """(4096,) float32: light of each code, 1.0 = the white of paper (203 cd/m2 by ITU-R BT.2408)."""
    code = np.linspace(0.0, 1.0, _CODES)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12) / 0.265
    elif transfer == _PQ:
        power = code ** (1 / 78.84375)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        light *= 10_000 / 203
    else:
        light = np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _screen_table() -> np.ndarray:
    """(8192,) uint8: level of light from 0 to 2, BT.709's curve with a shoulder from 0.9 of white on."""
    light = np.arange(2 * _CODES) / (_CODES - 1)
    light = np.where(light < 0.9, light, 0.9 + 0.1 * (1 - np.exp(-(light - 0.9) / 0.1)))
    level = np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    return np.asarray(np.rint(np.clip(level, 0, 1) * 255), np.uint8)
