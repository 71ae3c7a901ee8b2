"""Training pairs held in memory, and the crops cut from them: one displaced infrared crop with its known truth.

Every crop depends on nothing but (seed, number of the crop), so a run can be resumed, or spread over processes, at any
crop and gives the same data.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusion_core.colour import luminance
from fusion_core.errors import BadInputError
from fusion_core.pair_folder import PairFiles, find_pairs, read_thermal, read_visible
from fusion_core.training.config import AugmentationConfig, DataConfig
from fusion_core.training.random_displacement import backward_field, draw_displacement
from fusion_core.training.registration import PairRegistration

__all__ = [
    "Batch",
    "CropSampler",
    "TrainingPair",
    "crop_stream",
    "held_out_stems",
    "load_pair",
    "load_pairs",
    "split_pairs",
    "to_8bit",
]

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
_MIN_SIDE_PX = 32
_MAX_ZOOM = 3.0  # how far a picture smaller than the crop is enlarged before its border is mirrored instead


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """One pair in memory: luminance and infrared as published, and how the infrared is registered to the visible."""

    stem: str
    visible: UInt8Array  # (H, W)
    infrared: UInt8Array  # (H, W)
    registration: PairRegistration = field(default_factory=PairRegistration)
    sha256: str = ""  # over the bytes of both files


class Batch(NamedTuple):
    """What one training step sees. Pictures (B, 1, H, W) float32 in [0, 1]."""

    visible: Tensor
    infrared: Tensor  # displaced
    visible_target: Tensor  # as visible, without noise
    infrared_target: Tensor  # registered to visible, without noise
    displacement: Tensor  # (B, 2, H, W) px: infrared content of visible pixel p lies at p + d(p)
    seen: Tensor  # (B, 1, H, W) 1 where p + d(p) lies inside the crop, else 0
    alignment_weight: Tensor  # (B,) 1 where the pair's registration is reliable, else 0


def to_8bit(thermal: UInt8Array | npt.NDArray[np.uint16]) -> UInt8Array:
    """8-bit pictures as they are; 16-bit counts stretched linearly, 0.1st to 99.9th percentile to 0..255, clipped."""
    if thermal.dtype == np.uint8:
        return thermal.astype(np.uint8, copy=False)
    low, high = np.percentile(thermal, (0.1, 99.9))
    scaled = (thermal.astype(np.float32) - np.float32(low)) * np.float32(255.0 / max(float(high - low), 1.0))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def load_pair(files: PairFiles) -> TrainingPair:
    """Read one pair (not yet registered).

    Raises:
        BadInputError: a file cannot be read, the two differ in size, or are below 32x32.
    """
    digest = hashlib.sha256(files.visible.read_bytes())
    digest.update(files.thermal.read_bytes())
    visible = luminance(read_visible(files.visible))
    infrared = to_8bit(read_thermal(files.thermal))
    if visible.shape != infrared.shape:
        raise BadInputError(
            f"pair {files.stem}: visible is {visible.shape[1]}x{visible.shape[0]}, thermal "
            f"{infrared.shape[1]}x{infrared.shape[0]}; training pairs must be aligned and of one size "
            "(lumitherm train doctor DIR lists all such pairs)"
        )
    if min(visible.shape) < _MIN_SIDE_PX:
        raise BadInputError(
            f"pair {files.stem} is {visible.shape[1]}x{visible.shape[0]}, must be at least "
            f"{_MIN_SIDE_PX}x{_MIN_SIDE_PX}; leave it out"
        )
    return TrainingPair(
        files.stem, np.ascontiguousarray(visible), np.ascontiguousarray(infrared), sha256=digest.hexdigest()
    )


def load_pairs(root: Path, include: Sequence[str] = (), *, workers: int = 2) -> list[TrainingPair]:
    """Read all pairs of a folder into memory, sorted by stem (617 pairs of 640x480: 0.4 GB, some seconds).

    Raises:
        BadInputError: no pair matches, or one cannot be used.
    """
    files = sorted(find_pairs(root), key=lambda pair: pair.stem)
    if include:
        files = [pair for pair in files if pair.stem.startswith(tuple(include))]
    if not files:
        raise BadInputError(f"{root} holds no pair{' that data.include keeps' if include else ''}")
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(load_pair, files))


def held_out_stems(root: Path) -> list[str]:
    """The pairs of a folder that training with the default settings holds out, in the order of their names.

    Raises BadInputError where there are no pairs.
    """
    stems = sorted(pair.stem for pair in find_pairs(root))
    return _split(stems, DataConfig(root=root).validation_fraction)[1]


def split_pairs(pairs: Sequence[TrainingPair], fraction: float) -> tuple[list[TrainingPair], list[TrainingPair]]:
    """Hold out the last part of every source (the stem up to its first "_"), in stem order.

    A contiguous end, not random pairs: neighbouring frames of one recording would stand on both sides.

    Returns:
        (training, validation).
    """
    training, validation = _split([pair.stem for pair in pairs], fraction)
    by_stem = {pair.stem: pair for pair in pairs}
    return [by_stem[stem] for stem in training], [by_stem[stem] for stem in validation]


def _split(stems: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    sources: dict[str, list[str]] = {}
    for stem in stems:
        sources.setdefault(stem.partition("_")[0] if "_" in stem else "", []).append(stem)
    training: list[str] = []
    validation: list[str] = []
    for members in sources.values():
        held = min(round(len(members) * fraction), len(members) - 1)
        training += members[: len(members) - held]
        validation += members[len(members) - held :]
    return training, validation


class CropSampler:
    """Cuts crop number n out of the pairs: a pure function of (seed, n). Safe to call from several threads."""

    def __init__(self, pairs: Sequence[TrainingPair], config: DataConfig, seed: int) -> None:
        if not pairs:
            raise BadInputError("there are no training pairs; data.root or data.include leaves none")
        self._pairs = list(pairs)
        self._config = config
        self._seed = seed
        self._limits = [tuple(float(v) for v in np.percentile(pair.infrared, (1, 99))) for pair in self._pairs]
        self._curves = [_equalizing(pair.infrared) for pair in self._pairs]
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def crops_per_epoch(self) -> int:
        """Crops that make one epoch."""
        return self._config.crops_per_epoch or len(self._pairs)

    def pair_of(self, number: int) -> int:
        """Index of the pair that crop `number` is cut from: every pair once before any comes again."""
        round_number, position = divmod(number, len(self._pairs))
        order = self._order
        if order[0] != round_number:
            rng = np.random.default_rng([self._seed, 1, round_number])
            order = self._order = (round_number, rng.permutation(len(self._pairs)))
        return int(order[1][position])

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The crops with these numbers as one batch."""
        crops = [self._crop(number) for number in numbers]
        pictures = [torch.from_numpy(np.stack([crop[i] for crop in crops])) for i in range(6)]
        reliable = torch.tensor([1.0 if crop[6] else 0.0 for crop in crops])
        visible, infrared, visible_target, infrared_target, displacement, seen = pictures
        return Batch(
            visible[:, None],
            infrared[:, None],
            visible_target[:, None],
            infrared_target[:, None],
            displacement.permute(0, 3, 1, 2).contiguous(),
            seen[:, None],
            reliable,
        )

    def _crop(self, number: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, bool]:
        index = self.pair_of(number)
        pair, config = self._pairs[index], self._config
        augment = config.augmentation
        rng = np.random.default_rng([self._seed, 2, number])
        n = config.crop_px
        displacement = draw_displacement(rng, n, n, config.displacement)
        backward = backward_field(displacement)
        zoom = (
            float(np.exp(rng.uniform(*np.log(augment.scale))))
            if augment.scale[0] < augment.scale[1]
            else augment.scale[0]
        )
        origin_x, origin_y, zoom = _place(rng, pair, n, backward, zoom)

        grid = np.arange(n, dtype=np.float32) / np.float32(zoom)
        x, y = np.meshgrid(grid + np.float32(origin_x), grid + np.float32(origin_y))
        if zoom == 1.0:
            visible_8bit = pair.visible[origin_y : origin_y + n, origin_x : origin_x + n]
        if zoom != 1.0 or visible_8bit.shape != (n, n):
            visible_8bit = _sample(pair.visible, x, y)
        registration = pair.registration
        target_8bit = _sample(pair.infrared, *registration.source_of(x, y))
        if displacement.any():
            moved_x = x - backward[..., 0] / np.float32(zoom)
            moved_y = y - backward[..., 1] / np.float32(zoom)
            moved_8bit = _sample(pair.infrared, *registration.source_of(moved_x, moved_y))
        else:
            moved_8bit = target_8bit

        visible_target = _tone(rng, augment, "visible", (0.0, 255.0))[visible_8bit]
        infrared_tone = _tone(rng, augment, "infrared", self._limits[index], self._curves[index])
        infrared_target, infrared = infrared_tone[target_8bit], infrared_tone[moved_8bit]
        visible_target = _blur(rng, augment.visible_blur_px, visible_target)[0]
        infrared_target, infrared = _blur(rng, augment.infrared_blur_px, infrared_target, infrared)
        visible = _noisy(rng, augment.visible_noise, visible_target)
        infrared = _noisy(rng, augment.infrared_noise, infrared)

        unit = np.arange(n, dtype=np.float32)
        lands_x, lands_y = displacement[..., 0] + unit[None, :], displacement[..., 1] + unit[:, None]
        seen = ((lands_x >= 0) & (lands_x <= n - 1) & (lands_y >= 0) & (lands_y <= n - 1)).astype(np.float32)
        arrays = [visible, infrared, visible_target, infrared_target, displacement, seen]
        if augment.flip and rng.random() < 0.5:
            arrays = [array[:, ::-1] for array in arrays]
            arrays[4] = arrays[4] * np.array([-1, 1], np.float32)
        if augment.flip_vertical and rng.random() < 0.5:
            arrays = [array[::-1] for array in arrays]
            arrays[4] = arrays[4] * np.array([1, -1], np.float32)
        a, b, c, d, e, f = arrays
        return a, b, c, d, e, f, registration.reliable


