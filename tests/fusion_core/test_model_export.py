"""`lumitherm models export`: the file fuses as the reference engine does, and one that does not is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.__main__ import build_cli
from fusion_core.benchmark import onnx_engine
from fusion_core.checkpoint import load_checkpoint
from fusion_core.engines.openvino_runtime import load_openvino
from fusion_core.errors import EngineError, UsageError
from fusion_core.model_store import resolve_weights

SIZE = (64, 96)  # height, width


def export(*words: object) -> str:
    result = CliRunner().invoke(build_cli(), ["models", "export", "tiny", "--size", "96x64", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.integers(0, 256, (*SIZE, 3), np.uint8), random.integers(0, 256, SIZE, np.uint8)


@pytest.mark.slow
def test_openvino_takes_the_names_and_shapes_that_are_promised(tmp_path: Path) -> None:
    said = export("-o", tmp_path / "tiny.xml")
    assert "openvino for 96x64" in said and float(said.split(", ")[1].split(" dB")[0]) > 40
    model = load_openvino().Core().read_model(str(tmp_path / "tiny.xml"))
    assert [each.get_any_name() for each in model.inputs] == ["visible_y", "infrared"]
    assert [list(each.shape) for each in (*model.inputs, *model.outputs)] == [[1, 1, *SIZE]] * 3
    assert (tmp_path / "tiny.bin").stat().st_size > 100_000
    with pytest.raises(UsageError, match="--overwrite"):
        export("-o", tmp_path / "tiny.xml")


@pytest.mark.slow
def test_onnx_is_read_by_its_own_runtime_and_its_checker(tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    assert "onnx for 96x64" in export("-o", tmp_path / "tiny.onnx")
    onnx.checker.check_model(str(tmp_path / "tiny.onnx"), full_check=True)
    session = runtime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    assert {each.name: each.shape for each in session.get_inputs()} == {
        "visible_y": [1, 1, *SIZE], "infrared": [1, 1, *SIZE]
    }  # fmt: skip


def test_a_file_that_fuses_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lambda path, visible, thermal: 1.0 - visible  # noqa: E731
    monkeypatch.setattr(onnx_engine, "_write_openvino", lambda network, path, size: None)
    monkeypatch.setattr(onnx_engine, "_run_openvino", wrong)
    with pytest.raises(EngineError, match="fuses otherwise"):
        onnx_engine.export_model(load_checkpoint(resolve_weights("tiny")), tmp_path / "x.xml", "openvino", SIZE, pair())


def test_the_ending_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"NAME\.onnx"):
        export("-o", tmp_path / "tiny.xml", "--format", "onnx")
