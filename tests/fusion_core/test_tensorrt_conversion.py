"""Torch-TensorRT's own conversion of every preset, without a GPU: everything converts, in the types that are wanted.

And what is converted, computed layer by layer on the CPU in those types, gives the picture of float32. Needs the Python
part of torch-tensorrt-rtx in a folder of its own (`make torch-tensorrt`), so that it never shadows anything.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("LUMITHERM_TORCH_TENSORRT") or Path(sys.prefix) / "torch-tensorrt")
PSNR_DB = 60.0

ALL = ("estimate", "refine", "fuse")
CASES = [
    ("brief", (61, 83), ALL),
    pytest.param("tiny", (480, 640), ALL, marks=pytest.mark.slow),
    # One estimate serves all presets.
    pytest.param("tiny", (61, 83), ("fuse",), marks=pytest.mark.slow),
    pytest.param("small", (96, 128), ("fuse",), marks=pytest.mark.slow),
    pytest.param("base", (96, 128), ("fuse",), marks=pytest.mark.slow),
]


def converted(config: str, size: tuple[int, int], programs: tuple[str, ...]) -> dict[str, Any]:
    if not (FOLDER / "torch_tensorrt").is_dir():
        pytest.skip(f"the Python part of torch-tensorrt-rtx is not in {FOLDER}; `make torch-tensorrt` puts it there")
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is there for Linux on x86-64 alone")
    done = subprocess.run(
        [sys.executable, "-m", "support.conversion_worker", str(FOLDER), config, *map(str, size), *programs],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize(("config", "size", "programs"), CASES)
def test_every_program_converts_as_wanted_and_gives_float32s_picture(
    config: str, size: tuple[int, int], programs: tuple[str, ...]
) -> None:
    found = converted(config, size, programs)
    assert set(found["programs"]) == set(programs)
    for name, program in found["programs"].items():
        layers: dict[str, int] = program["layers"]
        assert program["without_converter"] == 0, name
        assert not [kind for kind in layers if kind.startswith("PLUGIN")]
        kinds = {kind for kind in layers if kind.split()[0] in ("CONVOLUTION", "MATRIX_MULTIPLY")}
        assert kinds and kinds <= {"CONVOLUTION HALF", "MATRIX_MULTIPLY HALF"}, name
        exact = {kind for kind in layers if kind.split()[0] in ("GRID_SAMPLE", "SOFTMAX", "REDUCE")}
        assert exact and exact <= {"GRID_SAMPLE FLOAT", "SOFTMAX FLOAT", "REDUCE FLOAT"}, name
        assert set(program["types"][0] + program["types"][1]) == {"FLOAT"}
        print(config, size, name, sum(layers.values()), "layers,", layers["CONVOLUTION HALF"], "convolutions in half")
    print(config, size, f"{found['psnr_db']:.1f} dB, estimate off by {found['estimate_off_px']:.5f} px")
    assert found["change"] > 0.01  # the network does something
    assert found["moved_px"] > 0.5
    assert found["estimate_off_px"] < 0.05 and found["refine_off_px"] < 0.05
    assert found["psnr_db"] >= PSNR_DB