def _place(
    rng: np.random.Generator, pair: TrainingPair, n: int, backward: FloatArray, zoom: float
) -> tuple[int, int, float]:
    """Crop origin (x, y) in the picture, and the zoom, raised where the displaced crop would not fit otherwise."""
    height, width = pair.visible.shape
    low = np.minimum(backward.min((0, 1)), 0.0)
    high = np.maximum(backward.max((0, 1)), 0.0)
    margin = pair.registration.reach_px
    for size, axis in ((width, 0), (height, 1)):
        room = max(size - 2 - 2 * margin, 16)
        zoom = max(zoom, min(_MAX_ZOOM, float(n - 1 + high[axis] - low[axis]) / room))
    origins = []
    for size, axis in ((width, 0), (height, 1)):
        first = int(np.ceil(high[axis] / zoom + margin))
        last = int(np.floor(size - 1 - (n - 1 - low[axis]) / zoom - margin))
        if last < first:
            first = last = round((size - n / zoom) / 2)
        origins.append(int(rng.integers(first, last + 1)))
    return origins[0], origins[1], zoom


def _sample(picture: UInt8Array, x: FloatArray, y: FloatArray) -> UInt8Array:
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _equalizing(picture: UInt8Array) -> FloatArray:
    """Look-up table, 256 float32 in [0, 1], that equalizes the picture, no level counting for more than 2 % of it."""
    counts = np.bincount(picture.ravel(), minlength=256).astype(np.float64)
    counts = np.minimum(counts, 0.02 * picture.size)
    return np.asarray((np.cumsum(counts) - counts / 2) / counts.sum(), np.float32)


