"""`lumitherm evaluate`: measure fusion at known displacements, or pictures that somebody else fused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.output import progress_console, result_console, tell
from fusion_core.errors import BadInputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress, TaskID

    from app.commands.network.evaluation_report import Study
    from fusion_core.engines.engine import FusionEngine
    from fusion_core.measures.displacement import Displacement
    from fusion_core.measures.estimate import RigErrors
    from fusion_core.measures.evaluation import EvaluationPair, EvaluationRow

    Method = FusionEngine | Callable[[np.ndarray, np.ndarray], np.ndarray]

__all__ = ["register"]

_VIFB_SUBSET = "vifb-aligned"
_HELD_OUT = "held-out"


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("evaluate")(_evaluate)


def _evaluate(
    pairs: Annotated[Path | None, typer.Option(help="Folder of aligned pairs: vi/NAME.* and ir/NAME.*.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="Preset (tiny, small, base) or checkpoint file; may be repeated.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Classical engine: aligned-pyramid, average, pyramid, ncc-pyramid, edges; may be repeated."),
    ] = None,
    shifts: Annotated[str, typer.Option(help="Uniform displacements along both axes, px.")] = "0,3,5,8,11",
    half_pixel: Annotated[
        bool, typer.Option("--half-pixel", help="Each uniform displacement again, half a pixel larger.")
    ] = False,
    fields: Annotated[str, typer.Option(help="Peaks of smooth fields that vary over the picture, px: 3,5,8.")] = "",
    subset: Annotated[
        str | None,
        typer.Option(
            help=f"Names of pairs to average apart, a,b,c; {_VIFB_SUBSET} for the ten good ones of VIFB. With "
            f"--estimate: the only pairs taken; {_HELD_OUT} for those that training holds out."
        ),
    ] = None,
    registered: Annotated[
        bool,
        typer.Option("--registered", help="Register each pair first by correlation; leave out what has no peak."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the fields.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many pairs.")] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Measure the displacement estimate of --weights: on --pairs and on rigs."),
    ] = False,
    fused: Annotated[Path | None, typer.Option(help="Folder of fused pictures to measure as they are.")] = None,
    visible: Annotated[Path | None, typer.Option(help="With --fused: their visible pictures, same names.")] = None,
    thermal: Annotated[Path | None, typer.Option(help="With --fused: their thermal pictures, same names.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every single measurement.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the means and the settings (.json).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write curves of each value against displacement (.png).")] = None,
) -> None:
    """Measure how well pairs are fused: eight metrics, and which edges are drawn in the right place.

    With --pairs, the thermal pictures are displaced by known amounts, fused, and the result is compared, inside the
    central 320x256 window, with both sources where they belong. With --fused, --visible and --thermal, finished
    pictures are measured as they are, whole and channel by channel.

    gVI, gIR: share of visible and of thermal edges drawn in the right place. gGhost: of thermal edges in the wrong
    place; ghost: that as a part of all thermal edges drawn.

    With --estimate: by how much the displacement estimate misses what the thermal picture was moved by, its distance
    from clear peaks of a block correlation and from one affine map, and, on simulated rigs, from the truth.
    """
    if estimate:
        if any((fused, visible, thermal, engine, report)) or not weights:
            raise UsageError(
                "--estimate takes --weights, --pairs, --shifts, --fields, --subset, --seed, --limit, --csv and --plot"
            )
        _check_plot(plot)
        displacements = _displacements(shifts, half_pixel, fields)
        loaded = _pairs_of_estimate(pairs, subset, limit)
        _study_estimates(weights, loaded, displacements, seed, _Outputs(csv, None, plot))
        return
    if fused is not None or visible is not None or thermal is not None:
        if pairs is not None or weights or engine:
            raise UsageError("give --pairs with --weights or --engine, or --fused with its sources, not both")
        if fused is None or visible is None or thermal is None:
            raise UsageError("--fused, --visible and --thermal are needed together")
        if plot is not None or report is not None:
            raise UsageError("--plot and --report need --pairs: finished pictures have no displacements; use --csv")
        _measure_finished(fused, visible, thermal, limit, csv)
        return
    outputs = _Outputs(csv, report, plot)
    folder = _checked(pairs, bool(weights or engine), plot)
    displacements = _displacements(shifts, half_pixel, fields)
    stems = _stems(subset)
    methods = [_classical(name) for name in engine or []] + [_network(name) for name in weights or []]
    names = [name for name, _ in methods]
    if len(set(names)) < len(names):
        raise UsageError(f"{', '.join(names)}: give each engine and each weights once")

    from fusion_core.measures.evaluation import load_pairs

    # Kept in memory, a few megabytes a pair: read once for all methods, and bad files are found before the work.
    loaded = _told(load_pairs(folder, None, limit))
    if registered:
        loaded = _registered(loaded)
    if stems is not None and (missing := sorted(set(stems) - {pair.stem for pair in loaded})):
        raise BadInputError(f"--subset: {folder} has no pair called {', '.join(missing)} among those taken")
    _report(_study(loaded, methods, displacements, stems, subset, seed), outputs, {
        "pairs": [pair.stem for pair in loaded], "subset": stems, "subset_name": subset, "seed": seed,
        "registered": registered,
    })  # fmt: skip


def _registered(pairs: list[EvaluationPair]) -> list[EvaluationPair]:
    """The pairs with thermal sampled where it belongs: published pairs are 1 to 2 px off in places (docs/evidence).

    Raises BadInputError when none of them has a clear peak.
    """
    from dataclasses import replace

    import cv2
    import numpy as np

    from fusion_core.colour import luminance
    from fusion_core.training.config import RegistrationConfig
    from fusion_core.training.registration import register_pair

    done = []
    for pair in pairs:
        found = register_pair(luminance(pair.visible), pair.thermal, RegistrationConfig())
        if found.reliable:
            x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in pair.thermal.shape[::-1]))
            maps = found.source_of(x, y)
            thermal = cv2.remap(pair.thermal, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
            done.append(replace(pair, thermal=np.asarray(thermal)))
    if not done:
        raise BadInputError("no pair has a clear correlation peak; evaluate them as they are, without --registered")
    return done


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Files to write; None = not asked for."""

    csv: Path | None
    report: Path | None
    plot: Path | None


