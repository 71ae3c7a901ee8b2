"""`lumitherm calibrate board|capture|solve|check|refine|points`: from a printed board to a checked rig file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.commands.calibrate.points import points
from app.commands.common.options import Cli, Overwrite
from app.commands.common.output import claim, say, tell
from fusion_core.errors import BadInputError, CaptureError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from app.commands.calibrate.sources import PairStream
    from calibration.board import Board
    from calibration.capture_guide import CaptureGuide
    from calibration.extrinsics import PairView
    from calibration.residual_field import ResidualField
    from calibration.rig import PlaneCalibration, RigCalibration
    from calibration.targetless import Model, Refinement

__all__ = ["register"]

_SURE = 0.15  # confidence from which on a place of the picture counts
_FEW = 0.02  # of the places: fewer are as likely single mistakes
_MOST_LOOKED_AT = 36_000  # pictures of a source that pictures are spread over: twenty minutes

BoardOption = Annotated[
    str, typer.Option("--board", "-b", help="checkerboard:10x7:30mm, acircles:4x11:30mm, charuco:8x6:40mm:30mm, ...")
]
Source = Annotated[Path, typer.Argument(help="Folder with vi/ and ir/, a recording, or the visible video.")]
AcceptColour = Annotated[
    bool, typer.Option("--accept-colour", help="Take the brightness of thermal pictures coloured by a palette.")
]
ThermalVideo = Annotated[Path | None, typer.Argument(help="The thermal video, if the first is the visible one.")]


def register(cli: typer.Typer) -> None:
    """Add the command group."""
    group = Cli(help="Calibrate: print a board, capture, solve, check, refine, pick points.")
    group.command("board")(_board)
    group.command("capture")(_capture)
    group.command("solve")(_solve)
    group.command("check")(_check)
    group.command("refine")(_refine)
    group.command("points")(points)
    cli.add_typer(group, name="calibrate")


def _board(
    output: Annotated[Path, typer.Option("--output", "-o", help="A .pdf or .svg file; - for PDF.")],
    board: BoardOption = "acircles:4x11:28mm",
    page: Annotated[str, typer.Option(help="a4, a3, a2, a1, a0, exact, or auto for the smallest that fits.")] = "auto",
    cut_lines: Annotated[bool, typer.Option("--cut-lines", help="Circles as outlines for a cutter.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a board to print or cut, to scale, with notes on materials and heat."""
    from calibration.board import parse_board
    from calibration.board_pdf import write_board

    claim(output, overwrite)
    parsed = parse_board(board)
    drawing = write_board(parsed, output, page, cut_lines=cut_lines)
    tell(output=str(output), width_mm=drawing.width_mm, height_mm=drawing.height_mm)
    say(f"{output}: {parsed.describe()} on {drawing.width_mm:.0f} x {drawing.height_mm:.0f} mm")
    if len(parsed.equivalent_orders(polarity_known=True)) > 1:
        say("This board looks the same when turned; an asymmetric one (acircles with odd rows) is safer.")


