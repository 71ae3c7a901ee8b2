"""`lumitherm benchmark`: what each engine costs on this machine."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common.output import result_console, say, tell
from fusion_core.errors import RunError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fusion_core.benchmark.candidates import Case
    from fusion_core.benchmark.measure import Failure, Result

__all__ = ["parse_size", "register", "write_plot"]

_USUAL = ("torch", "openvino-f32", "openvino", "openvino-video", "aligned-pyramid", "pyramid", "ncc-pyramid")
_USUAL_GPU = ("torch-cuda", "tensorrt")
_SIZES = ("640x480", "1280x720", "1920x1080")
_COST_SIZES = ("320x240", "640x480", "960x720", "1280x720", "1920x1080")
_TILED_SIZE = "3840x2160"


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("benchmark")(_benchmark)


def _benchmark(
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help="tiny, small or base; may be repeated. One without shipped weights runs with random ones.  "
            "[default: tiny, small]"
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A weights file in place of shipped weights.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="What to measure, may be repeated; --list shows all.  [default: what the application uses]"),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="WIDTHxHEIGHT, may be repeated.  [default: 640x480, 1280x720, 1920x1080]"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every engine that this machine can run, and every preset. Up to an hour.")
    ] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Cost against size: 320x240 to 1920x1080, and 3840x2160 in tiles.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the engine.")] = None,
    duration_s: Annotated[float, typer.Option(min=0.1, max=600, metavar="S", help="Time for each measurement.")] = 3.0,
    report: Annotated[Path | None, typer.Option(help="Write every figure and the environment (.json).")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Keep what the --report file holds, and measure only what is missing there.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write time and memory against size (.png).")] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Stored ratios (--store writes them); exit code 1 if one has got worse by a third."),
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Write this run's ratios for --check.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List what can be measured, and end.")] = False,
) -> None:
    """Measure build time, latency, processor time, memory and the share of the arithmetic peak.

    Each case runs in a separate process. Eager float32 PyTorch is always measured beside: ratios refer to it, in the
    same run. `share` is the part of the multiply-accumulates that a large convolution reaches here.
    """
    from fusion_core.benchmark.candidates import BENCHMARK_ENGINES

    if show:
        say("\n".join(BENCHMARK_ENGINES))
        return
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {plot} must end in .png, .svg or .pdf")
    if add and report is None:
        raise UsageError("--add goes with --report FILE, whose results it keeps")
    if everything and (preset or engine):
        raise UsageError("--all takes every engine and preset; leave out --engine and --preset")
    stored = _read_ratios(check) if check is not None else {}
    cases = _cases(preset, weights, engine, size, everything, cost, threads, duration_s)
    _measure_all(cases, stored, _Outputs(report, plot, store), add)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Files to write; None = not asked for."""

    json: Path | None
    plot: Path | None
    store: Path | None


def _measure_all(cases: list[Case], stored: dict[str, float], outputs: _Outputs, add: bool) -> None:
    """Measure, print and write. Raises RunError when nothing can be measured, or a ratio is worse than stored."""
    from fusion_core.benchmark.candidates import environment
    from fusion_core.benchmark.measure import as_json, check_ratios, with_ratios

    console = result_console()
    facts = environment()
    kept = add and outputs.json is not None and outputs.json.exists()
    results, runs = _read_json(outputs.json) if kept and outputs.json is not None else ([], [])
    done = {result.case.key for result in results}
    order = {case.key: position for position, case in enumerate(cases)}

    def joined(measured: list[Result]) -> list[Result]:
        return with_ratios(sorted([*results, *measured], key=lambda r: order.get(r.case.key, -1)))

    def keep(measured: list[Result], failures: list[Failure]) -> None:
        if outputs.json is not None:
            _write_json(outputs.json, [*runs, facts], joined(measured), failures)

    measured, failures = _run_cases([case for case in cases if case.key not in done], console, keep)
    results = joined(measured)
    _print(console, facts, results, failures)
    tell(results=[as_json(result) for result in results])
    if outputs.json is not None and not measured:
        _write_json(outputs.json, [*runs, facts], results, failures)
    if outputs.plot is not None:
        write_plot(outputs.plot, results, facts)
    if outputs.store is not None:
        _write_ratios(outputs.store, results, facts)
    for path in (outputs.json, outputs.plot, outputs.store):
        if path is not None:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if not results:
        raise RunError(f"nothing could be measured: {'; '.join(f'{f.case.key}: {f.reason}' for f in failures)}")
    lines = check_ratios(results, stored)
    if lines:
        raise RunError("slower than stored: " + "; ".join(lines))


