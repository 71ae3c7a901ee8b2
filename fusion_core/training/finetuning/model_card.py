"""Writes the model card: what a run was trained on and how, its figures at every displacement, where it fails.

Everything is read from the files that a run leaves (config.yaml, metrics.jsonl, data.json, versions.json,
finetune.json; a fine-tuning has a folder for each stage) and from CSV files of `lumitherm evaluate`. Only the known
failures are written by hand.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fusion_core.errors import BadInputError, ConfigError, RunError
from fusion_core.files import read_json
from fusion_core.yaml_config import read_yaml

__all__ = ["read_metrics", "write_model_card"]

_COLUMNS = (
    ("CE", "ce"),
    ("MI", "mi"),
    ("Qabf", "qabf"),
    ("QCB", "qcb"),
    ("QCV", "qcv"),
    ("SSIM", "ssim"),
    ("EN", "en"),
    ("SD", "sd"),
    ("edges visible", "g_visible"),
    ("edges thermal", "g_thermal"),
    ("ghost", "g_ghost"),
    ("ghost share", "ghost_share"),
)
_CURVE_POINTS = 8
_STAGES = ("align", "fuse", "joint")  # of a fine-tuning, in the order in which they come


def write_model_card(
    output: Path,
    run: Path,
    *,
    name: str,
    evaluations: Sequence[Path] = (),
    weights: Path | None = None,
    known_failures: str = "",
) -> None:
    """Write the card as Markdown.

    Args:
        run: folder of a training run, or of a fine-tuning; at least config.yaml, or that of a stage, must be there.
        evaluations: CSV files of `lumitherm evaluate --csv`, of one or several methods.
        weights: the file that the card goes with; the card names its hash and its header's facts.
        known_failures: text, one point a line.

    Raises:
        BadInputError: the run or a CSV cannot be read. RunError: the card cannot be written.
    """
    stages = [run / stage for stage in _STAGES if (run / stage / "config.yaml").is_file()] or [run]
    finetuned = _read_json(run / "finetune.json")
    parts = [f"# {name}", ""]
    last = _read_config(stages[-1])
    kept = "+".join(outcome["stage"] for outcome in finetuned.get("stages") or [] if outcome["accepted"])
    if finetuned:
        last = last | {"stage": kept or "none kept"}
    parts += _summary(run, last, weights)
    parts += _data(stages[-1], last)
    for folder in stages:
        parts += _training(folder, _read_config(folder), f": stage {folder.name}" if folder is not run else "")
    if finetuned:
        parts += _finetuned(finetuned)
    for path in evaluations:
        parts += _evaluation(path)
    points = [line.strip().lstrip("-* ").strip() for line in known_failures.splitlines() if line.strip()]
    parts += ["## Known failures", ""]
    parts += [f"- {point}" for point in points] or ["None were written down when this card was made."]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}") from error


def read_metrics(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read metrics.jsonl: the lines of training steps, and those of validations. Cut-off lines are skipped."""
    steps, validations = [], []
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise BadInputError(f"{run / 'metrics.jsonl'} cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            if isinstance(entry.get("validation"), dict):
                validations.append(entry)
            elif "loss" in entry:
                steps.append(entry)
    return steps, validations


# ---- sections


def _summary(run: Path, config: dict[str, Any], weights: Path | None) -> list[str]:
    lines = [
        f"Preset `{config.get('preset', '?')}`, stage `{config.get('stage', '?')}`. "
        "Input: a visible picture and the thermal picture on its grid, 8 bit after AGC; output: fused luminance.",
        "",
    ]
    if weights is not None:
        header = _weights_facts(weights)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        lines += [f"Weights: `{weights.name}`, {weights.stat().st_size / 1e6:.2f} MB, SHA-256 `{digest}`.", ""]
        agc = header.get("agc")
        if isinstance(agc, dict):
            lines += ["AGC contract: " + ", ".join(f"{key} {value}" for key, value in agc.items()) + ".", ""]
    return lines


def _data(run: Path, config: dict[str, Any]) -> list[str]:
    lines = ["## Data", ""]
    manifest = _read_json(run / "data.json")
    for part, title in (("training", "trained on"), ("validation", "held out")):
        stems = manifest.get(part)
        if isinstance(stems, dict):
            groups = Counter(stem.partition("_")[0] if "_" in stem else "(no prefix)" for stem in stems)
            shown = ", ".join(f"{group} {count}" for group, count in groups.most_common(12))
            more = f", {len(groups) - 12} more" if len(groups) > 12 else ""
            lines.append(f"- {len(stems)} pairs {title}: {shown}{more}")
    if isinstance(manifest.get("registered"), list):
        lines.append(f"- {len(manifest['registered'])} of all pairs are registered and serve the alignment losses")
    if manifest.get("sha256"):
        lines.append(f"- fingerprint of the data: `{manifest['sha256']}`")
    data = config.get("data", {})
    moved = data.get("displacement", {}) if isinstance(data, dict) else {}
    if moved:
        lines.append(
            f"- the infrared crop is displaced by up to {moved.get('max_px', 0):g} px along each axis, "
            f"{100 * float(moved.get('varying_probability', 0)):.0f} % of the crops with a smooth field on top"
        )
    return [*lines, ""] if len(lines) > 2 else [*lines, "The run kept no list of its data.", ""]


def _training(run: Path, config: dict[str, Any], which: str) -> list[str]:
    steps, validations = read_metrics(run)
    lines = [f"## Training{which}", ""]
    optimizer, schedule = config.get("optimizer", {}), config.get("schedule", {})
    lines.append(
        f"Batch {config.get('batch_size')}, learning rate {optimizer.get('learning_rate')} "
        f"({schedule.get('kind')}), seed {config.get('run', {}).get('seed')}."
    )
    versions = _read_json(run / "versions.json")
    if versions:
        lines.append("Made with " + ", ".join(f"{key} {value}" for key, value in versions.items()) + ".")
    lines.append("")
    if steps:
        terms = [key for key in steps[-1] if key not in _NOT_TERMS]
        lines += [f"Loss over {steps[-1]['step']} steps (means over an eighth of the run each):", ""]
        lines += _table(["step", *terms], _curve_rows(steps, terms))
    if validations:
        best = next((entry for entry in reversed(validations) if entry.get("best")), validations[-1])
        lines += [f"Held-out pairs at the best validation, step {best['step']}:", ""]
        lines += _validation_table(best["validation"])
    return lines


_NOT_TERMS = frozenset({"step", "epoch", "learning_rate", "pairs_per_s"})


def _curve_rows(steps: list[dict[str, Any]], terms: list[str]) -> list[list[str]]:
    count = min(_CURVE_POINTS, len(steps))
    rows = []
    for i in range(count):
        part = steps[i * len(steps) // count : (i + 1) * len(steps) // count]
        means = [_mean(entry[term] for entry in part if isinstance(entry.get(term), int | float)) for term in terms]
        rows.append([str(part[-1]["step"]), *(_number(value) for value in means)])
    return rows


def _validation_table(results: dict[str, Any]) -> list[str]:
    names = list(dict.fromkeys(key.partition("/")[0] for key in results if "/" in key))
    columns = [
        column
        for column in ("loss", "epe_px", "epe_median_px", "edges_visible", "edges_infrared", "edges_ghost")
        if any(f"{name}/{column}" in results for name in names)
    ]
    rows = [[name, *(_number(results.get(f"{name}/{column}")) for column in columns)] for name in names]
    return _table(["displacement", *columns], rows)


def _finetuned(document: dict[str, Any]) -> list[str]:
    lines = ["## Held-out sessions before and after fine-tuning", ""]
    for outcome in document.get("stages") or []:
        verdict, why = ("kept", outcome["gained"]) if outcome["accepted"] else ("dropped", outcome["lost"])
        way = outcome.get("way", 1.0)
        far = "" if way == 1.0 or not outcome["accepted"] else f", {way:.0%} of the way there, where nothing got worse"
        where = f"stage {outcome['stage']}, step {outcome['step']}{far}"
        lines.append(f"- {where}: {verdict}, {'; '.join(why) or 'asked for'}")
    lines += [""] if len(lines) > 2 else []
    lines += _before_and_after(document.get("metrics", {}))
    generic = document.get("generic")
    if generic:
        lines += ["On generic pairs that were held out: what was forgotten.", "", *_before_and_after(generic)]
    shares = document.get("shares", {})
    if shares:
        lines += ["What the fused picture takes from each source (aligned pairs):", ""]
        lines += _table(
            ["", "edges visible", "edges thermal", "information thermal"],
            [
                [label, *(_number(shares[label].get(key)) for key in _SHARE_KEYS)]
                for label in ("before", "after")
                if label in shares
            ],
        )
    for warning in document.get("warnings") or []:
        lines += [f"**Warning:** {warning}", ""]
    parity = document.get("parity")
    if parity:
        lines += [
            f"Engine parity: {parity['engine']} against {parity['reference']}, {parity['pairs']} pairs: "
            f"{parity['worst_db']} dB at worst, {parity['median_db']} dB median (wanted: {parity['min_db']} dB).",
            "",
        ]
    return lines


def _before_and_after(metrics: dict[str, Any]) -> list[str]:
    rows = []
    for old, new in zip(metrics.get("before") or [], metrics.get("after") or [], strict=False):
        for label, entry in (("before", old), ("after", new)):
            rows.append([str(entry.get("displacement")), label, _number(entry.get("error_px")), *_picked(entry)])
    return _table(["displacement", "", "error px", *(title for title, _ in _COLUMNS)], rows)


_SHARE_KEYS = ("gradient_visible", "gradient_thermal", "information_thermal")


def _evaluation(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        groups: dict[tuple[str, str, float], list[dict[str, str]]] = {}
        for row in rows:
            groups.setdefault((row["method"], row["displacement"], float(row["size_px"])), []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise BadInputError(
            f"{path} cannot be read as an evaluation ({error!r}); give the CSV of `lumitherm evaluate --csv`"
        ) from error
    if not groups:
        raise BadInputError(f"{path} holds no measurement; give the CSV of `lumitherm evaluate --csv`")
    pairs = len({row["pair"] for row in rows})
    lines = [f"## Evaluation: {path.stem} ({pairs} pairs)", ""]
    table = []
    for (method, kind, size_px), members in groups.items():
        means: dict[str, Any] = {}
        for key in members[0]:
            values = [float(row[key]) for row in members if key not in _LABELS and row.get(key)]
            means[key] = _mean(values)
        _form_ghost_share(means)
        label = f"{size_px:g} px" if kind == "uniform" else f"{kind} {size_px:g} px"
        table.append([method, label, *_picked(means), _number(means.get("fuse_ms"))])
    return [*lines, *_table(["method", "displacement", *(title for title, _ in _COLUMNS), "ms"], table)]


_LABELS = frozenset({"method", "pair", "displacement", "size_px"})


def _form_ghost_share(means: dict[str, Any]) -> None:
    """Of the mean shares, as `lumitherm evaluate` does: a quotient of two small numbers of one pair means little."""
    right, wrong = means.get("g_thermal"), means.get("g_ghost")
    if isinstance(right, float) and isinstance(wrong, float) and not math.isnan(wrong):
        drawn = max(right, 0.0) + max(wrong, 0.0)
        means["ghost_share"] = max(wrong, 0.0) / drawn if drawn > 0 else math.nan


def _picked(values: dict[str, Any]) -> list[str]:
    return [_number(values.get(key)) for _, key in _COLUMNS]


# ---- reading and writing


def _read_config(run: Path) -> dict[str, Any]:
    try:
        config = read_yaml(run / "config.yaml")
    except ConfigError as error:
        raise BadInputError(f"{run} is no folder of a training run: config.yaml cannot be read ({error})") from error
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} is damaged ({error}); the run's folder is not whole") from error
    return content if isinstance(content, dict) else {}


def _weights_facts(path: Path) -> dict[str, Any]:
    from fusion_core.checkpoint import load_checkpoint

    return load_checkpoint(path).facts


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def _mean(values: Iterable[float]) -> float:
    known = [float(value) for value in values if math.isfinite(float(value))]
    return math.fsum(known) / len(known) if known else math.nan


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
