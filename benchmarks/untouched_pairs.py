"""Make aligned pairs of pictures that took no part in any choice, to be reported once, with `lumitherm evaluate`.

    python benchmarks/untouched_pairs.py DATA out/untouched
    lumitherm evaluate --pairs out/untouched/misaligned --weights small --weights tiny --engine aligned-pyramid ...

`misaligned`: raw pairs of cameras side by side, thermal brought onto visible by the affine map of their marked points
and cut to what both show. `sequences`: the first and the middle picture of each video.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

_LEAST = (256, 320)  # rows and columns that `evaluate` looks at


def main() -> None:
    """Parse the arguments and write the two folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    misaligned = given.data / "pairs" / "misaligned"
    for name, facts in json.loads((misaligned / "landmarks.json").read_text()).items():
        if "affine_ir_to_vi" in facts:
            visible, thermal = (_read(next((misaligned / side).glob(f"{name}.*"))) for side in ("vi", "ir"))
            _write(given.out / "misaligned", name, *_registered(visible, thermal, np.array(facts["affine_ir_to_vi"])))
    for facts_file in sorted((given.data / "video").glob("*.json")):
        for index in (0, json.loads(facts_file.read_text())["frames"] // 2):
            pair = [_frame(facts_file.with_name(f"{facts_file.stem}_{side}.mp4"), index) for side in ("vi", "ir")]
            _write(given.out / "sequences", f"{facts_file.stem}_{index}", *pair)


def _registered(visible: np.ndarray, thermal: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = visible.shape[1::-1]
    warped = cv2.warpAffine(thermal, affine, size, flags=cv2.INTER_LINEAR)
    seen = cv2.warpAffine(np.full(thermal.shape[:2], 255, np.uint8), affine, size) == 255
    top, bottom, left, right = 0, size[1], 0, size[0]
    while not seen[top:bottom, left:right].all():  # the side with the largest share of blank pixels moves in
        blank = ~seen[top:bottom, left:right]
        sides = [blank[0].mean(), blank[-1].mean(), blank[:, 0].mean(), blank[:, -1].mean()]
        side = int(np.argmax(sides))
        top, bottom, left, right = top + (side == 0), bottom - (side == 1), left + (side == 2), right - (side == 3)
    return visible[top:bottom, left:right], warped[top:bottom, left:right]


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path} is no picture")
    return picture


def _frame(path: Path, index: int) -> np.ndarray:
    video = cv2.VideoCapture(str(path))
    for _ in range(index + 1):
        read, picture = video.read()
        if not read:
            raise SystemExit(f"{path} has no picture {index}")
    return picture


def _write(folder: Path, name: str, visible: np.ndarray, thermal: np.ndarray) -> None:
    if visible.shape[0] < _LEAST[0] or visible.shape[1] < _LEAST[1]:
        print(f"{name}: both cameras show {visible.shape[1]}x{visible.shape[0]} px, too little for `evaluate`")
        return
    for side, picture in (("vi", visible), ("ir", cv2.cvtColor(thermal, cv2.COLOR_BGR2GRAY))):
        (folder / side).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / side / f"{name}.png"), picture)


if __name__ == "__main__":
    main()