def _checked(pairs: Path | None, has_methods: bool, plot: Path | None) -> Path:
    """The folder of pairs. Raises UsageError, BadInputError."""
    if pairs is None:
        raise UsageError("give --pairs DIR, or --fused DIR --visible DIR --thermal DIR")
    if not has_methods:
        raise UsageError("give what to evaluate: --weights NAME, or --engine average|pyramid|ncc-pyramid|edges")
    if not pairs.is_dir():
        raise BadInputError(f"--pairs {pairs} is not a folder; it must hold vi/NAME.* and ir/NAME.*")
    _check_plot(plot)
    return pairs


def _check_plot(plot: Path | None) -> None:
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {plot} must end in .png, .svg or .pdf")


def _displacements(shifts: str, half_pixel: bool, fields: str) -> list[Displacement]:
    """What thermal is displaced by, without repetition. Raises UsageError."""
    from fusion_core.measures.displacement import field, uniform

    sizes = _numbers("--shifts", shifts)
    found = [uniform(size) for size in sizes]
    found += [uniform(size + 0.5) for size in sizes] if half_pixel else []
    found += [field(peak) for peak in _numbers("--fields", fields)]
    if not found:
        raise UsageError("give displacements: --shifts 0,3,5 or --fields 3,5")
    return list(dict.fromkeys(found))


def _stems(subset: str | None) -> tuple[str, ...] | None:
    """Names of the pairs to average apart; None = no subset."""
    from fusion_core.measures.evaluation import WELL_ALIGNED_VIFB

    if subset is None:
        return None
    wanted = WELL_ALIGNED_VIFB if subset == _VIFB_SUBSET else tuple(part.strip() for part in subset.split(","))
    return tuple(stem for stem in wanted if stem)


def _pairs_of_estimate(pairs: Path | None, subset: str | None, limit: int | None) -> list[EvaluationPair]:
    from fusion_core.measures.evaluation import load_pairs

    if pairs is None:
        return []
    stems = _stems(subset)
    if subset == _HELD_OUT:
        from fusion_core.training.dataset import held_out_stems

        stems = tuple(held_out_stems(pairs))
    return _told(load_pairs(pairs, stems, limit))


def _told(pairs: Iterable[EvaluationPair]) -> list[EvaluationPair]:
    """All of them; what was done to their pictures is said."""
    from fusion_core.picture_file import gathered_notes

    loaded = list(pairs)
    for note in gathered_notes(note for pair in loaded for note in pair.notes):
        typer.echo(f"note: {note}", err=True)
    return loaded


