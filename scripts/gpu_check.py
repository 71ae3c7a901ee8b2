"""Accepts the GPU path on a machine with a GPU: one command, which can be broken off and run again.

    python scripts/gpu_check.py --out out/gpu                  # until everything has run, at most ten minutes a call
    python scripts/gpu_check.py --out out/gpu --device cpu     # a rehearsal: the same code, small pictures, no GPU

Each step runs in a child process with a limit of its own. After each, `gpu.json` and `gpu.md` in the folder hold what
is known; a step that has passed is not run again. The exit code is 0 when every step has passed or was skipped by name,
1 otherwise, also while steps are left that did not fit into the budget: the same command goes on with them. What is
then left of the time trains `base`, on the crops or on the folder of `--pairs`; each further call goes on with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

WORD = "result "
_REHEARSAL_SLOWER = 4.0  # FP16 is emulated there, and a test machine has other work


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json, gpu.md and engines")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ..., or cpu for a rehearsal")
    parser.add_argument(
        "--budget-s", type=float, default=560.0, help="no step begins that may take longer than is left"
    )
    parser.add_argument("--step", action="append", help="only this one (repeatable); also when it has passed before")
    parser.add_argument("--skip", action="append", default=[], help="a step that need not run here (repeatable)")
    parser.add_argument("--pairs", type=Path, help="folder of aligned pairs to train `base` on (vi/ and ir/)")
    parser.add_argument("--limit-s", type=float, help=argparse.SUPPRESS)  # of the child
    parser.add_argument("--run", help=argparse.SUPPRESS)  # the child
    given = parser.parse_args(arguments)
    from gpu_steps import STEPS

    wrong = [name for name in [*(given.step or []), *given.skip] if name not in STEPS]
    if wrong:
        parser.error(f"there is no step {wrong[0]!r}; the steps are {', '.join(STEPS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    return _child(given) if given.run else _drive(given, STEPS)


def _drive(given: argparse.Namespace, steps: dict[str, Any]) -> int:
    path = given.out / "gpu.json"
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if state.get("device") != given.device:
        state = {"device": given.device, "steps": {}}
    ends_s = time.monotonic() + given.budget_s
    last = list(steps)[-1]
    for name, (_, limit_s) in steps.items():
        known = state["steps"].get(name, {})
        goes_on = name == last and limit_s <= ends_s - time.monotonic()  # it ends when the time does
        if (given.step and name not in given.step) or (
            not given.step and known.get("state") == "passed" and not goes_on
        ):
            continue
        if goes_on:
            limit_s = ends_s - time.monotonic()
        if name in given.skip:
            state["steps"][name] = {"state": "skipped by name"}
        elif not goes_on and limit_s > ends_s - time.monotonic():
            state["steps"][name] = {"state": "left for the next call"}
        else:
            print(f"{name} ...", flush=True)
            patience = 1.0 if given.device.startswith("cuda") or goes_on else _REHEARSAL_SLOWER
            state["steps"][name] = _step(name, limit_s * patience, given)
            print(f"{name}: {state['steps'][name]['state']}", flush=True)
        path.write_text(json.dumps(state, indent=1))
        (given.out / "gpu.md").write_text(_markdown(state, list(steps)))
    red = [name for name in steps if state["steps"].get(name, {}).get("state") not in ("passed", "skipped by name")]
    print((given.out / "gpu.md").read_text())
    return 1 if red else 0


def _step(name: str, limit_s: float, given: argparse.Namespace) -> dict[str, Any]:
    call = [sys.executable, str(Path(__file__).resolve()), "--run", name, "--device", given.device, "--out", given.out]
    call += ["--limit-s", limit_s, *(["--pairs", given.pairs] if given.pairs else [])]
    began_s = time.monotonic()
    try:
        done = subprocess.run(list(map(str, call)), capture_output=True, text=True, timeout=limit_s, errors="replace")
    except subprocess.TimeoutExpired:
        return {"state": "failed", "seconds": limit_s, "reason": f"it took longer than {limit_s:.0f} s"}
    seconds = round(time.monotonic() - began_s, 1)
    said = [line.removeprefix(WORD) for line in done.stdout.splitlines() if line.startswith(WORD)]
    if not said:
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {"state": "failed", "seconds": seconds, "reason": f"ended with code {done.returncode}: {reason[:500]}"}
    return {"seconds": seconds, **json.loads(said[-1])}


def _child(given: argparse.Namespace) -> int:
    from gpu_steps import STEPS, Machine, Skip

    work, limit_s = STEPS[given.run]
    small = not given.device.startswith("cuda")
    machine = Machine(given.device, given.out, small, given.limit_s or limit_s, given.pairs)
    try:
        figures = work(machine)
        result = {"state": "passed", "figures": figures}
        skips = [f"{key}: {value}" for key, value in figures.items() if str(value).startswith("skipped")]
        if skips and machine.cuda:  # without a GPU there is nothing else to be had
            result = {"state": "skipped in part", "reason": "; ".join(skips), "figures": figures}
    except Skip as why:
        result = {"state": "skipped", "reason": str(why)}
    except Exception as error:
        result = {"state": "failed", "reason": f"{type(error).__name__}: {error}"[:1000]}
    print(WORD + json.dumps(result, default=str), flush=True)
    return 0


def _markdown(state: dict[str, Any], names: list[str]) -> str:
    """What failed first, then everything."""
    steps = state["steps"]
    what = "rehearsal without a GPU" if state["device"] == "cpu" else state["device"]
    lines = [f"# GPU check ({what})", ""]
    red = [name for name in names if steps.get(name, {}).get("state", "") not in ("passed", "skipped by name")]
    for name in red:
        known = steps.get(name, {"state": "not run"})
        lines.append(f"- **{name}**: {known['state']}. {known.get('reason', '')}".rstrip())
    lines += ["", "| step | state | s |", "|---|---|---|"]
    lines += [f"| {name} | {each['state']} | {each.get('seconds', '')} |" for name, each in steps.items()]
    for name, each in steps.items():
        figures = dict(each.get("figures") or {})
        if not figures:
            continue
        lines += ["", f"## {name}", ""]
        rows = figures.pop("rows", [])
        if rows:
            lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
            lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
            lines.append("")
        lines += [f"- {key}: {value}" for key, value in figures.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