def _capture(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the kept views (vi/, ir/).")],
    source: Annotated[
        Path | None, typer.Argument(help="Folder, recording or visible video; leave out with --live.")
    ] = None,
    thermal: ThermalVideo = None,
    board: BoardOption = "acircles:4x11:28mm",
    live: Annotated[
        tuple[str, str] | None, typer.Option(help="Visible and thermal camera, e.g. v4l2:/dev/video0.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="A made-up rig and board, to try the procedure.")
    ] = False,
    views: Annotated[
        int, typer.Option(min=0, max=200, help="How many views to keep; 0: as many as it takes, 12 to 40.")
    ] = 0,
    every: Annotated[int, typer.Option(min=1, help="Look at every n-th picture of a video.")] = 3,
    distance_m: Annotated[
        float, typer.Option(min=0, help="Working distance Z0 to be exact at, m; 0: chosen for near to horizon.")
    ] = 0.0,
    timeout_s: Annotated[float, typer.Option(min=1, help="Give up a live capture after this time.")] = 600.0,
    accept_colour: AcceptColour = False,
    roll_deg: Annotated[
        float, typer.Option(help="How the thermal camera is turned about its line of sight, degrees.")
    ] = 0.0,
    overwrite: Overwrite = False,
) -> None:
    """Keep still, sharp, new views of the board, and say where to hold it next."""
    from app.commands.calibrate.sources import live_pairs, open_pairs, simulated_pairs
    from calibration.board import parse_board
    from calibration.capture_guide import TARGET_VIEWS, CaptureGuide

    claim(output, overwrite)
    if sum((source is not None, live is not None, simulated)) != 1:
        raise BadInputError("give one source of pictures: a folder, recording or videos, or --live, or --simulated")
    parsed = parse_board(board)
    stream: PairStream
    if live is not None:
        stream = live_pairs(live[0], live[1], timeout_s, accept_colour)
    elif simulated:
        stream = simulated_pairs(parsed, (views or TARGET_VIEWS) * 3)
    else:
        assert source is not None  # by the check above
        stream = open_pairs(source, thermal, every, accept_colour)
    guide = CaptureGuide(
        parsed, require_still=stream.moving, roll_deg=roll_deg, target=views or TARGET_VIEWS, exactly=views > 0,
        working_distance_m=distance_m,
    )  # fmt: skip
    _keep_views(guide, stream, output)
    tell(output=str(output), views=len(guide.accepted), covered=guide.coverage)
    say(f"{len(guide.accepted)} views in {output}, {guide.coverage:.0%} {guide.covered_field} covered")
    if guide.assessment is not None:
        say(guide.assessment.reached.words())
    if len(guide.accepted) < 3:
        raise BadInputError(
            f"only {len(guide.accepted)} usable views were found, at least 3 are needed. {guide.guidance()}"
        )


def _keep_views(guide: CaptureGuide, stream: PairStream, output: Path) -> None:
    """Offer every pair to the guide, save what it accepts, and say what it advises; close the stream."""
    from app.commands.calibrate.sources import save_devices, save_pair
    from calibration.time_offset import MOVEMENT_FILE, BoardMovement

    said = ""
    movement = BoardMovement(stream.added_ms)
    try:
        for pair in stream.pairs:
            verdict = guide.offer(pair.name, pair.visible, pair.thermal)
            view = verdict.view
            if pair.stamps_ns is not None and not verdict.improved:  # else the mean of pictures of a still board
                movement.add(pair.stamps_ns[0], view.found_visible, pair.stamps_ns[1], view.found_thermal)
            if verdict.accepted or verdict.improved:
                save_pair(output, f"{len(guide.accepted):03d}_{view.name}", view.visible, view.thermal)
            line = f"{verdict.reason}. {verdict.guidance}"
            if line != said:
                say(f"{pair.name}: {line}")
                said = line
            if guide.done:
                break
        if guide.accepted:
            save_devices(output, stream.devices())
            if len(movement):
                movement.save(output / MOVEMENT_FILE)
    finally:
        try:
            stream.close()
        except CaptureError as error:  # a camera that hangs must not cost the views that are kept
            typer.echo(f"note: {error}", err=True)


def _solve(
    source: Annotated[Path, typer.Argument(help="Folder of views with vi/ and ir/.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The calibration file (.yaml).")],
    board: BoardOption = "acircles:4x11:28mm",
    report: Annotated[Path | None, typer.Option(help="HTML report; default: beside the calibration file.")] = None,
    distance_m: Annotated[
        float, typer.Option(min=0, help="Working distance Z0, m; 0: chosen for near to horizon.")
    ] = 0.0,
    visible_camera: Annotated[
        str, typer.Option(help="Identity of the visible camera. [default: as noted by a live capture]")
    ] = "",
    thermal_camera: Annotated[str, typer.Option(help="Identity of the thermal camera.")] = "",
    roll_deg: Annotated[
        float, typer.Option(help="How the thermal camera is turned about its line of sight, degrees.")
    ] = 0.0,
    accept_colour: AcceptColour = False,
    overwrite: Overwrite = False,
) -> int:
    """Solve the rig from board views, write the file and the report. Exit code 1 when a check of the report fails."""
    import numpy as np

    from app.commands.calibrate.sources import open_pairs, read_devices
    from calibration.board import parse_board
    from calibration.report import write_report
    from calibration.rig import save_calibration
    from calibration.shared_field import BUDGET_PX
    from calibration.solve import solve_views
    from calibration.time_offset import MOVEMENT_FILE, BoardMovement, timed
    from calibration.views import detect_views

    claim(output, overwrite)
    parsed = parse_board(board)
    stream = open_pairs(source, None, 1, accept_colour)
    views = detect_views(
        ((p.name, p.visible, p.thermal) for p in stream.pairs), parsed, roll_deg=roll_deg, progress=say
    )
    noted = read_devices(source)
    identities = (visible_camera or noted[0], thermal_camera or noted[1])
    solution = solve_views(views, parsed, working_distance_m=distance_m, identities=identities)
    page = report or output.with_suffix(".html")
    rig, offset = timed(solution.rig, solution.board, BoardMovement.load(source / MOVEMENT_FILE))
    digest = write_report(solution, page, offset)
    save_calibration(replace(rig, report_sha256=digest), output)
    for name, why in solution.rejected.items():
        say(f"rejected {name}: {why}")
    for told in (solution.bend, solution.contradiction):
        if told:
            say(told)
    for gate in solution.gates:
        say(f"{'passed' if gate.passed else 'FAILED'}  {gate.name}: {gate.got} (wanted {gate.wanted})")
        if not gate.passed:
            say(f"        {gate.advice}")
    say(
        f"known to 1 sigma: rotation {solution.bundle.rotation_sigma_deg:.3f} degrees, baseline "
        f"{solution.rig.baseline_m * 1e3:.1f} +- {solution.bundle.baseline_sigma_m * 1e3:.1f} mm; points to "
        f"{solution.bundle.noise_px[0]:.2f} visible px, {solution.bundle.noise_px[1]:.2f} thermal px"
    )
    say(solution.reached_aim.words())
    if offset is not None:
        say(offset.words())
    far = solution.range_8px.far_m
    say(
        f"exact at {solution.range_8px.exact_m:.2f} m; parallax inside {BUDGET_PX:g} visible px from "
        f"{solution.range_8px.near_m:.2f} m "
        f"to {'the horizon' if np.isinf(far) else f'{far:.1f} m'}"
    )
    tell(
        output=str(output), report=str(page), good=solution.good, rejected=dict(solution.rejected),
        gates=[{"name": gate.name, "passed": gate.passed, "got": gate.got, "wanted": gate.wanted,
                "advice": gate.advice} for gate in solution.gates],
    )  # fmt: skip
    say(f"{output} ({'good' if solution.good else 'NOT good'}), report {page}")
    return 0 if solution.good else 1


def _check(
    calibration: Annotated[Path, typer.Argument(help="The calibration file.")],
    source: Source,
    thermal: ThermalVideo = None,
    board: Annotated[
        str, typer.Option("--board", "-b", help="The board in the pictures; none: check on the scene itself.")
    ] = "",
    frames: Annotated[int, typer.Option(min=1, help="Pictures to use of a video.")] = 30,
    every: Annotated[int, typer.Option(min=1, help="Use every n-th picture of a video.")] = 5,
    accept_colour: AcceptColour = False,
    against: Annotated[
        Literal["mrcal"] | None,
        typer.Option("--with", help="Also solve these views by another program, where installed, and compare."),
    ] = None,
) -> int:
    """Measure how well a calibration fits pictures: on a board, or on any scene. Exit code 1 above the budget."""
    import numpy as np

    from app.commands.calibrate.sources import open_pairs
    from calibration.rig import RigCalibration, load_calibration
    from calibration.shared_field import distance_range

    if against is not None:
        from calibration.cross_check import load_mrcal

        if not board:
            raise UsageError("--with mrcal solves board views anew; give the board too: --board")
        load_mrcal()  # said before the boards are searched
    rig = load_calibration(calibration)
    stream = open_pairs(source, thermal, every, accept_colour)
    pairs = itertools.islice(stream.pairs, frames)
    if board:
        if not isinstance(rig, RigCalibration):
            raise BadInputError("a check with a board needs a board calibration; this file holds one homography")
        return _check_board(rig, board, pairs, against is not None)
    field = _scene_field(rig, pairs).told
    if isinstance(rig, RigCalibration):
        spans = distance_range(rig)
        say(f"made for {spans.near_m:.2f} m to {spans.far_m:.1f} m")
    _say_field("residual", field)
    if np.isnan(field.magnitude_px):
        say("The scene has too little structure that both cameras see; nothing can be said.")
        return 1
    known = field.confidence > _SURE
    if not known.any():
        say("No single place is sure by itself: the worst place cannot be told, nothing is promised.")
        return 1
    return _judge(np.linalg.norm(field.d_px[known], axis=-1), field.centres_px[known], field.size)


def _judge(off_px: np.ndarray, at_px: np.ndarray, size: tuple[int, int]) -> int:
    """Say the worst place, draw a map of the worst in each cell, and promise the budget only where all is inside.

    Args:
        off_px: (N,) visible pixels, at at_px (N, 2) of the visible picture. size: its (height, width).
    """
    import numpy as np

    from calibration.shared_field import BUDGET_PX

    worst = int(np.argmax(off_px))
    tell(worst_px=float(off_px[worst]), inside=float(off_px[worst]) <= BUDGET_PX)
    say(
        f"worst place: {off_px[worst]:.1f} visible px off, at x {at_px[worst, 0]:.0f}, y {at_px[worst, 1]:.0f} of the "
        "visible picture; the largest in each part of it (. not known):"
    )
    cells = np.full((6, 8), np.nan)
    row = np.clip(at_px[:, 1] * 6 / size[0], 0, 5).astype(int)
    column = np.clip(at_px[:, 0] * 8 / size[1], 0, 7).astype(int)
    np.fmax.at(cells, (row, column), off_px)
    for line in cells:
        say(" " + "".join("     ." if np.isnan(value) else f"{value:6.1f}" for value in line))
    inside = float(off_px[worst]) <= BUDGET_PX
    say(
        f"{'inside' if inside else 'OUTSIDE'} the {BUDGET_PX:g} visible px that the network absorbs"
        + ("" if inside else f" in {np.mean(off_px > BUDGET_PX):.0%} of the known places")
    )
    return 0 if inside else 1


def _refine(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="The refined calibration file; or -.")],
    thermal: ThermalVideo = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Start from this file; none: search scale, turn and shift over the whole range.")
    ] = None,
    model: Annotated[
        Literal["shift", "affine", "homography", "lens"] | None,
        typer.Option(help="What may change. [default: affine; lens where thermal lay far off]"),
    ] = None,
    also: Annotated[
        list[Path] | None, typer.Option(help="Another recording or folder of the same rig; may be repeated.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Pictures to sum over.")] = 40,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Use every n-th picture from the start. [default: spread over all that was filmed]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=6, help="Repeat on the corrected pictures.")] = 2,
    search_px: Annotated[float, typer.Option(min=2, max=64, help="Largest shift looked for, visible px.")] = 24.0,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write it though it does not hold all over, if kept-back pictures gain.")
    ] = False,
    overwrite: Overwrite = False,
) -> int:
    """Refine an alignment from ordinary scenes, without a board: for rigs in the field.

    A correction that does not hold on pictures kept back is not written: exit code 1. What an affine map takes from
    footage of many places is the rig's mean displacement at each height of the picture: the ground comes nearer.
    """
    import numpy as np

    from calibration.rig import load_calibration, save_calibration
    from calibration.targetless import align_from_nothing, refine_alignment

    claim(output, overwrite)
    pairs = _pictures([source, *(also or [])], thermal, frames, every)
    if calibration is None:
        found = align_from_nothing(
            pairs, model or "lens", near=model or "affine", rounds=rounds, search_px=search_px, progress=_say_field
        )
    else:
        rig = load_calibration(calibration)
        found = refine_alignment(rig, pairs, model or "affine", rounds=rounds, search_px=search_px, progress=_say_field)
    tell(before_px=float(found.before.magnitude_px), after_px=float(found.after.magnitude_px))
    _say_refinement(found, model)
    if found.problem and not (accept and found.gained):
        say(f"The correction does not hold: {found.problem}. Nothing is written.")
        say(
            f"{found.before.magnitude_px:.1f} visible px become {found.after.magnitude_px:.1f} px where it can be "
            "told: --accept takes it all the same; pictures of other places would check it."
            if found.gained
            else "The alignment may be right already, or the scene does not tell. Take pictures of other places."
        )
        return 1
    if found.problem:
        say(
            f"taken as you say, though {found.problem}; {found.after.magnitude_px:.1f} visible px are left where "
            "it tells"
        )
    save_calibration(replace(found.calibration, verdict="refined without a board"), output)
    tell(output=str(output))
    matrix = np.array2string(found.calibration.correction_visible, precision=4, suppress_small=True)
    say(f"{output}: correction {matrix}" if found.start is None and found.model != "none" else str(output))
    return 0


