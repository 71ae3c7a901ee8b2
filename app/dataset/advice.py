"""Why pairs are not taken into a training set, and what helps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from app.dataset.sources import UNRECORDED

__all__ = ["ALIKE", "NEAR_THINGS", "NO_AGREEMENT", "NO_STRUCTURE", "TOO_FAR", "advice"]

NO_STRUCTURE = "too little structure that both cameras see"
NO_AGREEMENT = "edges of the two pictures do not agree after alignment"
TOO_FAR = "alignment leaves too large a residual"
ALIKE = "too much like another frame"
NEAR_THINGS = "near things or wrong matches all over the picture"
_BELONG = (
    "see with lumitherm calibrate check whether it is this rig's calibration (lumitherm calibrate refine makes one of "
    "the same videos; --search-px looks further), and whether both are of one moment (of two videos: "
    "--thermal-offset-ms)"
)
_ADVICE = {
    NO_STRUCTURE: "Either little has edges in both pictures: film people, cars, buildings with warm and cold parts, in "
    f"focus. Or the pictures do not belong together: {_BELONG}",
    NO_AGREEMENT: f"Do the pictures belong together? {_BELONG[0].upper()}{_BELONG[1:]}",
    TOO_FAR: "Film from farther away or with the lenses closer together: parallax is what is left. --max-residual-px "
    "lets more pass, at the price of targets that are off",
    NEAR_THINGS: "Film with nothing near the rig: things nearer than what it was calibrated for do not align",
    UNRECORDED: "Record with both raw tracks: recording.tracks must name visible and thermal",
    "the two times are too far apart": "Synchronize the cameras better, or allow more with --max-skew-ms; of videos, "
    "give the known difference with --thermal-offset-ms",
    ALIKE: "Film a rig or a scene that moves",
}
"""What to do, by the reason that cost most."""
_ALIKE_A_REJECTED = 4  # alike frames to a rejected pair, from which on variety is what is wanting
_WANTED_LOSSES = ("between two candidates",)


def advice(rejected: Iterable[str], left_out: Counter[str]) -> str:
    """What to do about what cost most pairs. rejected: the reason of each rejected pair."""
    lost = Counter({reason: count for reason, count in left_out.items() if reason not in _WANTED_LOSSES})
    judged = Counter(rejected)
    if judged.total() >= lost[ALIKE] / _ALIKE_A_REJECTED:
        del lost[ALIKE]  # more of the same would be rejected as well
    lost.update(judged)
    if not lost:
        return "Record more, and more varied: another place, another hour, a rig that moves"
    reason = lost.most_common(1)[0][0]
    return _ADVICE.get(reason, "Record more, and look at the frames with lumitherm recording info FILE")
