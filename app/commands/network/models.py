"""`lumitherm models`: which weights there are, which are in use, how two of them compare, and the card of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.commands.common.options import Cli, Overwrite
from app.commands.common.output import claim, result_console, say, tell
from fusion_core.errors import RunError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fusion_core.checkpoint import LoadedCheckpoint
    from fusion_core.engines.engine import FusionEngine
    from fusion_core.measures.evaluation import EvaluationPair
    from fusion_core.model_store import ModelStore, StoredModel

__all__ = ["register"]

_Store = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Folder of the models. [default: user data folder]")
]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="A name from `models list`.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = Cli(help="The models: list, add, use, compare, roll back, export.")
    group.command("list")(_list)
    group.command("show")(_show)
    group.command("add")(_add)
    group.command("use")(_use)
    group.command("rollback")(_rollback)
    group.command("remove")(_remove)
    group.command("compare")(_compare)
    group.command("card")(_card)
    group.command("export")(_export)
    cli.add_typer(group, name="models")


def _open(folder: Path | None) -> ModelStore:
    from fusion_core.model_store import ModelStore

    return ModelStore(folder)


def _list(store: _Store = None) -> None:
    """List shipped and added models; * marks the one in use."""
    from rich.table import Table

    opened = _open(store)
    table = Table("", "name", "origin", "size", "parameters", "trained from", "added", box=None, pad_edge=False)
    for model in opened.models():
        table.add_row(
            "*" if model.in_use else "",
            model.name,
            model.origin,
            f"{model.size_bytes / 1e6:.1f} MB",
            f"{model.parameters:,}" if model.parameters else "",
            str(model.facts.get("preset", "")),
            model.problem or model.added[:16].replace("T", " "),
        )
    tell(
        models=[
            {"name": model.name, "origin": model.origin, "in_use": model.in_use, "parameters": model.parameters}
            for model in opened.models()
        ]
    )
    console = result_console()
    if table.row_count:
        console.print(table)
    else:
        console.print("no models: none ship with this installation and none were added", highlight=False)
    console.print(f"models that were added are kept in {opened.folder}", highlight=False, soft_wrap=True)


def _show(name: _Name, store: _Store = None) -> None:
    """Show what is known of a model, after checking that it can be used."""
    model = _open(store).check(name)
    console = result_console()
    for key, value in _facts(model):
        tell(**{key.lower().replace("sha-", "sha").replace(" ", "_").replace("-", "_"): value})
        console.print(f"{key:16}{value}", highlight=False, soft_wrap=True)


def _facts(model: StoredModel) -> Iterator[tuple[str, str]]:
    yield "name", model.name + (" (in use)" if model.in_use else "")
    yield "file", str(model.path)
    yield "origin", f"{model.origin} {model.source} {model.added}".strip()
    if model.sha256:
        yield "SHA-256", model.sha256
    yield "size", f"{model.size_bytes / 1e6:.2f} MB, {model.parameters:,} parameters"
    facts: dict[str, Any] = model.facts
    for key, label in (("preset", "preset"), ("steps", "training steps"), ("initial_sha256", "fine-tuned from")):
        if facts.get(key):
            yield label, str(facts[key])
    if isinstance(facts.get("agc"), dict):
        yield "AGC contract", ", ".join(f"{k} {v}" for k, v in facts["agc"].items())
    if isinstance(facts.get("parity"), dict):
        parity = facts["parity"]
        yield (
            "engine parity",
            f"{parity.get('worst_db', 0):.1f} dB on {parity.get('pairs')} pairs ({parity.get('engine')})",
        )
    if isinstance(facts.get("warnings"), list):
        for warning in facts["warnings"]:
            yield "warning", str(warning)


def _add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Weights: NAME.safetensors.")],
    name: Annotated[str | None, typer.Option(help="Name in the store. [default: the file's own]")] = None,
    overwrite: Overwrite = False,
    store: _Store = None,
) -> None:
    """Check a weights file and copy it into the store. It is not put to use yet."""
    model = _open(store).add(file, name, replace=overwrite)
    tell(name=model.name)
    say(f"added {model.name}; put it to use with: lumitherm models use {model.name}")


def _use(name: _Name, store: _Store = None) -> None:
    """Put a model to use: wherever weights are called "active", it is meant."""
    model = _open(store).use(name)
    tell(name=model.name)
    say(f"{model.name} is in use; `lumitherm models rollback` goes back")


def _rollback(store: _Store = None) -> None:
    """Put the model to use that was in use before."""
    name = _open(store).rollback().name
    tell(name=name)
    say(f"{name} is in use again")


def _remove(name: _Name, store: _Store = None) -> None:
    """Delete an added model that is not in use."""
    _open(store).remove(name)
    tell(name=name)
    say(f"removed {name}")


def _compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Models, presets or weights files; two or more.")
    ],
    pairs: Annotated[Path, typer.Option(help="Folder of aligned pairs: vi/NAME.* and ir/NAME.*.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write A/B pictures and a table here.")
    ] = None,
    shifts: Annotated[str, typer.Option(help="Displacements along both axes, px.")] = "0,3,5,8",
    limit: Annotated[int, typer.Option(min=1, help="Take only so many pairs.")] = 24,
    overwrite: Overwrite = False,
    pictures: Annotated[int, typer.Option(min=0, help="A/B pictures to write.")] = 6,
    picture_shift_px: Annotated[float, typer.Option(min=0.0, max=64.0, help="Displacement in the pictures.")] = 5.0,
    store: _Store = None,
) -> None:
    """Measure models on one set of displaced pairs, and put their pictures side by side.

    A picture's columns: visible, thermal as it was given, then each model in the order named.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError("give two or more different models to compare")
    sizes = _numbers(shifts)
    if output is not None:
        claim(output, overwrite)

    from app.commands.network.evaluation_report import Study, print_table, study_table, write_csv
    from fusion_core.engines.torch_engine import TorchEngine
    from fusion_core.measures.displacement import uniform
    from fusion_core.measures.evaluation import evaluate_engine, load_pairs, summarize

    labels = [_label(name) for name in names]
    if len(set(labels)) < len(labels):
        labels = list(names)  # files of one name in different folders
    models = {label: _checkpoint(name, store) for label, name in zip(labels, names, strict=True)}
    engines: list[tuple[str, FusionEngine]] = [(label, TorchEngine(m, label=label)) for label, m in models.items()]
    loaded = list(load_pairs(pairs, None, limit))
    console = result_console()
    studies = []
    with console.status("measuring") as status:
        for label, engine in engines:
            status.update(f"measuring {label} on {len(loaded)} pairs")
            rows = evaluate_engine(engine, loaded, [uniform(size) for size in sizes])
            studies.append(Study(label, rows, {"all": summarize(rows)}))
    tell(means={study.method: study.groups["all"] for study in studies})
    print_table(console, study_table(studies, "all"))
    _print_errors(console, models, loaded, sizes)
    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{output} cannot be made: {error.strerror}") from error
    write_csv(output / "comparison.csv", studies)
    tell(output=str(output))
    written = _write_ab(output, loaded[:pictures], engines, picture_shift_px)
    console.print(f"wrote {output / 'comparison.csv'} and {written} pictures", highlight=False, soft_wrap=True)


