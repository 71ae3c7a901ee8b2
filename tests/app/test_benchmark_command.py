"""`lumitherm benchmark` from end to end, in this process and with the classical engine only, which needs no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.commands.network.benchmark import parse_size
from fusion_core.benchmark import measure as benchmark
from fusion_core.benchmark.candidates import Case
from fusion_core.benchmark.measure import Failure, Result
from fusion_core.checkpoint import save_checkpoint
from fusion_core.errors import LumithermError, RunError, UsageError
from fusion_core.rfvif import Rfvif, preset_config


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, Rfvif(preset_config("tiny")), {})
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(build_cli(), ["benchmark", *arguments])
    if isinstance(result.exception, LumithermError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def in_this_process(monkeypatch: pytest.MonkeyPatch, slow: str = "") -> None:
    """Measured figures of a made-up kind: twice as fast as eager, or slower where `slow` says so."""

    def made_up(case: Case) -> Result | Failure:
        if case.engine == "tensorrt":
            return Failure(case, "PyTorch sees no CUDA device")
        milliseconds = 100.0 if case.engine in ("torch", slow) else 50.0
        milliseconds *= case.height * case.width / 307_200
        return Result(
            case, case.engine, 1.0, 0.0, 10, milliseconds, 2 * milliseconds, milliseconds, milliseconds,
            1e3 / milliseconds, milliseconds + 5, 100.0, 1.6, 80.0, 0.3,
        )  # fmt: skip

    monkeypatch.setattr(benchmark, "run_case", made_up)


def test_table_json_plot_and_stored_ratios(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    report, plot, store = tmp_path / "b.json", tmp_path / "b.png", tmp_path / "ratios.json"
    common = ["--weights", str(weights), "--engine", "openvino", "--engine", "tensorrt", "--size", "640x480"]
    output = run(*common, "--size", "320x240", "--json", str(report), "--plot", str(plot), "--store", str(store))
    assert "openvino/mine/640x480" in output
    assert "not measured: tensorrt/mine/640x480: PyTorch sees no CUDA device" in output
    document = json.loads(report.read_text())
    assert document["runs"][0]["processor"]
    assert {entry["key"] for entry in document["results"]} == {
        f"{engine}/mine/{size}" for engine in ("torch", "openvino") for size in ("640x480", "320x240")
    }
    assert all(entry["ratio"] == 2.0 for entry in document["results"] if entry["case"]["engine"] == "openvino")
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(store.read_text())["ratios"]["openvino/mine/640x480"] == 2.0
    run(*common, "--check", str(store))
    in_this_process(monkeypatch, slow="openvino")
    with pytest.raises(RunError, match=r"openvino/mine/640x480: 1\.00 times eager float32, stored is 2\.00"):
        run(*common, "--check", str(store))


def test_cost_against_size_ends_with_4k_in_tiles(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    output = run("--weights", str(weights), "--engine", "openvino", "--cost")
    for size in ("320x240", "640x480", "1920x1080", "3840x2160 tiled"):
        assert f"openvino/mine/{size}" in output


def test_what_is_measured_is_told_and_kept_at_once(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    measure, report = benchmark.run_case, tmp_path / "b.json"
    told: list[str] = []

    def stopped_at_the_third(case: Case) -> Result | Failure:
        if len(told) == 2:
            raise KeyboardInterrupt
        told.append(case.key)
        return measure(case)

    monkeypatch.setattr(benchmark, "run_case", stopped_at_the_third)
    common = ["benchmark", "--weights", str(weights), "--engine", "openvino", "--size", "640x480", "--size", "320x240"]
    result = CliRunner().invoke(build_cli(), [*common, "--json", str(report)])
    assert result.exit_code != 0
    assert "1/4 torch/mine/640x480: 100.0 ms" in result.output
    assert "2/4 openvino/mine/640x480: 50.0 ms" in result.output
    assert [entry["key"] for entry in json.loads(report.read_text())["results"]] == told
    in_this_process(monkeypatch)
    run(*common[1:], "--json", str(report), "--add")
    assert len(json.loads(report.read_text())["results"]) == 4


def test_the_list_of_engines() -> None:
    assert "openvino-video" in run("--list")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engine", "abacus"],
        ["--size", "640"],
        ["--size", "8x8"],
        ["--plot", "figure.txt"],
        ["--check", "missing.json"],
        ["--preset", "tiny"],
    ],
)
def test_bad_usage(weights: Path, arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        run("--weights", str(weights), *arguments)


def test_sizes_are_width_times_height() -> None:
    assert parse_size("640x480") == (480, 640)
