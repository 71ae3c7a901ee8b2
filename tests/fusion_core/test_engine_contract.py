"""One contract over all engines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support import engine_contract as contract

from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError

USUAL, _, _, UPRIGHT = contract.SIZES  # few sizes: a network is converted for each


@pytest.fixture(params=list(contract.ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[FusionEngine]:
    made = contract.ENGINES[request.param]()
    yield made
    made.close()
    made.close()  # closing twice is allowed


def test_is_an_engine_with_a_name(engine: FusionEngine) -> None:
    assert isinstance(engine, FusionEngine)
    assert engine.name
    assert engine.name == engine.name.strip()


@pytest.mark.parametrize("size", contract.SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_gives_a_new_colour_picture_of_the_visible_size(engine: FusionEngine, size: tuple[int, int]) -> None:
    visible, thermal = contract.picture_pair(0, *size)
    before = visible.copy(), thermal.copy()
    engine.warm_up(*size)
    fused = engine.fuse(visible, thermal)
    assert fused.shape == (*size, 3)
    assert fused.dtype == np.uint8
    assert fused.flags.writeable
    assert not np.shares_memory(fused, visible)
    assert not np.shares_memory(fused, thermal)
    assert np.array_equal(visible, before[0])
    assert np.array_equal(thermal, before[1])


def test_a_result_is_not_overwritten_by_the_next(engine: FusionEngine) -> None:
    first = engine.fuse(*contract.picture_pair(1, *USUAL))
    kept = first.copy()
    second = engine.fuse(*contract.picture_pair(2, *USUAL))
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_the_same_input_after_reset_gives_the_same_picture(engine: FusionEngine) -> None:
    pair = contract.picture_pair(3, *USUAL)
    engine.reset()
    first = engine.fuse(*pair)
    engine.fuse(*contract.picture_pair(4, *USUAL))
    engine.reset()
    assert np.array_equal(engine.fuse(*pair), first)


def test_the_size_may_change_between_frames(engine: FusionEngine) -> None:
    for size in (USUAL, UPRIGHT, USUAL):
        assert engine.fuse(*contract.picture_pair(5, *size)).shape == (*size, 3)


def test_views_that_are_not_contiguous_are_fused_alike(engine: FusionEngine) -> None:
    visible, thermal = contract.picture_pair(6, USUAL[0], 2 * USUAL[1])
    engine.reset()
    wanted = engine.fuse(np.ascontiguousarray(visible[:, ::2]), np.ascontiguousarray(thermal[:, ::2]))
    engine.reset()
    assert np.array_equal(engine.fuse(visible[:, ::2], thermal[:, ::2]), wanted)


def test_heat_shows_in_the_result(engine: FusionEngine) -> None:
    visible = np.full((*USUAL, 3), 90, np.uint8)
    thermal = np.full(USUAL, 30, np.uint8)
    thermal[32:64, 48:80] = 240
    fused = engine.fuse(visible, thermal).astype(int)
    inside, outside = fused[40:56, 56:72].mean(axis=(0, 1)), fused[:16].mean(axis=(0, 1))
    assert np.abs(inside - outside).max() > 15


@pytest.mark.parametrize(
    ("visible", "thermal"),
    [
        (np.zeros((64, 80), np.uint8), np.zeros((64, 80), np.uint8)),
        (np.zeros((64, 80, 4), np.uint8), np.zeros((64, 80), np.uint8)),
        (np.zeros((64, 80, 3), np.float32), np.zeros((64, 80), np.uint8)),
        (np.zeros((64, 80, 3), np.uint8), np.zeros((64, 80), np.uint16)),
        (np.zeros((64, 80, 3), np.uint8), np.zeros((64, 80, 1), np.uint8)),
        (np.zeros((64, 80, 3), np.uint8), np.zeros((80, 64), np.uint8)),
    ],
)
def test_refuses_other_shapes_and_dtypes(engine: FusionEngine, visible: np.ndarray, thermal: np.ndarray) -> None:
    with pytest.raises(BadInputError):
        engine.fuse(visible, thermal)
