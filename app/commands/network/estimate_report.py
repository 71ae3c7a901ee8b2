"""What `lumitherm evaluate --estimate` hands out: two tables, CSV, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from app.commands.network.evaluation_report import write_lines, writing
from fusion_core.measures.estimate import PairErrors, RigErrors

__all__ = ["EstimateStudy", "pairs_table", "rigs_table", "write_estimate_csv", "write_estimate_plot"]


@dataclass(frozen=True, eq=False)
class EstimateStudy:
    """One estimate: on pairs (None: no pairs were given), and by the rigs' names."""

    method: str
    pairs: PairErrors | None
    rigs: dict[str, RigErrors]


def pairs_table(studies: Sequence[EstimateStudy]) -> Table:
    """One line an estimate."""
    measured = [(study.method, study.pairs) for study in studies if study.pairs is not None]
    table = _table("pairs, px: median / 90 %")
    for displacement in measured[0][1].following_px:
        table.add_column(f"follows {displacement.label}", justify="right")
    for name in ("clear peaks", "one affine map: 90 % / worst"):
        table.add_column(name, justify="right")
    for method, errors in measured:
        cells = [_two(error) for error in errors.following_px.values()]
        worst = f"{np.percentile(errors.affine_px, 90):.2f} / {errors.affine_px.max():.2f}"
        table.add_row(method, *cells, _two(errors.peaks_px), worst)
    return table


def rigs_table(studies: Sequence[EstimateStudy]) -> Table:
    """One line an estimate and simulated rig."""
    table = _table("simulated rigs, on video, px: median / 90 %")
    for name in ("rig", "all pixels", "within 8 px of a depth edge", "moves over time", "ms a frame"):
        table.add_column(name, justify="left" if name == "rig" else "right")
    for study in studies:
        for rig, errors in study.rigs.items():
            noise = _two(errors.noise_px) if errors.noise_px is not None else "–"
            cells = (_two(errors.off_px), _two(errors.edge_px), noise, f"{errors.estimate_ms:.1f}")
            table.add_row(study.method, rig, *cells)
        table.add_section()
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("estimate", no_wrap=True)
    return table


def _two(values: np.ndarray) -> str:
    return f"{np.median(values):.2f} / {np.percentile(values, 90):.2f}" if len(values) else "–"


def write_estimate_csv(path: Path, studies: Sequence[EstimateStudy]) -> None:
    """One line a value: estimate, what, median_px, p90_px, worst_px. Raises RunError when it cannot be written."""
    lines: list[list[str]] = []
    for study in studies:
        measured: dict[str, np.ndarray] = {}
        if study.pairs is not None:
            measured |= {f"follows {key.label}": error for key, error in study.pairs.following_px.items()}
            measured |= {"clear peaks": study.pairs.peaks_px, "one affine map": study.pairs.affine_px}
        for rig, errors in study.rigs.items():
            measured |= {f"{rig}: all": errors.off_px, f"{rig}: depth edges": errors.edge_px}
            if errors.noise_px is not None:
                measured[f"{rig}: over time"] = errors.noise_px
        for what, values in measured.items():
            if len(values):
                figures = (np.median(values), np.percentile(values, 90), values.max())
                lines.append([study.method, what, *(f"{value:.4f}" for value in figures)])
    write_lines(path, ["estimate", "what", "median_px", "p90_px", "worst_px"], lines)


def write_estimate_plot(path: Path, studies: Sequence[EstimateStudy]) -> None:
    """Shares of all places by their error, a panel a measure. Raises RunError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels: dict[str, dict[str, np.ndarray]] = {}
    for study in studies:
        if study.pairs is not None:
            for displacement, error in study.pairs.following_px.items():
                panels.setdefault(f"follows {displacement.label}", {})[study.method] = error
            panels.setdefault("distance from clear local peaks", {})[study.method] = study.pairs.peaks_px
            panels.setdefault("distance from one affine map", {})[study.method] = study.pairs.affine_px
        if study.rigs:
            for title, key in (("simulated rigs, all pixels", "off_px"), ("near depth edges", "edge_px")):
                joined = np.concatenate([getattr(errors, key) for errors in study.rigs.values()])
                panels.setdefault(title, {})[study.method] = joined
    columns = min(4, max(len(panels), 1))
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
    shares = np.linspace(0, 100, 201)
    for axis, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for method, values in curves.items():
            if len(values):
                axis.plot(np.percentile(values, shares), shares, label=method)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(0, 5)
        axis.set_xlabel("px")
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    axes[0, 0].set_ylabel("% of all places within")
    axes[0, 0].legend(loc="lower right")
    with writing(path):
        figure.savefig(path, dpi=110)
