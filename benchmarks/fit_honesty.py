"""Counts wrong answers about whether thermal lies on visible: pairs of different scenes, and registered pairs.

    python benchmarks/fit_honesty.py [--data DIR] [--each 4] [--only strangers,registered,unaligned]

Strangers: visible of one scene with thermal of another (each visible picture and each clip with some
others; of clips four pictures). Whatever is said of where thermal belongs is wrong there; what should come is that the
pictures do not tell. Registered: the same pictures as they belong; "far off" is a false alarm. Unaligned: raw pairs of
side-by-side cameras. `judge_fit` is what `fuse`, a live run and `dataset build` say unasked; `align_from_nothing` is
what `refine`, `fuse --align auto` and the assistant take. Some fifteen minutes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from app.commands.calibrate.sources import open_pairs
from calibration import targetless
from calibration.coarse_search import CoarseFit, find_similarity
from calibration.rig import plain_scaling
from fusion_core.errors import BadInputError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Pairs = list[tuple[np.ndarray, np.ndarray]]
Case = tuple[str, Pairs]
SEARCHED: dict[tuple[int, ...], CoarseFit] = {}


def pictures(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every pair of a folder with vi/ and ir/, by name."""
    found = {}
    for path in sorted((folder / "vi").iterdir()):
        thermal = next((folder / "ir").glob(f"{path.stem}.*"))
        visible = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR))
        found[path.stem] = visible[..., ::-1].copy(), np.asarray(cv2.imread(str(thermal), cv2.IMREAD_GRAYSCALE))
    return found


def clips(folder: Path) -> dict[str, Pairs]:
    """Four pairs of every clip, by name."""
    names = sorted(path.name.removesuffix("_vi.mp4") for path in folder.glob("*_vi.mp4"))
    found = {}
    for name in names:
        stream = open_pairs(folder / f"{name}_vi.mp4", folder / f"{name}_ir.mp4", 5)
        found[name] = [(pair.visible, pair.thermal) for pair in islice(stream.pairs, 4)]
    return found


def strangers(data: Path, each: int) -> Iterator[Case]:
    """What shows different scenes."""
    for folder in ("vifb", "misaligned"):
        some = pictures(data / "pairs" / folder)
        names = list(some)
        for at, name in enumerate(names):
            for step in range(1, each + 1):
                other = names[(at + step * len(names) // (each + 1)) % len(names)]
                if other.split("_")[0] != name.split("_")[0] or folder == "vifb":
                    yield f"{name} with {other}", [(some[name][0], some[other][1])]
    films = clips(data / "video")
    for at, (name, film) in enumerate(films.items()):
        for step in range(1, each + 1):
            other, heat = list(films.items())[(at + step) % len(films)]
            if other != name:
                yield f"{name} with {other}", [(v, t) for (v, _), (_, t) in zip(film, heat, strict=True)]


def registered(data: Path) -> Iterator[Case]:
    """What lies on each other."""
    for name, pair in pictures(data / "pairs" / "vifb").items():
        yield name, [pair]
    train = pictures(data / "pairs" / "train")
    for name in list(train)[::30]:
        yield name, [train[name]]
    for name, film in clips(data / "video").items():
        if not name.startswith("vtuav"):
            yield name, film


def unaligned(data: Path) -> Iterator[Case]:
    """Raw pairs of side-by-side cameras."""
    for name, pair in pictures(data / "pairs" / "misaligned").items():
        yield name, [pair]


def remembered(pairs: Pairs, **options: object) -> CoarseFit:
    """`find_similarity`, once for the two that ask for it."""
    key = tuple(id(picture) for pair in pairs for picture in pair)
    if key not in SEARCHED:
        SEARCHED.clear()
        SEARCHED[key] = find_similarity(pairs)
    return SEARCHED[key]


def said(pairs: Pairs) -> tuple[str, str]:
    """What `judge_fit` and `align_from_nothing` say of pairs, in a word or two each."""
    visible, thermal = pairs[0]
    plain = plain_scaling((visible.shape[0], visible.shape[1]), (thermal.shape[0], thermal.shape[1]))
    try:
        verdict = targetless.judge_fit(plain, pairs)
    except BadInputError:
        return "refused", "refused"
    judged = "far off" if verdict.far else "does not tell" if np.isnan(verdict.off_px) else "fits"
    if judged == "fits" and verdict.off_px > 8:
        judged = "off by more than 8 px"
    try:
        found = targetless.align_from_nothing(pairs)
    except BadInputError:
        return judged, "refused"
    if found.problem:
        return judged, "left as it is"
    return judged, "found from nothing" if found.start is not None else "corrected"


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--each", type=int, default=4, help="other scenes for each visible picture")
    parser.add_argument("--only", default="strangers,registered,unaligned")
    options = parser.parse_args()
    targetless.find_similarity = remembered  # type: ignore[assignment]
    kinds = {
        "strangers": lambda: strangers(options.data, options.each),
        "registered": lambda: registered(options.data),
        "unaligned": lambda: unaligned(options.data),
    }
    for kind in options.only.split(","):
        judged, taken = Counter[str](), Counter[str]()
        for name, pairs in kinds[kind]():
            words = said(pairs)
            judged[words[0]] += 1
            taken[words[1]] += 1
            print(f"{kind}: {name}: {words[0]}; {words[1]}", flush=True)
        print(f"{kind}, {judged.total()}: judge_fit {dict(judged)}; align_from_nothing {dict(taken)}", flush=True)


if __name__ == "__main__":
    main()
