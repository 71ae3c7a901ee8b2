"""Which package may import what, checked on the source; and that the light entry points stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QT = {"PyQt6", "superqt", "pyqtgraph", "qtawesome"}
HEAVY = {"torch", "torch_tensorrt", "openvino", "onnxruntime", "onnx"}
NUMPY_ONLY = ("fusion_core/frames.py", "fusion_core/errors.py")
NO_TORCH_PREFIXES = (
    "fusion_core/pair_folder", "fusion_core/simulation", "fusion_core/agc", "fusion_core/palettes",
    "fusion_core/shift", "fusion_core/colour", "fusion_core/metrics", "fusion_core/ghost", "fusion_core/flicker",
    "fusion_core/displacement", "fusion_core/pyramid_engine",
)  # fmt: skip
CALIBRATION_MAY = {
    "fusion_core.frames", "fusion_core.errors", "fusion_core.pair_folder", "fusion_core.simulation",
    "fusion_core.shift", "fusion_core.colour",
}  # fmt: skip
TENSORRT_FILES = {"fusion_core/tensorrt_engine.py"}


def modules_in(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Every module that the file imports, wherever in the file; `if TYPE_CHECKING` blocks do not count."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                skipped.update(ast.walk(child))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", [ROOT / name for name in NUMPY_ONLY], ids=str)
def test_frames_and_errors_import_numpy_alone(path: Path) -> None:
    third_party = {top for top in tops(imports_of(path)) if top not in sys.stdlib_module_names}
    assert third_party <= {"numpy", "fusion_core"}


def test_fusion_core_knows_neither_app_nor_calibration_nor_qt() -> None:
    for path in modules_in("fusion_core"):
        relative = path.relative_to(ROOT).as_posix()
        found = tops(imports_of(path))
        assert not found & ({"app", "calibration"} | QT), relative
        if relative.startswith(NO_TORCH_PREFIXES):
            assert not found & HEAVY, relative
        if "torch_tensorrt" in found:
            assert relative in TENSORRT_FILES, relative


@pytest.mark.parametrize("package", ["app", "fusion_core", "calibration", "benchmarks", "scripts"])
def test_openvino_is_imported_without_its_telemetry(package: str) -> None:
    """By `fusion_core.openvino_runtime`, and nobody else."""
    for path in modules_in(package):
        assert "openvino" not in tops(imports_of(path)), path


def test_calibration_knows_neither_torch_nor_app_nor_qt() -> None:
    for path in modules_in("calibration"):
        names = imports_of(path)
        relative = path.relative_to(ROOT).as_posix()
        assert not tops(names) & ({"app"} | QT | HEAVY), relative
        for name in names:
            if name.startswith("fusion_core."):
                assert any(within(name, allowed) for allowed in CALIBRATION_MAY), f"{relative} imports {name}"


def test_app_outside_the_window_knows_no_qt() -> None:
    for path in modules_in("app"):
        relative = path.relative_to(ROOT).as_posix()
        if relative.startswith("app/gui/"):
            continue
        assert not tops(imports_of(path)) & QT, relative


def test_the_window_knows_neither_torch_nor_opencv_nor_capture() -> None:
    for path in modules_in("app/gui"):
        names = imports_of(path)
        relative = path.relative_to(ROOT).as_posix()
        assert not tops(names) & (HEAVY | {"cv2", "av"}), relative
        assert not any(within(name, "app.capture") for name in names), relative


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("fusion_core", "torch cv2 openvino PyQt6"),
        ("app.__main__", "torch openvino PyQt6 matplotlib scipy"),
        ("calibration", "torch PyQt6"),
        ("app.live_fusion", "torch PyQt6 openvino"),
    ],
)
def test_importing_stays_light(module: str, forbidden: str) -> None:
    code = f"import sys, {module}; print(' '.join(m for m in {forbidden.split()!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
