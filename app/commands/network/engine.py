"""`lumitherm engine`: build engines ahead of time, list what is kept, and clean up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common.options import Cli
from app.commands.common.output import result_console, say, tell
from app.commands.network.benchmark import parse_size
from fusion_core.errors import UsageError

if TYPE_CHECKING:
    from fusion_core.engines.engine import FusionEngine

__all__ = ["register"]

_BUILT = ("tensorrt", "openvino")


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    commands = Cli(help="Engines on disk: the network converted or compiled for this machine.")
    commands.command("build")(_build)
    commands.command("list")(_list)
    commands.command("clean")(_clean)
    cli.add_typer(commands, name="engine")


def _build(
    engine: Annotated[str, typer.Option(help="tensorrt, openvino, or auto: the first of them that starts.")] = "auto",
    preset: Annotated[str, typer.Option(help="tiny, small or base.")] = "tiny",
    weights: Annotated[Path | None, typer.Option(help="A weights file in place of shipped weights.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="WIDTHxHEIGHT of the visible picture; may be repeated.")
    ] = None,
) -> None:
    """Build now what the first live picture would otherwise wait for: seconds for OpenVINO, minutes for TensorRT."""
    sizes = [parse_size(text) for text in size or ["640x480"]]
    if engine not in ("auto", *_BUILT):
        raise UsageError(f"there is nothing to build for engine {engine!r}; engines with files are {', '.join(_BUILT)}")
    console = result_console()
    built: list[dict[str, Any]] = []
    with console.status("loading") as status:
        made = _make(engine, preset, weights, lambda what, seconds: status.update(f"{what}, {seconds:.0f} s"))
        try:
            for height, width in sizes:
                status.update(f"{made.name} for {width}x{height}")
                began_s = time.monotonic()
                made.warm_up(height, width)
                took_s = time.monotonic() - began_s
                built.append({"engine": made.name, "size": f"{width}x{height}", "seconds": round(took_s, 2)})
                console.print(f"{made.name} for {width}x{height} is ready, {took_s:.1f} s", highlight=False)
        finally:
            made.close()
            tell(engines=built)


def _make(engine: str, preset: str, weights: Path | None, progress: Any) -> FusionEngine:
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.engines.cache import EngineCache
    from fusion_core.engines.engine import create_engine
    from fusion_core.model_store import resolve_weights
    from fusion_core.rfvif import preset_config

    if engine == "tensorrt":
        from fusion_core.engines.tensorrt_engine import TensorRtEngine
        from fusion_core.engines.video_options import VideoOptions

        if weights is None:
            preset_config(preset)
        checkpoint = load_checkpoint(resolve_weights(weights if weights is not None else preset))
        label = weights.stem if weights is not None else preset
        video = VideoOptions()  # the programs that live and files run
        return TensorRtEngine(checkpoint, label=label, video=video, cache=EngineCache(), progress=progress)
    return create_engine(engine, preset, weights)


def _list() -> None:
    """Show which engines are kept, newest first."""
    from rich.table import Table

    from app.commands.network.evaluation_report import print_table
    from fusion_core.engines.cache import EngineCache

    cache = EngineCache()
    console = result_console()
    entries = cache.entries()
    tell(engines=[{**entry.key, "bytes": entry.size_bytes} for entry in entries])
    if not entries:
        console.print(f"no engines in {cache.folder}", highlight=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("kind", "size", "weights", "made with", "GPU", "MiB", "days unused"):
        table.add_column(name, no_wrap=True)
    for entry in entries:
        key = entry.key
        version = key.get("tensorrt") or key.get("openvino") or "?"
        table.add_row(
            f"{key.get('kind', 'damaged: ' + entry.name)}",
            f"{key.get('width', '?')}x{key.get('height', '?')}",
            str(key.get("weights", "?"))[:12],
            str(version).split("-")[0],
            str(key.get("gpu", "-")),
            f"{entry.size_bytes / 2**20:.1f}",
            f"{entry.age_s / 86400:.1f}",
        )
    print_table(console, table)
    console.print(f"in {cache.folder}", highlight=False, soft_wrap=True)


def _clean(
    everything: Annotated[bool, typer.Option("--all", help="Remove sound engines too; they are built anew.")] = False,
) -> None:
    """Remove damaged and abandoned engine files."""
    from fusion_core.engines.cache import EngineCache

    freed = EngineCache().clean(everything=everything)
    tell(freed_bytes=freed)
    say(f"freed {freed / 2**20:.1f} MiB")
