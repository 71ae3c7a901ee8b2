"""What `lumitherm evaluate` hands out: tables on the screen, CSV, JSON, and curves of values against displacement."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from fusion_core.errors import RunError
from fusion_core.measures.displacement import DisplacementKind
from fusion_core.measures.evaluation import SHARE_KEYS, VALUE_KEYS, EvaluationRow, Summary
from fusion_core.measures.metrics import METRIC_KEYS

__all__ = [
    "Study",
    "measured_table",
    "print_table",
    "study_table",
    "write_csv",
    "write_json",
    "write_lines",
    "write_plot",
    "write_values_csv",
    "writing",
]

_TITLES = {
    "ce": "CE ↓",
    "mi": "MI ↑",
    "qabf": "Qabf ↑",
    "qcb": "QCB ↑",
    "qcv": "QCV ↓",
    "ssim": "SSIM ↑",
    "en": "EN ↑",
    "sd": "SD ↑",
    "g_visible": "gVI ↑",
    "g_thermal": "gIR ↑",
    "g_ghost": "gGhost ↓",
    "ghost_share": "ghost ↓",
}
_DIGITS = {"qcv": 0, "sd": 1, "mi": 2, "ce": 2, "en": 2}


@dataclass(frozen=True, slots=True)
class Study:
    """All rows of one method. groups: means over all pairs ("all") and over the subset, by the group's name."""

    method: str
    rows: list[EvaluationRow]
    groups: dict[str, list[Summary]]


def study_table(studies: Sequence[Study], group: str) -> Table:
    """One line a method and displacement, means over the pairs of the group."""
    pairs = max((summary.pairs for study in studies for summary in study.groups[group]), default=0)
    table = _table(f"{group} ({pairs} pairs)", ("method", "displaced"), ("ms",))
    for study in studies:
        for summary in study.groups[group]:
            cells = [_cell(key, summary.values[key]) for key in VALUE_KEYS]
            table.add_row(study.method, summary.displacement.label, *cells, f"{summary.fuse_ms:.1f}")
        table.add_section()
    return table


def measured_table(values: Mapping[str, Mapping[str, float]]) -> Table:
    """One line a picture (by stem) and their mean."""
    table = _table(f"{len(values)} pictures", ("picture",), ())
    for stem, row in values.items():
        table.add_row(stem, *(_cell(key, row[key]) for key in VALUE_KEYS))
    table.add_section()
    table.add_row("mean", *(_cell(key, _mean(row[key] for row in values.values())) for key in VALUE_KEYS))
    return table


def print_table(console: Console, table: Table) -> None:
    """Print at the width the table needs: numbers cut off would be worse than lines that wrap."""
    needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
    console.print()


def _table(title: str, left: Iterable[str], right: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in (*(_TITLES[key] for key in VALUE_KEYS), *right):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cell(key: str, value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.{_DIGITS.get(key, 3)}f}"


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def write_csv(path: Path, studies: Sequence[Study]) -> None:
    """Every single measurement: method, pair, kind and size of the displacement, the values, the engine's time.

    An empty cell: not defined there. Raises RunError when the file cannot be written.
    """
    lines = [
        [study.method, row.stem, row.displacement.kind.value, f"{row.displacement.size_px:g}"]
        + [_exact(row.values[key]) for key in VALUE_KEYS]
        + [f"{row.fuse_ms:.3f}"]
        for study in studies
        for row in study.rows
    ]
    write_lines(path, ["method", "pair", "displacement", "size_px", *VALUE_KEYS, "fuse_ms"], lines)


def write_values_csv(path: Path, values: Mapping[str, Mapping[str, float]]) -> None:
    """One line a picture. Raises RunError when the file cannot be written."""
    lines = [[stem] + [_exact(row[key]) for key in VALUE_KEYS] for stem, row in values.items()]
    write_lines(path, ["picture", *VALUE_KEYS], lines)


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def write_lines(path: Path, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """As a CSV file. Raises RunError when it cannot be written."""
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a report that is written inside. Raises RunError where either fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror or error}. Is the folder writable, the disk full?"
        ) from error


def write_json(path: Path, studies: Sequence[Study], settings: Mapping[str, Any]) -> None:
    """Settings and means by method and group; null where a value is not defined.

    Raises RunError when the file cannot be written.
    """
    document = {
        "settings": dict(settings),
        "methods": {
            study.method: {
                group: [
                    {
                        "displacement": summary.displacement.kind.value,
                        "size_px": summary.displacement.size_px,
                        "pairs": summary.pairs,
                        "fuse_ms": summary.fuse_ms,
                        **{key: None if math.isnan(value) else value for key, value in summary.values.items()},
                    }
                    for summary in summaries
                ]
                for group, summaries in study.groups.items()
            }
            for study in studies
        },
    }
    with writing(path):
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_plot(path: Path, studies: Sequence[Study], group: str) -> None:
    """Twelve curves of means against displacement; solid: uniform, dashed: fields by their peak.

    Args:
        path: .png (or another format that matplotlib knows by its suffix).

    Raises RunError when the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 4, sharex=True)
    for axis, key in zip(axes.flat, (*METRIC_KEYS, *SHARE_KEYS), strict=True):
        for number, study in enumerate(studies):
            for kind, style in ((DisplacementKind.UNIFORM, "o-"), (DisplacementKind.FIELD, "s--")):
                points = sorted(
                    (summary.displacement.size_px, summary.values[key])
                    for summary in study.groups[group]
                    if summary.displacement.kind is kind and not math.isnan(summary.values[key])
                )
                if points:
                    label = study.method if kind is DisplacementKind.UNIFORM else f"{study.method}, varying field"
                    axis.plot(*zip(*points, strict=True), style, color=f"C{number % 10}", label=label, markersize=4)
        axis.set_title(_TITLES[key].replace("↓", "(lower is better)").replace("↑", "(higher is better)"), fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("displacement of thermal, px")
    labelled: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    if labelled:
        figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=min(4, len(labelled)))
    pairs = max((summary.pairs for study in studies for summary in study.groups[group]), default=0)
    figure.suptitle(f"Fusion quality against displacement, mean over {pairs} pairs ({group})")
    with writing(path):
        figure.savefig(path, dpi=110)