def _pictures(
    sources: list[Path], thermal: Path | None, frames: int, every: int | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """At most `frames` pairs: from the start of each source, every n-th; `every` None: spread evenly over all of them.

    thermal: the video beside the first source, if that is one.
    """
    from app.commands.calibrate.sources import open_pairs

    most = -(-frames // len(sources))
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for number, source in enumerate(sources):
        stream = open_pairs(source, thermal if number == 0 else None, every or 1)
        some: list[tuple[np.ndarray, np.ndarray]] = []
        step = 1
        try:
            for index, pair in enumerate(itertools.islice(stream.pairs, _MOST_LOOKED_AT if every is None else most)):
                if index % step == 0:
                    some.append((pair.visible, pair.thermal))
                if len(some) == 2 * most:  # no more are held at once, however long it is
                    some, step = some[::2], 2 * step
        finally:
            stream.close()
        if not some:
            raise BadInputError(f"{source} holds no pair of pictures")
        pairs += some if len(some) <= most else [some[index * len(some) // most] for index in range(most)]
    return pairs


def _say_refinement(found: Refinement, model: Model | None) -> None:
    import numpy as np

    from calibration.rig import PlaneCalibration, plain_scaling

    if found.start is not None:
        plainly_px = found.start.off_px(plain_scaling(*found.start.sizes))
        say(f"thermal plainly scaled lies {plainly_px:.0f} visible px off; found: {found.start.words()}")
    _say_field("after", found.after)
    wanted = model or ("affine" if found.start is None else "lens")
    if found.model == "similarity":
        say("more than scale, turn and shift cannot be told from these pictures: give more, of other places")
    elif found.calibration.region is not None:
        rest = "what was there before" if found.model == "none" else f"a correction of kind {found.model}"
        say(
            f"a correction of kind {found.calibration.region.kind} holds in {found.region}, and is taken there; it "
            f"fades into {rest} outside"
        )
    elif found.model != wanted:
        say(f"a correction of kind {wanted} does not hold; what holds is of kind {found.model}")
    if isinstance(found.calibration, PlaneCalibration) and found.calibration.thermal_lens:
        say(f"the thermal lens bends the picture against the visible one: {found.calibration.thermal_lens:+.2f}")
    if found.model != "similarity" and np.isfinite(found.spread_px):
        say(
            f"parts of {'that region' if found.model == 'none' else 'the picture'} agree about it to "
            f"{found.spread_px:.1f} visible px (1 sigma, 95 % of it); known from {found.where}"
        )
    worse, first, second = found.worsened
    if worse >= _FEW:
        say(
            f"{worse:.0%} of the known places, at another distance most likely, come to lie further off: "
            f"{second:.1f} visible px in place of {first:.1f} (median)"
        )
    if found.held_out_px is not None:
        say("pictures kept back: {:.1f} visible px before, {:.1f} px after".format(*found.held_out_px))


def _check_board(rig: RigCalibration, board: str, pairs: Iterator[Any], by_mrcal: bool) -> int:
    import numpy as np

    from calibration.board import parse_board
    from calibration.extrinsics import PairView, transfer_errors_px
    from calibration.rig import check_cameras
    from calibration.views import detect_views

    parsed = parse_board(board)
    views = detect_views(((p.name, p.visible, p.thermal) for p in pairs), parsed, progress=say)
    if rig.bent_board is not None:
        parsed = rig.bent_board.known_of(parsed)
    if parsed.depth_m:
        say(f"the board is bent by {parsed.depth_m * 1e3:.1f} mm, as `solve` found it; this is taken into account")
    points = parsed.object_points()
    errors, places, kept = [], [], []
    for view in views:
        if view.found_visible is None or view.found_thermal is None:
            continue
        check_cameras(rig, visible_size=view.found_visible.size, thermal_size=view.found_thermal.size)
        pair = PairView.common(view.name, view.found_visible, view.found_thermal)
        if len(pair.ids) >= 6:
            errors.append(transfer_errors_px(rig, pair, points[pair.ids]))
            places.append(pair.visible_px)
            kept.append(pair)
            say(f"{view.name}: median {np.median(errors[-1]):.2f} visible px, largest {errors[-1].max():.2f} px")
    if not errors:
        raise BadInputError("the board was found in no pair of pictures; is it the right board?")
    every = np.concatenate(errors)
    say(
        f"{len(errors)} of {len(views)} views, visible px: median {np.median(every):.2f}, "
        f"95 % {np.percentile(every, 95):.2f}"
    )
    _judge(every, np.concatenate(places), (rig.visible.height, rig.visible.width))
    if by_mrcal:
        _say_mrcal(rig, parsed, kept)
    return 0 if np.percentile(every, 95) <= 2.0 * rig.visible.fx_px / rig.thermal.fx_px else 1


def _say_mrcal(rig: RigCalibration, board: Board, pairs: list[PairView]) -> None:
    import numpy as np

    from calibration.coarse_search import thermal_grid_points
    from calibration.cross_check import solve_by_mrcal
    from calibration.extrinsics import rotation_angle_deg

    other, rms_px = solve_by_mrcal(pairs, board, rig)
    at, distance_m = thermal_grid_points((rig.thermal.height, rig.thermal.width)), rig.working_distance_m
    apart = rig.visible_from_thermal(at, distance_m) - other.visible_from_thermal(at, distance_m)
    apart_px = np.linalg.norm(apart, axis=1)
    turned_deg = rotation_angle_deg(rig.R_visible_thermal, other.R_visible_thermal)
    say(
        f"mrcal, of the same {len(pairs)} views (rms {rms_px:.2f} px of either camera): turned by "
        f"{turned_deg:.3f} degrees against this calibration, baseline {other.baseline_m * 1e3:.1f} in place of "
        f"{rig.baseline_m * 1e3:.1f} mm; places at "
        f"{distance_m:.1f} m lie {np.median(apart_px):.2f} visible px apart (median), {apart_px.max():.2f} at most"
    )


def _scene_field(rig: RigCalibration | PlaneCalibration, pairs: Iterator[Any]) -> ResidualField:
    from calibration.targetless import measure_residual

    chosen = [(p.visible, p.thermal) for p in pairs]
    if not chosen:
        raise BadInputError("the source holds no pair of pictures")
    return measure_residual(rig, chosen, 24.0)


def _say_field(label: str, field: ResidualField) -> None:
    told = field.told
    sure = float((told.confidence > _SURE).mean())
    x, y = told.median_px
    say(
        f"{label}: {told.magnitude_px:.1f} visible px (median; x {x:+.1f}, y {y:+.1f}; 95 % {told.p95_px:.1f}) over "
        f"{field.frames} pictures, {sure:.0%} of the picture sure"
    )
