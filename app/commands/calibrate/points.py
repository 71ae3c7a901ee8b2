"""`lumitherm calibrate points`: an alignment from places picked by hand, in a window or from a list."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.commands.common.options import Overwrite
from app.commands.common.output import claim, say, tell
from fusion_core.errors import BadInputError, RunError

if TYPE_CHECKING:
    from app.commands.calibrate.sources import CalibrationPair
    from app.rig.point_picking import PointPicking

__all__ = ["points"]

_SETTLE_PAIRS = 10  # of live cameras: exposure and gain have settled
_LIVE_S = 30.0


def points(
    output: Annotated[Path, typer.Option("--output", "-o", help="The calibration file (.yaml); or -.")],
    source: Annotated[
        Path | None,
        typer.Argument(help="Folder with vi/ and ir/, recording, visible video or picture; leave out with --live."),
    ] = None,
    thermal: Annotated[
        Path | None, typer.Argument(help="The thermal video or picture, if the first is visible.")
    ] = None,
    live: Annotated[
        tuple[str, str] | None, typer.Option(help="Visible and thermal camera, e.g. v4l2:/dev/video0.")
    ] = None,
    picture: Annotated[int, typer.Option(min=0, help="Which pair of the source; 0: the first.")] = 0,
    list_: Annotated[
        Path | None,
        typer.Option(
            "--points", help="CSV file, x_visible,y_visible,x_thermal,y_thermal a line, in place of a window."
        ),
    ] = None,
    model: Annotated[
        Literal["auto", "similarity", "affine", "homography"],
        typer.Option(help="Map to fit; auto grows with the number of points."),
    ] = "auto",
    distance_m: Annotated[float, typer.Option(min=0, help="Distance at which the points lie, m; 0: not known.")] = 0.0,
    accept_colour: Annotated[
        bool, typer.Option("--accept-colour", help="Take the brightness of thermal pictures coloured by a palette.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Pick the same places in both pictures: a homography, right at their distance, without a board."""
    from app.rig.point_picking import PointPicking, read_points

    claim(output, overwrite)
    if (source is None) == (live is None):
        raise BadInputError("give one source of pictures: files, or --live with two cameras")
    if live is not None:
        pair, devices = _live_pair(live, accept_colour)
    else:
        pair, devices = _stored_pair(source, thermal, picture, accept_colour), ("", "")
    picking = PointPicking(pair.visible, pair.thermal, model)

    def save() -> Path:
        picking.save(output, distance_m, devices)
        return output

    if list_ is not None:
        for visible_at, thermal_at in read_points(list_):
            picking.place("visible", visible_at)
            picking.place("thermal", thermal_at)
        save()
    else:
        if sys.platform == "linux" and not any(
            os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
        ):
            raise RunError("there is no display to pick points on; give them as a file: --points FILE.csv")
        from app.gui.setup.point_picker import pick_points

        if pick_points(picking, save) is None:
            say("nothing was saved")
            return
    _tell(picking, output)


def _tell(picking: PointPicking, output: Path) -> None:
    import numpy as np

    solution = picking.solution
    assert solution is not None  # saved, hence solved
    far = iter(solution.far)
    for number, point in enumerate(picking.points, start=1):
        if point.residual_px is None:
            say(f"point {number}: not used, it is placed in one picture only")
            continue
        left_out = f"{point.left_out_px:.2f}" if point.left_out_px is not None else "-"
        say(
            f"point {number}: {point.residual_px:.2f} visible px off, {left_out} visible px when left out"
            + ("" if point.used else "  OUTLIER, not used")
        )
        if next(far) and point.used:
            say(
                f"  WARNING: the other points foretell point {number} {left_out} visible px elsewhere. Look at it "
                "again; if it is right, pick one or two more near it: nothing checks it now."
            )
    if picking.model not in ("auto", solution.model):
        say(f"  a {picking.model} map would bend to these points: {solution.model} map in its place")
    left = solution.left_out_px[solution.inlier]
    tell(output=str(output), model=solution.model, rms_px=float(solution.rms_px), points=int(solution.inlier.sum()))
    worth = f", {np.median(left):.2f} visible px at a new point (median)" if np.isfinite(left).all() else ""
    say(
        f"{output}: {solution.model} map from {int(solution.inlier.sum())} points, {solution.rms_px:.2f} visible px rms"
        f"{worth}"
    )


def _stored_pair(source: Path | None, thermal: Path | None, number: int, accept_colour: bool) -> CalibrationPair:
    from app.commands.calibrate.sources import CalibrationPair, open_pairs, read_thermal_or_colour
    from fusion_core.pair_folder import PICTURE_SUFFIXES, read_visible

    assert source is not None  # by the caller's check
    if source.suffix.lower() in PICTURE_SUFFIXES and source.is_file():
        if thermal is None:
            raise BadInputError(f"{source} is one picture; give the thermal picture as well")
        return CalibrationPair(source.stem, read_visible(source), read_thermal_or_colour(thermal, accept_colour))
    stream = open_pairs(source, thermal, 1, accept_colour)
    try:
        for pair in itertools.islice(stream.pairs, number, number + 1):
            return pair
    finally:
        stream.close()
    raise BadInputError(f"{source} has no pair number {number} (they are counted from 0)")


def _live_pair(cameras: tuple[str, str], accept_colour: bool) -> tuple[CalibrationPair, tuple[str, str]]:
    from app.commands.calibrate.sources import live_pairs

    stream = live_pairs(*cameras, _LIVE_S, accept_colour)
    try:
        for pair in itertools.islice(stream.pairs, _SETTLE_PAIRS, _SETTLE_PAIRS + 1):
            return pair, stream.devices()
    finally:
        stream.close()
    raise RunError(f"no pair of pictures came from {cameras[0]} and {cameras[1]} in {_LIVE_S:g} s")