def _tone(
    rng: np.random.Generator,
    augment: AugmentationConfig,
    modality: str,
    limits: Sequence[float],
    equalizing: FloatArray | None = None,
) -> FloatArray:
    """Look-up table, 256 float32 in [0, 1]: stretch, equalization, gamma, gain and offset, inversion as drawn."""
    values = np.arange(256, dtype=np.float64) / 255.0
    gain, offset, gamma = (getattr(augment, f"{modality}_{name}") for name in ("gain", "offset", "gamma"))
    draws = rng.uniform(-1.0, 1.0, 3)
    if modality == "infrared":
        stretch, invert = rng.random(2)
        if stretch < augment.infrared_stretch_probability and limits[1] - limits[0] >= 8:
            values = np.clip((values * 255.0 - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
        equalize = augment.infrared_equalize_probability
        if equalizing is not None and equalize > 0 and rng.random() < equalize:
            values = values + rng.uniform(0.4, 1.0) * (equalizing - values)
    else:
        invert = 1.0
    values = values ** ((1.0 + gamma) ** draws[0]) * (1.0 + gain) ** draws[1] + offset * draws[2]
    if modality == "infrared" and invert < augment.infrared_invert_probability:
        values = 1.0 - values
    return np.asarray(np.clip(values, 0.0, 1.0), np.float32)


def _blur(rng: np.random.Generator, max_sigma_px: float, *pictures: FloatArray) -> tuple[FloatArray, ...]:
    if max_sigma_px <= 0:
        return pictures
    sigma_px = float(rng.uniform(-max_sigma_px, max_sigma_px))  # half of the crops stay sharp
    if sigma_px < 0.2:
        return pictures
    return tuple(np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.float32) for picture in pictures)


def _noisy(rng: np.random.Generator, max_sigma: float, picture: FloatArray) -> FloatArray:
    if max_sigma <= 0:
        return picture
    sigma = np.float32(rng.uniform(0.0, max_sigma))
    noisy = picture + sigma * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0.0, 1.0), np.float32)


def crop_stream(
    sampler: CropSampler, *, first_step: int, batch_size: int, rank: int = 0, world_size: int = 1, prefetch: int = 4
) -> Iterator[Batch]:
    """Batches of step first_step, first_step + 1, ... without end; process `rank` gets its share of each.

    One thread makes up to `prefetch` batches ahead (0: none, made on demand). Close the iterator to end the thread.
    """

    def make(step: int) -> Batch:
        return sampler.batch(range(step * batch_size + rank, (step + 1) * batch_size, world_size))

    if prefetch == 0:
        step = first_step
        while True:
            yield make(step)
            step += 1

    ready: queue.Queue[Batch | BaseException] = queue.Queue(prefetch)
    stop = threading.Event()

    def put(item: Batch | BaseException) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        step = first_step
        try:
            while put(make(step)):
                step += 1
        except BaseException as error:  # handed to the training thread, which raises it
            put(error)

    thread = threading.Thread(target=produce, name="training-crops", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get(timeout=600)
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=30)