def _study_estimates(
    weights: list[str], pairs: list[EvaluationPair], displacements: list[Displacement], seed: int, outputs: _Outputs
) -> None:
    from app.commands.network import estimate_report as report
    from app.commands.network.evaluation_report import print_table
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.engines.torch_engine import torch_estimator
    from fusion_core.measures.estimate import RIG_FRAMES, RIGS, pair_errors, rig_errors, rig_moments
    from fusion_core.model_store import resolve_weights

    methods = {name: torch_estimator(load_checkpoint(resolve_weights(name)).network) for name in weights}
    on_pairs = {name: pair_errors(each, pairs, displacements, seed=seed) for name, each in methods.items() if pairs}
    on_rigs: dict[str, dict[str, RigErrors]] = {name: {} for name in methods}
    with _progress() as progress:
        for rig in progress.track(RIGS, description="simulated rigs"):
            moments = list(rig_moments(RIGS[rig], RIG_FRAMES))
            for name, method in methods.items():
                on_rigs[name][rig] = rig_errors(method, moments, standing=not RIGS[rig].pan_deg_per_s)
    studies = [report.EstimateStudy(name, on_pairs.get(name), on_rigs[name]) for name in methods]
    console = result_console()
    if pairs:
        print_table(console, report.pairs_table(studies))
    print_table(console, report.rigs_table(studies))
    for path, write in ((outputs.csv, report.write_estimate_csv), (outputs.plot, report.write_estimate_plot)):
        if path is not None:
            write(path, studies)
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _study(
    pairs: list[EvaluationPair],
    methods: list[tuple[str, Method]],
    displacements: list[Displacement],
    stems: tuple[str, ...] | None,
    subset: str | None,
    seed: int,
) -> list[Study]:
    """Fuse every pair at every displacement by every method, and measure."""
    from app.commands.network.evaluation_report import Study
    from fusion_core.measures.evaluation import evaluate_engine, summarize

    studies = []
    with _progress() as progress:
        for name, method in methods:
            task = progress.add_task(name, total=len(pairs) * len(displacements))
            rows = evaluate_engine(method, pairs, displacements, seed=seed, on_row=partial(_advance, progress, task))
            groups = {"all": summarize(rows)}
            if stems is not None:
                groups[_VIFB_SUBSET if subset == _VIFB_SUBSET else "subset"] = summarize(rows, stems)
            studies.append(Study(name, rows, groups))
    return studies


def _report(studies: list[Study], outputs: _Outputs, settings: dict[str, object]) -> None:
    """Print the means and write the files."""
    from app.commands.network.evaluation_report import print_table, study_table, write_csv, write_json, write_plot

    console = result_console()
    tell(
        settings=settings,
        means={study.method: {group: study.groups[group] for group in study.groups} for study in studies},
    )
    for group in studies[0].groups:
        print_table(console, study_table(studies, group))
    if outputs.csv is not None:
        write_csv(outputs.csv, studies)
    if outputs.report is not None:
        write_json(outputs.report, studies, settings)
    if outputs.plot is not None:
        write_plot(outputs.plot, studies, list(studies[0].groups)[-1])
    for path in (outputs.csv, outputs.report, outputs.plot):
        if path is not None:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _advance(progress: Progress, task: TaskID, row: EvaluationRow) -> None:
    progress.advance(task)


def _measure_finished(fused: Path, visible: Path, thermal: Path, limit: int | None, csv: Path | None) -> None:
    from app.commands.network.evaluation_report import measured_table, print_table, write_values_csv
    from fusion_core.measures.evaluation import measure, read_measured

    given = (("fused", fused), ("visible", visible), ("thermal", thermal))
    folders = [_pictures(name, folder) for name, folder in given]
    stems = sorted(folders[0])
    for name, folder, files in (("visible", visible, folders[1]), ("thermal", thermal, folders[2])):
        missing = [stem for stem in stems if stem not in files]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise BadInputError(f"--{name} {folder} has no picture called {', '.join(missing[:3])}{more}")
    values = {}
    with _progress() as progress:
        for stem in progress.track(stems[:limit], description="measuring"):
            pictures = [read_measured(files[stem], counts=files is folders[2]) for files in folders]
            try:
                values[stem] = measure(*pictures)
            except BadInputError as error:
                raise BadInputError(f"{stem}: {error}") from error
    console = result_console()
    print_table(console, measured_table(values))
    if csv is not None:
        write_values_csv(csv, values)
        console.print(f"wrote {csv}", highlight=False, soft_wrap=True)


def _pictures(name: str, folder: Path) -> dict[str, Path]:
    from fusion_core.pair_folder import PICTURE_SUFFIXES

    if not folder.is_dir():
        raise BadInputError(f"--{name} {folder} is not a folder of pictures")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        if path.stem in files:
            raise BadInputError(f"--{name} {folder} has both {files[path.stem].name} and {path.name}; remove one")
        files[path.stem] = path
    if not files:
        raise BadInputError(f"--{name} {folder} has no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return files


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = progress_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, must be numbers of pixels with commas between: 0,3,5") from error
    if any(not 0.0 <= number <= 64.0 for number in numbers):  # refuses NaN too
        raise UsageError(f"{option} is {text!r}, each must be 0 to 64 px")
    return numbers


def _classical(name: str) -> tuple[str, Method]:
    from fusion_core.engines.engine import ENGINE_NAMES, NETWORK_ENGINES, create_engine

    classical = [each for each in ENGINE_NAMES if each not in NETWORK_ENGINES]
    if name not in classical:
        raise UsageError(f"--engine is {name!r}, must be one of {', '.join(classical)}; networks go by --weights")
    return name, create_engine(name)


def _network(name: str) -> tuple[str, Method]:
    from fusion_core import load_fuser

    return Path(name).stem if Path(name).suffix else name, load_fuser(name, engine="torch")
