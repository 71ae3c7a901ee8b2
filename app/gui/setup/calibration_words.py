"""What the calibration says, in the window's language: its sentences are English and made of the pieces below.

A piece that is not known stays as it is. `{0}` stands for a number, or for pieces again.
"""

from __future__ import annotations

import functools
import re

from PyQt6.QtCore import QT_TRANSLATE_NOOP, QCoreApplication

__all__ = ["advice_and_state", "in_words"]

_CONTEXT = "CalibrationWords"
_AND = QT_TRANSLATE_NOOP("CalibrationWords", "and")
_PIECES = (
    # what is there
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} of {1} views"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} views"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} of the thermal picture covered"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} of the common field covered"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} of the common field in the thermal picture covered"),
    QT_TRANSLATE_NOOP("CalibrationWords", "rotation known to {0} degrees (wanted {1})"),
    QT_TRANSLATE_NOOP("CalibrationWords", "thermal placed to {0} visible px at the worst place (wanted {1})"),
    QT_TRANSLATE_NOOP("CalibrationWords", "2 sigma {0} visible px"),
    QT_TRANSLATE_NOOP("CalibrationWords", "boards are held too close"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0}: go on"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Enough: {0}"),
    QT_TRANSLATE_NOOP("CalibrationWords", "That is as many as are of use: {0}"),
    QT_TRANSLATE_NOOP("CalibrationWords", "but {0}"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Solve now"),
    # where to hold the board
    QT_TRANSLATE_NOOP("CalibrationWords", "Bring the board to the {0} of the thermal picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Bring the board to the {0} of the common field"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Bring the board to the {0} of the common field in the thermal picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "about {0} m away ({1} of the thermal picture's width)"),
    QT_TRANSLATE_NOOP("CalibrationWords", "top left"),
    QT_TRANSLATE_NOOP("CalibrationWords", "top"),
    QT_TRANSLATE_NOOP("CalibrationWords", "top right"),
    QT_TRANSLATE_NOOP("CalibrationWords", "left"),
    QT_TRANSLATE_NOOP("CalibrationWords", "middle"),
    QT_TRANSLATE_NOOP("CalibrationWords", "right"),
    QT_TRANSLATE_NOOP("CalibrationWords", "bottom left"),
    QT_TRANSLATE_NOOP("CalibrationWords", "bottom"),
    QT_TRANSLATE_NOOP("CalibrationWords", "bottom right"),
    QT_TRANSLATE_NOOP("CalibrationWords", "facing you"),
    QT_TRANSLATE_NOOP("CalibrationWords", "its right edge turned away by about 30 degrees"),
    QT_TRANSLATE_NOOP("CalibrationWords", "its left edge turned away by about 30 degrees"),
    QT_TRANSLATE_NOOP("CalibrationWords", "its lower edge tipped away by about 30 degrees"),
    QT_TRANSLATE_NOOP("CalibrationWords", "its upper edge tipped away by about 30 degrees"),
    QT_TRANSLATE_NOOP("CalibrationWords", "nearer or farther than before"),
    # what became of a picture
    QT_TRANSLATE_NOOP("CalibrationWords", "no board in the visible picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "no board in the thermal picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "no board in the visible and the thermal picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "hold still"),
    QT_TRANSLATE_NOOP("CalibrationWords", "moving ({0} visible px a picture)"),
    QT_TRANSLATE_NOOP("CalibrationWords", "blurred"),
    QT_TRANSLATE_NOOP("CalibrationWords", "much like a view that is kept already"),
    QT_TRANSLATE_NOOP("CalibrationWords", "view {0} kept"),
    QT_TRANSLATE_NOOP("CalibrationWords", "held still"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} pictures averaged"),
    QT_TRANSLATE_NOOP("CalibrationWords", "enough of this pose"),
    QT_TRANSLATE_NOOP("CalibrationWords", "enough views"),
    # the conditions of a good calibration
    QT_TRANSLATE_NOOP("CalibrationWords", "accepted views"),
    QT_TRANSLATE_NOOP("CalibrationWords", "uncertainty over the picture (2 sigma, largest)"),
    QT_TRANSLATE_NOOP("CalibrationWords", "transfer error on held-out views, median"),
    QT_TRANSLATE_NOOP("CalibrationWords", "transfer error on held-out views, 95th percentile"),
    QT_TRANSLATE_NOOP("CalibrationWords", "common field that the boards were held in"),
    QT_TRANSLATE_NOOP("CalibrationWords", "coverage of the visible picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "coverage of the thermal picture"),
    QT_TRANSLATE_NOOP("CalibrationWords", "at least {0} of 6x6 cells"),
    QT_TRANSLATE_NOOP("CalibrationWords", "at least {0}"),
    QT_TRANSLATE_NOOP("CalibrationWords", "at most {0}"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} thermal px"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} visible px"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Capture more poses: near, far, tilted 20 to 40 degrees in each direction"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Capture poses where the uncertainty map is dark, at the borders above all"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Hold the board still, and heat it until its edges are sharp"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Look at the per-view residuals and delete the blurred views"),
    QT_TRANSLATE_NOOP(
        "CalibrationWords", "Hold a larger board farther away: so close, both cameras see it in a strip only"
    ),
    QT_TRANSLATE_NOOP("CalibrationWords", "Bring the board into the empty cells of the visible coverage map"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Bring the board into the empty cells of the thermal coverage map"),
    # why both cameras together do not fit
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Where the board moves one way in the visible picture it moves the other way in the thermal one: one camera's "
        "picture is mirrored",
    ),
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Set `mirror: true` for that camera (#mirror=1 behind an address or file), and capture again",
    ),
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Each camera fits alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px "
        "and {3} thermal px: the views were not taken at the same moment, or the board is bent",
    ),
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Each camera fits alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px "
        "and {3} thermal px, and the views differ by {4} degrees about how the cameras are turned, where noise "
        "explains {5}: the views were not taken at the same moment, or the board is bent",
    ),
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Each camera is off when alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px "
        "and {3} thermal px: the views were not taken at the same moment, or the board is bent, or its lengths are not "
        "those that were given",
    ),
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Each camera is off when alone ({0} visible px, {1} thermal px), but both together are off by {2} visible px "
        "and {3} thermal px, and the views differ by {4} degrees about how the cameras are turned, where noise "
        "explains {5}: the views were not taken at the same moment, or the board is bent, or its lengths are not those "
        "that were given",
    ),
    QT_TRANSLATE_NOOP("CalibrationWords", "Hold it still at each view, on a tripod if need be, and stiffen it"),
    QT_TRANSLATE_NOOP(
        "CalibrationWords",
        "Fitting both together would move the principal points by {0} visible px and {1} thermal px; so both lenses "
        "are held as each camera alone gives them",
    ),
    # why the capture or the solver ended
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} views are kept, at least {1} are needed"),
    # points picked by hand
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} whole points; two give a first map, four or more one to rely on"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} visible but {1} thermal points; they must come in pairs"),
    QT_TRANSLATE_NOOP("CalibrationWords", "{0} point pairs, a {1} map needs at least {2}"),
    QT_TRANSLATE_NOOP(
        "CalibrationWords", "the points do not determine a {0} map: they lie on one line or on top of each other"
    ),
    QT_TRANSLATE_NOOP("CalibrationWords", "the points do not determine a homography: three or more lie on one line"),
    QT_TRANSLATE_NOOP("CalibrationWords", "only {0} of {1} point pairs agree to {2} visible px"),
    QT_TRANSLATE_NOOP("CalibrationWords", "Check the picks, or pick points at one distance"),
    QT_TRANSLATE_NOOP("CalibrationWords", "similarity"),
    QT_TRANSLATE_NOOP("CalibrationWords", "affine"),
    QT_TRANSLATE_NOOP("CalibrationWords", "homography"),
)


