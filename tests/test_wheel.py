"""The wheel in an empty environment, away from the checkout: every command of the README runs; and without Qt.

LUMITHERM_OWN_PACKAGES=1: with all its dependencies installed anew (minutes, and the network) in place of borrowed ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import site
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import headless_requirements
import pytest
from filelock import FileLock
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("app", "calibration", "configs", "fusion_core", "LICENSE", "README.md", "pyproject.toml")


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all processes of a run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def wheel(together: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once a run, and from a copy, so that no build folder stays in the checkout."""
    output = together / "wheel"
    with FileLock(together / "wheel.lock"):
        if not any(output.glob("*.whl")):
            build_wheel(tmp_path_factory.mktemp("source"), output)
    (built,) = output.glob("*.whl")
    return built


def build_wheel(source: Path, output: Path) -> None:
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        output,
        source,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip("no setuptools in this environment to build with")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def installed(wheel: Path, together: Path) -> Path:
    """`bin` of an environment that has the wheel, and borrows everything else from this one, or has its own."""
    folder, ready = together / "environment", together / "environment.ready"
    with FileLock(together / "environment.lock"):
        if not ready.exists():
            install_wheel(wheel, folder)
            ready.touch()
    return folder / "bin"


def install_wheel(wheel: Path, folder: Path) -> None:
    if os.environ.get("LUMITHERM_OWN_PACKAGES"):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
        command = [folder / "bin" / "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", "torch", wheel]
        subprocess.run(list(map(str, command)), cwd=folder, env=environment(folder / "bin", folder), check=True)
        return
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")  # paths alone: no editable install
    command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps",
               "--no-index", "--ignore-installed", wheel]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, timeout=300)


def environment(bin_folder: Path, home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")  # engines that were built before
    return kept | {"PATH": f"{bin_folder}:{kept['PATH']}", "XDG_CACHE_HOME": cache, "XDG_DATA_HOME": str(home),
                   "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"} | more  # fmt: skip


def run(command: list[str], folder: Path, bin_folder: Path) -> subprocess.CompletedProcess[str]:
    """In this folder, with the installed wheel."""
    (folder / ".data").mkdir(exist_ok=True)
    variables = environment(bin_folder, folder / ".data")
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_wheel_has_what_an_installation_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in ("app", "calibration", "fusion_core")} <= names
    configs = {f"app/configuration/examples/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert configs <= names and "app/gui/icons/lumitherm.svg" in names
    tracked = {str(path.relative_to(ROOT)) for package in ("app", "calibration", "fusion_core")
               for path in (ROOT / package).rglob("*.py")}  # fmt: skip
    assert tracked <= names, sorted(tracked - names)[:5]
    assert not {name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))}
    assert wheel.stat().st_size < 6e6


def test_it_runs_from_where_it_was_installed_whatever_lies_in_the_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    for command in (["lumitherm", "--version"], ["python", "-P", "-m", "app", "--version"]):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(installed, tmp_path), capture_output=True, text=True
        )
        assert done.stdout == f"lumitherm {version('lumitherm')}\n", done.stderr
    code = "import app, fusion_core; print(app.__file__, fusion_core.__file__)"
    done = subprocess.run(
        ["python", "-P", "-c", code], env=environment(installed, tmp_path), capture_output=True, text=True
    )
    assert all(path.startswith(str(installed.parent)) for path in done.stdout.split())


@pytest.mark.slow
@pytest.mark.timeout(3600)  # each command has a limit of its own
def test_every_command_of_the_readme_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    commands = readme_commands()
    assert len(commands) >= 8 and all(command.startswith("lumitherm ") for command in commands)
    for command in commands:
        done = run(["bash", "-c", command], tmp_path, installed)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "out/demo/contact_sheet.png").is_file() and (tmp_path / "pictures/pairs.csv").is_file()


NO_QT = "\n".join(f"sys.modules[{name!r}] = None" for name in ("PyQt6", "superqt", "pyqtgraph", "qtawesome"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("run --simulated --headless --duration-s 1 --set engine.name=average --set simulation.width=160 "
         "--set simulation.height=120 --set simulation.thermal_width=160 --set simulation.thermal_height=120", 0),
        ("config check rig.yaml", 0), ("fuse a b -o c", 2), ("gui --simulated", 1),
        *(pytest.param(words, code, marks=pytest.mark.slow) for words, code in (
            ("config init -o -", 0), ("devices", 0), ("models list", 0), ("engine list", 0), ("train", 2),
            ("calibrate board -o board.pdf", 0), ("recording export none.mkv -o x", 2), ("ctl status", 1),
            ("service install -c rig.yaml --dry-run", 0), ("dataset build -o x", 2), ("benchmark --list", 0),
            ("evaluate --pairs none --engine average", 2), ("archive none -o x", 2), ("desktop install", 0),
            ("demo -o d --duration-s 0.4 --engine pyramid", 0), ("models export tiny -o x.y", 2),
        )),
    ],
)  # fmt: skip
def test_every_command_but_gui_runs_without_qt(installed: Path, tmp_path: Path, words: str, code: int) -> None:
    shutil.copy(ROOT / "configs" / "simulated.yaml", tmp_path / "rig.yaml")
    program = (
        f"import sys\n{NO_QT}\nsys.argv = ['lumitherm', *{words.split()!r}]\nfrom app.__main__ import main\nmain()"
    )
    done = run(["python", "-P", "-c", program], tmp_path, installed)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    if words.startswith("gui"):
        assert "HEADLESS" in done.stderr or "pip install" in done.stderr


@pytest.mark.slow
def test_the_window_opens_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    program = subprocess.Popen(["lumitherm", "gui", "--simulated"], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                               env=environment(installed, tmp_path / ".data"))  # fmt: skip
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(15)
        program.send_signal(signal.SIGINT)
        assert program.wait(60) in (0, -signal.SIGINT)
    finally:
        program.kill()
        program.communicate()


def test_the_headless_requirements_are_made_of_the_project() -> None:
    text = headless_requirements.FILE.read_text()
    assert text == headless_requirements.text(), "run python scripts/headless_requirements.py"
    names = {Requirement(line).name.lower() for line in text.splitlines() if "==" in line}
    assert not names & {"pyqt6", "superqt", "pyqtgraph", "qtawesome"} and {"torch", "av"} <= names
    for name in ("Dockerfile", "Dockerfile.jetson"):
        assert "requirements-headless.txt" in (ROOT / "deploy" / name).read_text()
