"""Which package may import what, checked on the source; and that the light entry points stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QT = {"PyQt6", "superqt", "pyqtgraph", "qtawesome"}
HEAVY = {"torch", "torch_tensorrt", "openvino", "onnxruntime", "onnx"}
NUMPY_ONLY = ("fusion_core/frames.py", "fusion_core/errors.py")
NO_TORCH = (
    "fusion_core/pair_folder.py", "fusion_core/picture_file.py", "fusion_core/picture_formats/",
    "fusion_core/simulation/", "fusion_core/thermal/", "fusion_core/shift.py",
    "fusion_core/cross_spectral.py",
    "fusion_core/colour.py", "fusion_core/measures/metrics.py", "fusion_core/measures/ghost.py",
    "fusion_core/measures/flicker.py", "fusion_core/measures/displacement.py", "fusion_core/engines/pyramid_engine.py",
)  # fmt: skip
CALIBRATION_MAY = {
    "fusion_core.frames", "fusion_core.errors", "fusion_core.files", "fusion_core.pair_folder",
    "fusion_core.redaction", "fusion_core.yaml_config",
    "fusion_core.simulation", "fusion_core.cross_spectral", "fusion_core.shift", "fusion_core.colour",
}  # fmt: skip
TENSORRT_FILES = {"fusion_core/engines/tensorrt_engine.py"}

LAYERS = (
    ("fusion_core.redaction",),
    ("fusion_core.errors",),
    ("fusion_core.config_faults", "fusion_core.cross_spectral", "fusion_core.files", "fusion_core.frames"),
    ("fusion_core.colour", "fusion_core.picture_formats", "fusion_core.shift", "fusion_core.simulation",
     "fusion_core.thermal", "fusion_core.rfvif", "fusion_core.yaml_config"),
    ("fusion_core.picture_file",),
    ("fusion_core.pair_folder",),
    ("fusion_core.checkpoint",),
    ("fusion_core.model_store",),
    ("fusion_core.engines.gpu",),
    ("fusion_core.engines",),
    ("fusion_core.measures", "fusion_core.benchmark", "fusion_core.training", "fusion_core"),
    ("fusion_core.training.finetuning",),
    ("calibration",),
    ("app.media", "app.capture.sync_config"),
    ("app.capture.pairing",),
    ("app.process",),
    ("app.capture.cameras", "app.recording"),
    ("app.view", "app.capture", "app.recording.writing"),
    ("app.configuration",),
    ("app.logging_setup", "app.pipeline.state"),
    ("app.pipeline.engine",),
    ("app.pipeline",),
    ("app.rig", "app.playback", "app.dataset", "app.jobs", "app.service.state"),
    ("app.service.web", "app.service.tasks"),
    ("app.service",),
    ("app.gui.common",),
    ("app.gui.widgets",),
    ("app.gui.picture",),
    ("app.gui.measuring",),
    ("app.gui.live",),
    ("app.gui.playback", "app.gui.setup"),
    ("app.gui",),
    ("app.commands.common",),
    ("app.commands.calibrate", "app.commands.network"),
    ("app.commands",),
    ("app.__main__",),
)  # fmt: skip
"""From the bottom up. A folder, or a module of a package's root, imports only what stands in a lower line."""

MOST_MODULES = 15
FLAT_LIBRARIES = {"calibration"}  # no circles, one concept a module


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


def room_of(module: str) -> str:
    """The longest name in LAYERS that the module lies in; a package's own modules are not those of its folders."""
    known = {name for layer in LAYERS for name in layer}
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in known), module)


def test_arrows_between_folders_point_down_only() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for package in ("fusion_core", "calibration", "app"):
        for path in modules_in(package):
            relative = path.relative_to(ROOT).with_suffix("")
            module = ".".join(relative.parts).removesuffix(".__init__")
            for name in imports_of(path):
                if name.split(".")[0] not in ("fusion_core", "calibration", "app") or is_deferred_entry(module, name):
                    continue
                source, target = room_of(module), room_of(name)
                if source != target and not level.get(source, -1) > level.get(target, len(LAYERS)):
                    wrong.append(f"{module} ({source}) imports {name} ({target})")
    assert not wrong, "\n".join(wrong)


def is_deferred_entry(module: str, name: str) -> bool:
    """A package's own name, as in `from app import process`, says nothing: the module after it does."""
    return name in ("app", "fusion_core") or module in ("app", "fusion_core")


@pytest.mark.parametrize("package", ["app", "fusion_core"])
def test_no_folder_is_crowded(package: str) -> None:
    folders = {path.parent for path in modules_in(package)}
    counts = {
        folder.relative_to(ROOT).as_posix(): sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for folder in folders
    }
    assert not {name: count for name, count in counts.items() if count > MOST_MODULES}


def test_every_folder_has_its_layer_and_ships() -> None:
    known = {name for layer in LAYERS for name in layer}
    shipped = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    for package in ("app", "fusion_core", "calibration"):
        for path in modules_in(package):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            room = ".".join(path.parent.relative_to(ROOT).parts)
            assert room in known | {"app", "fusion_core.weights"}, f"{room} has no line in LAYERS"
            assert room_of(module) in known | {"app", "fusion_core.weights"}, module
            assert ".".join(path.parent.relative_to(ROOT).parts) in shipped, path


@pytest.mark.parametrize("package", ["app", "fusion_core", "calibration"])
def test_the_product_imports_neither_tests_nor_benchmarks(package: str) -> None:
    for path in modules_in(package):
        assert not tops(imports_of(path)) & {"tests", "support", "benchmarks", "scripts", "audit"}, path


@pytest.mark.parametrize("path", [ROOT / name for name in NUMPY_ONLY], ids=str)
def test_frames_and_errors_import_numpy_alone(path: Path) -> None:
    third_party = {top for top in tops(imports_of(path)) if top not in sys.stdlib_module_names}
    assert third_party <= {"numpy", "fusion_core"}


def test_fusion_core_knows_neither_app_nor_calibration_nor_qt() -> None:
    for path in modules_in("fusion_core"):
        relative = path.relative_to(ROOT).as_posix()
        found = tops(imports_of(path))
        assert not found & ({"app", "calibration"} | QT), relative
        if relative.startswith(NO_TORCH):
            assert not found & HEAVY, relative
        if "torch_tensorrt" in found:
            assert relative in TENSORRT_FILES, relative


@pytest.mark.parametrize("package", ["app", "fusion_core", "calibration", "benchmarks", "scripts"])
def test_openvino_is_imported_without_its_telemetry(package: str) -> None:
    """By `fusion_core.engines.openvino_runtime`, and nobody else."""
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


LOADING = """
from fusion_core.checkpoint import load_checkpoint
from fusion_core.model_store import resolve_weights
load_checkpoint(resolve_weights("tiny"))"""


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import fusion_core", "torch cv2 openvino PyQt6"),
        ("import app.__main__", "torch openvino PyQt6 matplotlib scipy"),
        ("import calibration", "torch PyQt6"),
        ("import app.pipeline.live_fusion", "torch PyQt6 openvino"),
        (LOADING, "torch._dynamo sympy"),
    ],
)
def test_importing_stays_light(code: str, forbidden: str) -> None:
    code = f"{code}\nimport sys\nprint(' '.join(m for m in {forbidden.split()!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
