"""Checks what is installed, without a network: consistent, pinned, with licences that fit, and none of the known bad.

    python scripts/audit.py

Exit code 1 with a line for each finding. Where `pip-audit` is installed it is asked too, and how many packages its
database knew is said: pip-audit itself ends with 0 when it could look up none. A database that is out of reach is said,
and is no failure.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
OWN = "lumitherm"
UNPINNED = {"pip", "setuptools", "wheel", OWN}  # of the environment itself

# GPL-3.0-or-later may be combined with these; what says nothing in its metadata is listed below by name.
ALLOWED = re.compile(
    r"\b(MIT(-0|-CMU)?|BSD|0BSD|Apache|ISC|MPL|Mozilla|PSF|Python Software|HPND|Zlib|Unlicense|CC0|LGPL|GPL"
    r"|GNU General Public|GNU Lesser|CNRI|EPL)\b",
    re.IGNORECASE,
)
PROPRIETARY = {  # loaded where somebody installs them; not part of what is handed on
    "cuda": "CUDA parts of PyTorch: NVIDIA's licence, redistributable",
    "nvidia": "CUDA parts of PyTorch: NVIDIA's licence, redistributable",
    "tensorrt": "optional engine; NVIDIA's licence, not handed on",
}
KNOWN_BAD_DATED = "2026-11-29"
"""When somebody last went through the list below. What was published after that day is not in it."""
KNOWN_BAD = {  # (name, versions below this are refused): why
    ("pillow", "10.3.0"): "CVE-2024-28219, buffer overflow",
    ("pyyaml", "5.4"): "CVE-2020-14343, code execution by full_load",
    ("jinja2", "3.1.6"): "CVE-2025-27516, sandbox escape",
    ("starlette", "0.49.1"): "CVE-2025-62727, quadratic Range headers",
    ("h11", "0.16.0"): "CVE-2025-43859, request smuggling",
    ("torch", "2.6.0"): "CVE-2025-32434, torch.load runs code",
    ("certifi", "2024.7.4"): "CVE-2024-39689, withdrawn authorities",
    ("urllib3", "2.5.0"): "CVE-2025-50181, redirects",
    ("requests", "2.32.4"): "CVE-2024-47081, leaks credentials",
    ("protobuf", "5.29.5"): "CVE-2025-4565, recursion",
    ("onnx", "1.16.2"): "CVE-2024-5187, writes outside its folder",
    ("fonttools", "4.60.2"): "CVE-2025-66034, writes outside its folder",
    ("filelock", "3.20.1"): "CVE-2025-68146, symbolic link race",
}


def plain(name: str) -> str:
    """A package's name as pins have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def number(version: str) -> tuple[int, ...]:
    """Its leading numbers, to compare by."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])


def pins(text: str) -> dict[str, str]:
    """Name to version, of a constraints file."""
    lines = (line.split("#")[0].split(";")[0].strip() for line in text.splitlines())
    return {plain(name): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}


def licence(package: metadata.Distribution) -> str:
    """What it says of its licence."""
    said = package.metadata
    classifiers = [entry for entry in said.get_all("Classifier", []) if entry.startswith("License")]
    return " ".join([said.get("License-Expression") or "", *classifiers, (said.get("License") or "")[:200]]).strip()


def wanted(extras: frozenset[str] = frozenset({"dev", "train"})) -> set[str]:
    """All that the project needs here with these extras, and what that needs in turn."""
    found: set[str] = set()
    left: list[tuple[str, frozenset[str]]] = [(OWN, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        name, more = left.pop()
        if (name, more) in seen:
            continue
        seen.add((name, more))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(plain(name))
        for need in map(Requirement, needs):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*more, "")):
                left.append((need.name, frozenset(need.extras)))
    return found


def findings(packages: list[tuple[str, str, str]], pinned: dict[str, str]) -> list[str]:
    """What is wrong with these (name, version, licence)."""
    wrong = []
    for name, version, said in packages:
        if name in UNPINNED:
            continue
        if name not in pinned:
            wrong.append(f"{name} {version} is installed and not pinned; add it to constraints.txt, or uninstall it")
        elif pinned[name] != version.split("+")[0]:
            wrong.append(f"{name} {version} is installed, constraints.txt says {pinned[name]}; run make setup")
        if not (ALLOWED.search(said) or any(name.startswith(known) for known in PROPRIETARY)):
            wrong.append(f"{name} {version}: licence {said[:60]!r} is not known to fit; look at it, then add it here")
    for (bad, least), why in KNOWN_BAD.items():
        wrong += [
            f"{name} {version} has {why}; wanted {least} or newer"
            for name, version, _ in packages
            if name == bad and number(version) < number(least)
        ]
    return wrong


def read_pip_audit(text: str) -> tuple[str, list[str]]:
    """What its JSON comes to, in a few words, and a line for each known fault."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return "pip-audit did not reach its database", []
    known = [package for package in packages if "skip_reason" not in package]
    wrong = [
        f"{package['name']} {package['version']} has {fault['id']}; mended in {', '.join(fault['fix_versions']) or '?'}"
        for package in known
        for fault in package.get("vulns", ())
    ]
    return f"pip-audit's database knew {len(known)} of the {len(packages)} that are installed", wrong


def ask_pip_audit() -> tuple[str, list[str]]:
    """The same of the pip-audit beside this Python, or of the one on the PATH."""
    auditor = shutil.which("pip-audit", path=str(Path(sys.executable).parent)) or shutil.which("pip-audit")
    if auditor is None:
        return "pip-audit is not installed, so only the list of known bad versions here was asked", []
    command = [auditor, "--progress-spinner=off", "--format=json", "--timeout=10"]
    command += [f"--path={folder}" for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired:
        return "pip-audit did not answer within ten minutes", []
    return read_pip_audit(asked.stdout)


def verdict(note: str) -> str:
    """Against what vulnerabilities were judged, in one plain sentence."""
    known = re.search(r"knew (\d+) of the (\d+)", note)
    named = f"our own list of {len(KNOWN_BAD)} known bad versions, dated {KNOWN_BAD_DATED}"
    if known is not None and int(known[1]):
        return f"vulnerabilities: judged against a database for {known[1]} of {known[2]} packages, and against {named}"
    covered = len({name for name, _ in KNOWN_BAD})
    return (
        f"vulnerabilities: NO database has judged these versions. Judged against {named}: {covered} packages are in it,"
        " for all others this audit says nothing"
    )


def main() -> int:
    """The command; its exit code."""
    installed = sorted((plain(p.metadata["Name"]), p.version, licence(p)) for p in metadata.distributions())
    needed = wanted()
    packages = [package for package in installed if package[0] in needed]
    others = [name for name, _, _ in installed if name not in needed | UNPINNED]
    wrong = findings(packages, pins((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        wrong += check.stdout.strip().splitlines()
    note, vulnerable = ask_pip_audit()
    wrong += vulnerable
    if others:
        print(f"not looked at, because nothing here needs it: {', '.join(others)}")
    print(f"{len(packages)} packages looked at, {len(wrong)} findings; {note}")
    print(verdict(note))
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
