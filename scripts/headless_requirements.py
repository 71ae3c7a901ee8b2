"""Writes requirements-headless.txt: what a rig without a window needs, pinned; the window's libraries left out.

    python scripts/headless_requirements.py            # writes it
    python scripts/headless_requirements.py --check    # exit code 1 when it is not what it should be

Made of pyproject.toml and constraints.txt. Install with `pip install -r requirements-headless.txt`, then Lumitherm
itself with `pip install --no-deps .`.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "requirements-headless.txt"
WINDOW = {"pyqt6", "superqt", "pyqtgraph", "qtawesome"}
EXTRAS = ("mqtt", "mcap")  # a rig sends events, and its recordings are fetched in other formats


def text() -> str:
    """The file as it should be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    versions = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    wanted = [*project["dependencies"], *(each for extra in EXTRAS for each in project["optional-dependencies"][extra])]
    lines = []
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        if name in WINDOW:
            continue
        marker = f"; {requirement.marker}" if requirement.marker else ""
        lines.append(f"{requirement.name}=={versions[name]}{marker}")
    head = "# Lumitherm without its window. Made by scripts/headless_requirements.py; change pyproject.toml instead."
    return "\n".join([head, "-c constraints.txt", *sorted(lines, key=str.lower)]) + "\n"


def main() -> int:
    """Write or check."""
    if "--check" in sys.argv[1:]:
        same = FILE.read_text() == text()
        print(
            "requirements-headless.txt is " + ("as it should be" if same else "out of date; run this without --check")
        )
        return 0 if same else 1
    FILE.write_text(text())
    print(f"wrote {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
