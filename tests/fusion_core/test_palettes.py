"""Palettes: every one gives 256 colours, for display only."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_core.errors import BadInputError, ConfigError
from fusion_core.thermal.palettes import PALETTES, colorize, palette_table


@pytest.mark.parametrize("name", [*PALETTES, "colorcet:cet_l3"])
def test_palette_has_256_read_only_colours(name: str) -> None:
    table = palette_table(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert not table.flags.writeable
    assert len(np.unique(table, axis=0)) > 100


def test_white_and_black_hot_are_grey_ramps() -> None:
    ramp = np.repeat(np.arange(256)[:, None], 3, axis=1)
    np.testing.assert_array_equal(palette_table("white_hot"), ramp)
    np.testing.assert_array_equal(palette_table("black_hot"), ramp[::-1])


@pytest.mark.parametrize("name", ["iron", "inferno", "magma", "fire"])
def test_heat_palettes_rise_in_brightness(name: str) -> None:
    luma = palette_table(name).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > -1.5).all()
    assert luma[-1] - luma[0] > 150


def test_unknown_palette_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="inferno"):
        palette_table("infernal")


def test_colorize_looks_each_pixel_up() -> None:
    levels = np.array([[0, 128], [255, 7]], np.uint8)
    picture = colorize(levels, "iron")
    assert picture.shape == (2, 2, 3)
    np.testing.assert_array_equal(picture[1, 0], palette_table("iron")[255])
    with pytest.raises(BadInputError):
        colorize(levels.astype(np.uint16), "iron")