def _label(name: str) -> str:
    return Path(name).stem if name.endswith(".safetensors") else name


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"--shifts is {text!r}, must be numbers of pixels with commas between: 0,3,5") from error
    if not numbers or any(not 0.0 <= number <= 64.0 for number in numbers):
        raise UsageError(f"--shifts is {text!r}, must be one or more numbers from 0 to 64 px")
    return list(dict.fromkeys(numbers))


def _checkpoint(name: str, store: Path | None) -> LoadedCheckpoint:
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.model_store import resolve_weights

    file = Path(name)
    path = file if file.is_file() else (_open(store).check(name).path if store is not None else resolve_weights(name))
    return load_checkpoint(path)


def _print_errors(
    console: Console, models: dict[str, LoadedCheckpoint], pairs: list[EvaluationPair], sizes: list[float]
) -> None:
    """By how much each model's displacement estimate is off, where it has one."""
    from fusion_core.measures.displacement import uniform
    from fusion_core.training.finetuning.measure import estimate_errors_px

    estimating = {label: model for label, model in models.items() if model.network.alignment is not None}
    if not estimating:
        return
    from rich.table import Table

    table = Table("method", box=None, pad_edge=False)
    for size in sizes:
        table.add_column(f"{size:g} px", justify="right")
    for label, model in estimating.items():
        errors = [fmean([estimate_errors_px(model.network, pair, uniform(size)) for pair in pairs]) for size in sizes]
        table.add_row(label, *(f"{error:.2f}" for error in errors))
    console.print("error of the displacement estimate, px (mean over the pairs)", highlight=False)
    console.print(table)
    console.print()