def in_words(text: str) -> str:
    """A text of the calibration in the window's language; the same text where that is English."""
    return " ".join(_sentence(part) for part in re.split(r"(?<=[a-z)%0-9]\.) (?=[A-Z])", text))


def advice_and_state(guidance: str) -> tuple[str, str]:
    """What to do next, and what is there so far: the guide gives them as one text, what is there first."""
    state, _, advice = guidance.rpartition(". ") if guidance.endswith(".") else ("", "", guidance)
    return advice, f"{state}." if state else ""


def _sentence(text: str) -> str:
    body, stop = (text[:-1], ".") if text.endswith(".") else (text, "")
    found = _clause(body)
    return found[:1].upper() + found[1:] + stop if body[:1].isupper() else found + stop


def _clause(text: str) -> str:
    whole = _piece(text)
    if whole is not None:
        return whole
    for separator in (", ", " and "):
        parts = text.split(separator)
        if len(parts) > 1:
            joint = separator if separator == ", " else f" {QCoreApplication.translate(_CONTEXT, _AND)} "
            return joint.join(_clause(part) for part in parts)
    return text


def _piece(text: str) -> str | None:
    for pattern, piece in _patterns():
        match = pattern.fullmatch(text)
        if match is not None:
            return QCoreApplication.translate(_CONTEXT, piece).format(*(_clause(part) for part in match.groups()))
    return None


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Those with the most words of their own first, and what they stand for holds no comma or bracket."""
    ordered = sorted(_PIECES, key=lambda piece: -len(re.sub(r"\{\d\}", "", piece)))
    return [(re.compile(re.sub(r"\\\{\d\\\}", "([^,()]+?)", re.escape(piece))), piece) for piece in ordered]
