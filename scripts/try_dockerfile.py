"""Carries out a Dockerfile's steps in a plain folder by chroot, and runs what comes out. As root, without an engine.

    mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm base
    python scripts/try_dockerfile.py deploy/Dockerfile --base base --work work --rig configs/simulated.yaml

`base` stands in for every FROM: it must be the same Debian, with python3 of the same minor version. COPY, RUN, ENV,
USER and WORKDIR do what they say; then ENTRYPOINT and CMD are started with the rig's configuration in its place until
HEALTHCHECK's command succeeds, and ended by STOPSIGNAL. Variables PIP_*, *_PROXY and SSL_CERT_FILE of this shell are
given to RUN. No layers, no namespaces, no limits: what it shows is that the steps work and that their result runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSED = re.compile(r"(PIP_\w+|\w+_PROXY|\w+_proxy|SSL_CERT_FILE)")
READY_S = 180.0


@dataclass
class Stage:
    """One FROM: its folder, and what later steps go by."""

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    user: str = "root"
    folder: str = "/"
    said: dict[str, str] = field(default_factory=dict)  # ENTRYPOINT, CMD, HEALTHCHECK, STOPSIGNAL

    def command(self, words: list[str]) -> list[str]:
        """The same words within this stage, as its user."""
        inside = f"cd {shlex.quote(self.folder)} && exec {shlex.join(words)}"
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        home = [] if "HOME" in self.environment else ["HOME=/root" if self.user == "root" else "HOME=/tmp"]
        return ["chroot", f"--userspec={self.user}", str(self.root), "env", "-i", *home, *settings, "sh", "-c", inside]


def steps(text: str) -> list[tuple[str, str]]:
    """(word, rest) of every step, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def fresh(base: Path, root: Path, binds: list[Path]) -> Stage:
    """A stage that begins as the base. Whatever was in `root` is deleted."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    if left := [place for place in mounted if place.startswith(f"{root}/")]:
        raise SystemExit(f"{left[-1]} is still mounted; umount it first")  # else what it shows would be deleted
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    python = root / "usr/local/bin/python"
    python.unlink(missing_ok=True)
    python.symlink_to("/usr/bin/python3")  # the image that is stood in for has one
    for folder in (Path("/dev"), *binds):
        inside = root / folder.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(folder), str(inside)], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    return Stage(root)


def copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    """COPY, from the checkout or from an earlier stage."""
    words = shlex.split(rest)
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *names, target = words
    place = stage.root / os.path.normpath(Path("/", stage.folder, target)).lstrip("/")
    for name in names:
        origin = source / name.lstrip("/")
        into = place / origin.name if target.endswith("/") and origin.is_file() else place
        into.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, into, symlinks=True, dirs_exist_ok=True, ignore=skip if source == ROOT else None)
        else:
            shutil.copy(origin, into)


def build(dockerfile: Path, base: Path, work: Path, binds: list[Path], stages: dict[str, Stage]) -> Stage:
    """All steps; `stages` is filled on the way. Raises CalledProcessError for a step that fails."""
    arguments: dict[str, str] = {}
    stage: Stage | None = None
    for word, rest in steps(dockerfile.read_text(encoding="utf-8")):
        print(f"{word} {rest[:150]}", flush=True)
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            name = rest.partition(" AS ")[2] or "final"
            stage = stages[name] = fresh(base, work / name, binds)
        elif stage is None:
            raise SystemExit(f"{word} comes before FROM")
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            for setting in shlex.split(rest):
                name, _, value = setting.partition("=")
                stage.environment[name] = value.replace("$PATH", stage.environment["PATH"])
        elif word == "USER":
            stage.user = rest
        elif word == "COPY":
            copy(stage, stages, rest)
        elif word == "RUN":
            given = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
            inside = Stage(stage.root, {**stage.environment, **given}, stage.user, stage.folder)
            began_s = time.monotonic()
            subprocess.run(inside.command(["sh", "-c", rest]), check=True)
            print(f"    {time.monotonic() - began_s:.0f} s", flush=True)
        else:
            stage.said[word] = rest
    if stage is None:
        raise SystemExit("there is no FROM")
    return stage


def run(stage: Stage, rig: Path) -> int:
    """Start what the image would start; 0 when its health check succeeds and it ends in order."""
    place = stage.root / "etc/lumitherm/rig.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(rig.read_bytes())
    words = [*json.loads(stage.said["ENTRYPOINT"]), *json.loads(stage.said["CMD"])]
    check = json.loads(stage.said["HEALTHCHECK"].partition("CMD ")[2])
    print("start", shlex.join(words), flush=True)
    began_s = time.monotonic()
    process = subprocess.Popen(stage.command(words))
    try:
        while subprocess.run(stage.command(check), capture_output=True, check=False).returncode != 0:
            if process.poll() is not None or time.monotonic() - began_s > READY_S:
                print("it did not become healthy", flush=True)
                return 1
            time.sleep(0.5)
        print(f"healthy after {time.monotonic() - began_s:.1f} s", flush=True)
        print(subprocess.run(stage.command(check), capture_output=True, text=True, check=False).stdout, flush=True)
        time.sleep(5)
        process.send_signal(getattr(signal, stage.said.get("STOPSIGNAL", "SIGTERM")))
        code = process.wait(30)
        print(f"ended with {code}", flush=True)
        return 0 if code in (0, 143) else 1
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="unpacked Debian that stands in for every FROM")
    parser.add_argument("--work", type=Path, required=True, help="folder for the stages; several GB")
    parser.add_argument("--rig", type=Path, required=True, help="configuration to start with")
    parser.add_argument("--bind", type=Path, action="append", default=[], help="folder to show inside, e.g. of wheels")
    wanted = parser.parse_args()
    wanted.work.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Stage] = {}
    try:
        stage = build(wanted.dockerfile, wanted.base, wanted.work.resolve(), wanted.bind, stages)
        return run(stage, wanted.rig)
    except subprocess.CalledProcessError as error:
        print(f"a step failed with {error.returncode}", file=sys.stderr)
        return 1
    finally:
        for stage in stages.values():
            for folder in (Path("/proc"), *wanted.bind[::-1], Path("/dev")):
                subprocess.run(["umount", str(stage.root / folder.relative_to("/"))], check=False)


if __name__ == "__main__":
    raise SystemExit(main())