def _write_ab(
    output: Path, pairs: list[EvaluationPair], engines: list[tuple[str, FusionEngine]], shift_px: float
) -> int:
    import numpy as np

    from app.media.pictures import write_picture
    from fusion_core.measures.displacement import displace, uniform

    for pair in pairs:
        given = displace(pair.thermal, uniform(shift_px), pair.stem)
        columns = [pair.visible, np.repeat(given[..., None], 3, axis=2)]
        columns += [engine.fuse(pair.visible, given) for _, engine in engines]
        write_picture(output / f"ab_{pair.stem}.png", np.concatenate(columns, axis=1))
    return len(pairs)


def _card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown file to write; or -.")],
    name: Annotated[str | None, typer.Option(help="The model's name. [default: the run folder's]")] = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="CSV of `lumitherm evaluate`; may be repeated (other data).")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The weights file that the card goes with.")] = None,
    failures: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text: what is known not to work, one point a line.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the model card of a run: data, training, figures at every displacement, known failures."""
    from fusion_core.training.finetuning.model_card import write_model_card

    claim(output, overwrite)

    try:
        known = failures.read_text(encoding="utf-8") if failures is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--failures {failures} cannot be read: {error}") from error
    write_model_card(
        output,
        run,
        name=name or run.resolve().name,
        evaluations=evaluation or [],
        weights=weights,
        known_failures=known,
    )
    tell(output=str(output))
    say(f"wrote {output}")


def _export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, preset or weights file.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="NAME.onnx (or -); NAME.xml for OpenVINO, with a .bin beside it."),
    ],
    format_: Annotated[
        Literal["onnx", "openvino"] | None, typer.Option("--format", help="[default: by the file's ending]")
    ] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the pictures; the model takes no other.")] = "640x480",
    overwrite: Overwrite = False,
    store: _Store = None,
) -> None:
    """Write a model for other programs, and check the file against the reference engine.

    Inputs `visible_y` and `infrared`, output `fused`: (1, 1, H, W) float32 in [0, 1], luminance and thermal levels.
    """
    from app.commands.network.benchmark import parse_size
    from fusion_core.benchmark.onnx_engine import export_model
    from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
    from fusion_core.thermal.agc import Agc

    kind = format_ or ("openvino" if output.suffix.lower() == ".xml" else "onnx")
    claim(output, overwrite)
    wanted = ".xml" if kind == "openvino" else ".onnx"
    if output.suffix.lower() != wanted:
        raise UsageError(f"{output} is to be {kind}; name it NAME{wanted}")
    height, width = parse_size(size)
    rig = SimulatedRig(SimulatedRigConfig(height=height, width=width, thermal_height=height, thermal_width=width))
    pair = rig.visible(0.0), Agc().apply(rig.thermal(0.0), None)
    db = export_model(_checkpoint(name, store), output, kind, (height, width), pair)
    tell(output=str(output), format=kind, parity_db=db, size=size)
    say(f"wrote {output}: {kind} for {width}x{height}, {db:.1f} dB from the reference engine on a simulated pair")
