"""`lumitherm engine build|list|clean`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from app.__main__ import build_cli
from fusion_core.checkpoint import save_checkpoint
from fusion_core.engines import cache as engine_cache
from fusion_core.errors import EngineError, LumithermError, UsageError
from fusion_core.rfvif import Rfvif, RfvifConfig


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(engine_cache, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "lumitherm" / "engines"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network without alignment and most parts: small, so that it converts quickly."""
    path = tmp_path / "mine.safetensors"
    config = RfvifConfig(
        channels=4, light=True, residual_blocks=1, fdam=False, refine_visible=False, refine_infrared=False
    )
    save_checkpoint(path, Rfvif(config), {})
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(build_cli(), ["engine", *arguments])
    if isinstance(result.exception, LumithermError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_build_list_and_clean(cache_folder: Path, weights: Path) -> None:
    assert "no engines in" in run("list")
    output = run("build", "--engine", "openvino", "--weights", str(weights), "--size", "80x64")
    assert "for 80x64 is ready" in output
    listed = run("list")
    assert "openvino-whole" in listed
    assert "80x64" in listed
    assert len(list(cache_folder.glob("openvino-whole-*/model.xml"))) == 1
    assert run("clean").startswith("freed 0.0 MiB")
    assert "openvino-whole" in run("list")
    run("clean", "--all")
    assert "no engines in" in run("list")


def test_a_damaged_entry_is_listed_as_such(cache_folder: Path) -> None:
    run("list")
    (cache_folder / "tensorrt-1234").mkdir()
    (cache_folder / "tensorrt-1234" / "key.json").write_text("{")
    assert "damaged: tensorrt-1234" in run("list")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_tensorrt_without_a_gpu_says_so(cache_folder: Path, weights: Path) -> None:
    with pytest.raises(EngineError, match="no CUDA device"):
        run("build", "--engine", "tensorrt", "--weights", str(weights))


def test_engines_without_files_cannot_be_built(cache_folder: Path) -> None:
    with pytest.raises(UsageError, match="nothing to build"):
        run("build", "--engine", "pyramid")