def _run_cases(
    cases: list[Case], console: Console, keep: Callable[[list[Result], list[Failure]], None]
) -> tuple[list[Result], list[Failure]]:
    """Measure one after the other. Tell each outcome at once, and hand all so far to `keep`: a run can take an hour."""
    from rich.progress import Progress

    from fusion_core.benchmark.measure import Result, run_case

    results: list[Result] = []
    failures: list[Failure] = []
    console.print(f"{len(cases)} cases, each in a process of its own, with its engine built anew", highlight=False)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(cases))
        for number, case in enumerate(cases, 1):
            progress.update(task, description=case.key)
            outcome = run_case(case)
            told = f"{number}/{len(cases)} {case.key}: "
            if isinstance(outcome, Result):
                results.append(outcome)
                told += f"{outcome.median_ms:.1f} ms, CPU {outcome.cpu_ms:.1f} ms, built in {outcome.build_s:.1f} s"
            else:
                failures.append(outcome)
                told += "not measured"
            progress.console.print(told, highlight=False, soft_wrap=True)
            keep(results, failures)
            progress.advance(task)
    return results, failures


def parse_size(text: str) -> tuple[int, int]:
    """ "640x480" -> (height, width). Raises UsageError."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(height), int(width)
    except ValueError as error:
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT, e.g. 640x480") from error
    if min(size) < 32 or max(size) > 16384:
        raise UsageError(f"size {text} has a side outside 32 to 16384 px")
    return size


def _cases(
    presets: list[str] | None,
    weights: Path | None,
    engines: list[str] | None,
    sizes: list[str] | None,
    everything: bool,
    cost: bool,
    threads: int | None,
    seconds: float,
) -> list[Case]:
    from fusion_core.benchmark.candidates import CLASSICAL, ON_VIDEO, REFERENCE, Case
    from fusion_core.model_store import resolve_weights
    from fusion_core.rfvif import PRESETS, preset_config

    if weights is not None and presets:
        raise UsageError("give --preset or --weights, not both")
    usual = list(PRESETS)[::-1] if everything else ["tiny", "small"]
    names = [weights.stem] if weights is not None else presets or usual
    if weights is not None:
        resolve_weights(weights)  # before the long work
    else:
        for name in names:
            preset_config(name)
    chosen = _engines(engines, everything)
    networks = [name for name in chosen if name not in CLASSICAL]
    classical = [name for name in chosen if name in CLASSICAL]
    if REFERENCE not in networks:
        networks.insert(0, REFERENCE)
    taken = list(dict.fromkeys([*(sizes or []), *(_COST_SIZES if cost else ())])) or list(_SIZES)
    path = str(weights) if weights is not None else None
    cases = []
    for name in names:
        for height, width in map(parse_size, taken):
            cases += [Case(engine, name, height, width, path, threads, seconds) for engine in networks]
        if cost:
            height, width = parse_size(_TILED_SIZE)
            tiled = [engine for engine in networks if engine not in (REFERENCE, *ON_VIDEO)]
            cases += [Case(engine, name, height, width, path, threads, seconds, tiled=True) for engine in tiled]
    for height, width in map(parse_size, taken):
        cases += [Case(engine, "-", height, width, None, threads, seconds) for engine in classical]
    return cases


def _engines(asked: list[str] | None, everything: bool) -> list[str]:
    """Names without repetition. Raises UsageError for unknown ones."""
    from fusion_core.benchmark.candidates import BENCHMARK_ENGINES, GPU_ENGINES

    if asked is not None:
        unknown = [name for name in asked if name not in BENCHMARK_ENGINES]
        if unknown:
            raise UsageError(
                f"there is no engine {', '.join(unknown)} to measure; there are {', '.join(BENCHMARK_ENGINES)}"
            )
        return list(dict.fromkeys(asked))
    import torch

    gpu = torch.cuda.is_available()
    if everything:
        return [name for name in BENCHMARK_ENGINES if gpu or name not in GPU_ENGINES]
    return [*_USUAL, *(_USUAL_GPU if gpu else ())]


def _read_ratios(path: Path) -> dict[str, float]:
    """Read the ratios, if they were stored on a machine of this capability. Raises UsageError."""
    from fusion_core.benchmark.candidates import capability
    from fusion_core.files import read_json

    try:
        document = read_json(path)
        ratios = {str(key): float(value) for key, value in document["ratios"].items()}
        of_machine = str(document["capability"])
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UsageError(f"--check {path} does not hold ratios as --store writes them: {error!r}") from error
    if of_machine != capability():
        raise UsageError(
            f"the ratios in {path} are of a machine with {of_machine}, this one has {capability()}; "
            "store ratios of this kind of machine with --store"
        )
    return ratios


def _write_ratios(path: Path, results: list[Result], facts: dict[str, Any]) -> None:
    from fusion_core.benchmark.candidates import REFERENCE
    from fusion_core.benchmark.measure import stored_ratio

    ratios = {r.case.key: round(stored_ratio(r), 2) for r in results if stored_ratio(r) and r.case.engine != REFERENCE}
    document = {"capability": facts["capability"], "processor": facts["processor"], "ratios": ratios}
    _write(path, json_module.dumps(document, indent=1) + "\n")


def _read_json(path: Path) -> tuple[list[Result], list[dict[str, Any]]]:
    """Results and environments of earlier runs. Raises UsageError."""
    from fusion_core.benchmark.measure import from_json
    from fusion_core.files import read_json

    try:
        document = read_json(path)
        return [from_json(entry) for entry in document["results"]], list(document["runs"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"--add: {path} was not written by this version's benchmark ({error!r})") from error


def _print(console: Any, facts: dict[str, Any], results: list[Result], failures: list[Failure]) -> None:
    from rich.table import Table

    from app.commands.network.evaluation_report import print_table

    gpu = f", {facts['gpu']}" if facts.get("gpu") else ""
    console.print(
        f"{facts['processor']}, {facts['usable_threads']} threads{gpu}; load {facts['load_average'][0]}, "
        f"{facts['cpu_busy_percent']:.0f} % busy before the run",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("case", no_wrap=True)
    for name in (
        "build s",
        "start s",
        "median ms",
        "p95 ms",
        "CPU ms",
        "fps",
        "path ms",
        "MiB",
        "G MAC",
        "share",
        "x",
        "x CPU",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for r in results:
        table.add_row(
            r.case.key,
            f"{r.build_s:.1f}",
            f"{r.build_cpu_s:.1f}",
            f"{r.start_s:.1f}" if r.start_s else "-",
            f"{r.median_ms:.1f}",
            f"{r.p95_ms:.1f}",
            f"{r.cpu_ms:.1f}",
            f"{r.fps:.1f}",
            f"{r.path_ms:.1f}",
            f"{r.memory_mib:.0f}",
            f"{r.giga_macs:.2f}" if r.giga_macs else "-",
            f"{100 * r.peak_share:.0f} %" if r.peak_share else "-",
            f"{r.ratio:.2f}" if r.ratio else "-",
            f"{r.cpu_ratio:.2f}" if r.cpu_ratio else "-",
        )
    print_table(console, table)
    for failure in failures:
        console.print(f"not measured: {failure.case.key}: {failure.reason}", highlight=False, soft_wrap=True)


def _write_json(path: Path, runs: list[dict[str, Any]], results: list[Result], failures: list[Failure]) -> None:
    from fusion_core.benchmark.measure import as_json

    document = {
        "runs": runs,
        "results": [as_json(result) for result in results],
        "not_measured": {failure.case.key: failure.reason for failure in failures},
    }
    _write(path, json_module.dumps(document, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}") from error


def write_plot(path: Path, results: list[Result], facts: dict[str, Any]) -> None:
    """Time, processor time and memory against the pixels, one line for each engine and preset. Raises RunError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained")
    FigureCanvasAgg(figure)
    times, work, memory = figure.subplots(1, 3)
    lines: dict[str, list[Result]] = {}
    for result in results:
        tiled = ", in tiles" if result.case.tiled else ""
        lines.setdefault(f"{result.case.engine} {result.case.preset.strip('-')}{tiled}", []).append(result)
    for name, line in lines.items():
        line = sorted(line, key=lambda r: r.case.height * r.case.width)
        megapixels = [r.case.height * r.case.width / 1e6 for r in line]
        times.plot(megapixels, [r.median_ms for r in line], marker="o", label=name)
        work.plot(megapixels, [r.cpu_ms for r in line], marker="o", label=name)
        memory.plot(megapixels, [r.memory_mib for r in line], marker="o", label=name)
    times.set(xlabel="megapixels", ylabel="median, ms", xscale="log", yscale="log", title="time")
    work.set(xlabel="megapixels", ylabel="ms of all cores", xscale="log", yscale="log", title="processor time")
    memory.set(xlabel="megapixels", ylabel="MiB", title="memory above the libraries")
    for axes in (times, work, memory):
        axes.grid(True, alpha=0.3)
    times.legend(fontsize="small")
    figure.suptitle(f"{facts['processor']}, {facts['usable_threads']} threads, {facts['gpu'] or 'no GPU'}")
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}") from error
