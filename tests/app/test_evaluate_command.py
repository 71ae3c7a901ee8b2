"""`lumitherm evaluate` from end to end on pairs made here."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import app.__main__ as command_line
import fusion_core
from fusion_core.measures.metrics import evaluate


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run the command; gives exit code, standard output and standard error."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lumitherm", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(command_line.run())
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run_command


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs of 96x128."""
    root = tmp_path / "pairs"
    rng = np.random.default_rng(0)
    for folder in ("vi", "ir"):
        (root / folder).mkdir(parents=True)
    for name in ("car", "man", "tree"):
        planes = [128 + 300 * cv2.GaussianBlur(rng.normal(size=(96, 128)), (0, 0), 3) for _ in range(4)]
        levels = [np.clip(plane, 0, 255).astype(np.uint8) for plane in planes]
        cv2.imwrite(str(root / "vi" / f"{name}.png"), np.dstack(levels[:3]))
        cv2.imwrite(str(root / "ir" / f"{name}.png"), levels[3])
    return root


def test_tables_csv_json_and_plot(run, pairs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    table, means, plot = tmp_path / "out" / "a.csv", tmp_path / "out" / "a.json", tmp_path / "out" / "a.png"
    code, out, err = run(
        *("--pairs", pairs, "--engine", "average", "--engine", "pyramid", "--shifts", "0,3", "--half-pixel"),
        *("--fields", "3", "--subset", "car,tree", "--csv", table, "--json", means, "--plot", plot),
    )
    assert (code, err) == (0, "")
    assert "all (3 pairs)" in out
    assert "subset (2 pairs)" in out
    assert len(re.findall(r"^(average|pyramid) ", out, re.MULTILINE)) == 2 * 2 * 5
    assert "…" not in out  # nothing cut off
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 5
    assert {(row["displacement"], row["size_px"]) for row in rows} == {
        ("uniform", "0"),
        ("uniform", "3"),
        ("uniform", "0.5"),
        ("uniform", "3.5"),
        ("field", "3"),
    }
    assert all((row["g_ghost"] == "") == (row["size_px"] == "0") for row in rows)
    document = json.loads(means.read_text())
    assert document["settings"]["pairs"] == ["car", "man", "tree"]
    assert [entry["pairs"] for entry in document["methods"]["average"]["subset"]] == [2] * 5
    assert document["methods"]["average"]["all"][0]["g_ghost"] is None
    assert document["methods"]["average"]["all"][1]["g_ghost"] == pytest.approx(0.5, abs=0.03)
    picture = cv2.imread(str(plot))
    assert picture is not None
    assert picture.shape[1] > 1000


def test_networks_are_loaded_by_name(run, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    asked = []

    def load_fuser(name: str, *, engine: str):  # type: ignore[no-untyped-def]
        asked.append(name)
        return lambda visible, thermal: visible.copy()

    monkeypatch.setitem(vars(fusion_core), "load_fuser", load_fuser)  # without loading the real one, and torch
    code, out, _ = run("--pairs", pairs, "--weights", "tiny", "--weights", "mine/best.safetensors", "--limit", 1)
    assert code == 0
    assert asked == ["tiny", "mine/best.safetensors"]
    assert "all (1 pairs)" in out
    assert re.search(r"^tiny +0 px", out, re.MULTILINE)
    assert re.search(r"^best +11 px", out, re.MULTILINE)


def test_measures_finished_pictures(run, pairs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fused = tmp_path / "fused"
    fused.mkdir()
    for name in ("car", "tree"):
        visible = cv2.imread(str(pairs / "vi" / f"{name}.png"))
        cv2.imwrite(str(fused / f"{name}.png"), visible // 2 + 30)
    table = tmp_path / "a.csv"
    code, out, err = run("--fused", fused, "--visible", pairs / "vi", "--thermal", pairs / "ir", "--csv", table)
    assert (code, err) == (0, "")
    assert "mean" in out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["car", "tree"]
    wanted = evaluate(
        cv2.imread(str(fused / "car.png"))[..., ::-1],
        cv2.imread(str(pairs / "vi" / "car.png"))[..., ::-1],
        cv2.imread(str(pairs / "ir" / "car.png"), cv2.IMREAD_GRAYSCALE),
    )
    assert {key: float(rows[0][key]) for key in wanted} == pytest.approx(wanted)
    assert float(rows[0]["g_visible"]) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("", "--pairs DIR"),
        ("--pairs PAIRS", "--weights NAME"),
        ("--pairs /nowhere --engine average", "/nowhere"),
        ("--pairs PAIRS --engine magic", "ncc-pyramid"),
        ("--pairs PAIRS --engine average --shifts 3,x", "--shifts"),
        ("--pairs PAIRS --engine average --shifts=-3", "0 to 64"),
        ("--pairs PAIRS --engine average --fields nan", "--fields"),
        ("--pairs PAIRS --engine average --shifts=", "give displacements"),
        ("--pairs PAIRS --engine average --subset car,horse", "horse"),
        ("--pairs PAIRS --engine average --engine average", "once"),
        ("--pairs PAIRS --engine average --plot curve.doc", ".png"),
        ("--pairs PAIRS/vi --engine average", "vi"),
        ("--pairs PAIRS --weights /nowhere/best.safetensors", "best.safetensors"),
        ("--fused PAIRS/vi", "needed together"),
        ("--fused PAIRS/vi --visible PAIRS/vi --thermal /nowhere", "/nowhere"),
        ("--fused PAIRS/vi --visible PAIRS/vi --thermal PAIRS", "no pictures"),
        ("--fused PAIRS/vi --visible PAIRS/vi --thermal PAIRS/ir --pairs PAIRS", "not both"),
        ("--fused PAIRS/vi --visible PAIRS/vi --thermal PAIRS/ir --plot a.png", "--csv"),
    ],
)
def test_bad_input_is_one_clear_line(run, pairs: Path, arguments: str, word: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(*arguments.replace("PAIRS", str(pairs)).split())
    assert code == 2
    assert out == ""
    assert err.startswith("lumitherm: ")
    assert err.count("\n") == 1
    assert word in err


def test_names_what_is_missing_or_damaged(run, pairs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fused = tmp_path / "fused"
    fused.mkdir()
    cv2.imwrite(str(fused / "horse.png"), np.zeros((96, 128), np.uint8))
    sources = ("--visible", pairs / "vi", "--thermal", pairs / "ir")
    code, _, err = run("--fused", fused, *sources)
    assert code == 2
    assert "horse" in err
    (fused / "horse.png").rename(fused / "car.png")
    cv2.imwrite(str(fused / "car.png"), np.zeros((50, 50), np.uint8))
    code, _, err = run("--fused", fused, *sources)
    assert code == 2
    assert "car: fused picture is 50x50" in err
    (pairs / "ir" / "man.png").write_bytes(b"no picture")
    code, _, err = run("--pairs", pairs, "--engine", "average")
    assert code == 2
    assert "man.png" in err


def test_a_file_that_cannot_be_written_is_a_run_time_failure(run, pairs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    code, _, err = run("--pairs", pairs, "--engine", "average", "--shifts", "0", "--csv", tmp_path / "file" / "a.csv")
    assert code == 1
    assert "cannot be written" in err


def test_pairs_that_are_off_are_registered_when_asked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    scene = cv2.resize(rng.integers(0, 256, (40, 52), np.uint8), (416, 320), interpolation=cv2.INTER_CUBIC)
    for folder, picture in (("vi", scene[:300, :400]), ("ir", 255 - scene[4:304, 3:403]), ("vi", None), ("ir", None)):
        (tmp_path / folder).mkdir(exist_ok=True)
        if picture is not None:
            cv2.imwrite(str(tmp_path / folder / "a.png"), picture)
        else:  # a pair without a common peak is left out
            cv2.imwrite(str(tmp_path / folder / "b.png"), rng.integers(0, 256, (300, 400), np.uint8))
    settings = {}
    for options in ([], ["--registered"]):
        report = tmp_path / "means.json"
        code, _, err = run("--pairs", tmp_path, "--engine", "average", "--shifts", 0, "--json", report, *options)
        assert (code, err) == (0, "")
        document = json.loads(report.read_text())
        settings[bool(options)] = document["settings"]
    assert settings[False]["pairs"] == ["a", "b"] and not settings[False]["registered"]
    assert settings[True]["pairs"] == ["a"] and settings[True]["registered"]


def test_an_estimate_is_measured_by_itself(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from fusion_core.measures import estimate
    from fusion_core.simulation.rig import SimulatedRigConfig

    small = SimulatedRigConfig(height=120, width=160, thermal_height=120, thermal_width=160)
    monkeypatch.setattr(estimate, "RIGS", {"small rig": small})
    root = tmp_path / "pairs"
    plane = cv2.GaussianBlur(np.random.default_rng(1).normal(size=(128, 160)), (0, 0), 2)
    for folder, sign in (("vi", 1), ("ir", -1)):
        (root / folder).mkdir(parents=True)
        cv2.imwrite(str(root / folder / "noise.png"), np.clip(128 + sign * 250 * plane, 0, 255).astype(np.uint8))
    table, plot = tmp_path / "a.csv", tmp_path / "a.png"
    given = ("--estimate", "--weights", "tiny", "--pairs", root, "--shifts", "4", "--fields", "3")
    code, out, err = run(*given, "--csv", table, "--plot", plot)
    assert (code, err) == (0, "")
    assert "follows 4 px" in out and "follows field 3 px" in out and "small rig" in out
    with table.open(newline="") as file:
        median_px = {row["what"]: float(row["median_px"]) for row in csv.DictReader(file)}
    assert median_px["follows 4 px"] < 1.0  # without an estimate: 5.7
    assert set(median_px) >= {"clear peaks", "one affine map", "small rig: all", "small rig: over time"}
    assert plot.stat().st_size > 10_000
    code, _, err = run("--estimate", "--engine", "average", "--pairs", root)
    assert code == 2 and "--weights" in err
