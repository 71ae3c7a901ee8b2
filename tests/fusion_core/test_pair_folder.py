"""The layout of pairs on disk, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from fusion_core.errors import BadInputError
from fusion_core.pair_folder import find_pairs, list_pairs, read_thermal, read_visible

RAMP = (np.arange(48 * 64, dtype=np.uint32).reshape(48, 64) * 21).astype(np.uint16)
COLOUR = np.stack([RAMP >> 8, RAMP >> 7, 255 - (RAMP >> 8)], axis=2).astype(np.uint8)


def make_pair(root: Path, folders: tuple[str, str], names: tuple[str, str]) -> None:
    for folder, name, pixels in zip(folders, names, (COLOUR[..., ::-1], RAMP), strict=True):
        (root / folder).mkdir(exist_ok=True, parents=True)
        assert cv2.imwrite(str(root / folder / name), pixels)


@pytest.mark.parametrize("folders", [("vi", "ir"), ("visible", "infrared"), ("Visible", "THERMAL"), ("VI", "thermal")])
def test_finds_pairs_under_each_name(tmp_path: Path, folders: tuple[str, str]) -> None:
    make_pair(tmp_path, folders, ("b.png", "b.tiff"))
    make_pair(tmp_path, folders, ("a.PNG", "a.png"))
    pairs = find_pairs(tmp_path)
    assert [pair.stem for pair in pairs] == ["a", "b"]
    assert pairs[1].visible == tmp_path / folders[0] / "b.png"
    assert pairs[1].thermal == tmp_path / folders[1] / "b.tiff"


def test_reports_pictures_without_partner_and_ignores_other_files(tmp_path: Path) -> None:
    make_pair(tmp_path, ("vi", "ir"), ("a.png", "a.png"))
    make_pair(tmp_path, ("vi", "ir"), ("only_visible.png", "only_thermal.png"))
    (tmp_path / "vi" / "notes.txt").write_text("no picture")
    (tmp_path / "ir" / "._a.png").write_bytes(b"left by a file manager")
    listing = list_pairs(tmp_path)
    assert [pair.stem for pair in listing.pairs] == ["a"]
    assert [path.name for path in listing.unmatched] == ["only_visible.png", "only_thermal.png"]


def test_layout_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(BadInputError, match="no folder of visible pictures, expected vi/ or visible/ or vis/"):
        find_pairs(tmp_path)
    (tmp_path / "vi").mkdir()
    with pytest.raises(BadInputError, match="no folder of thermal pictures"):
        find_pairs(tmp_path)
    (tmp_path / "ir").mkdir()
    with pytest.raises(BadInputError, match="holds no pairs: 0 pictures in vi, 0 in ir"):
        find_pairs(tmp_path)
    make_pair(tmp_path, ("vi", "ir"), ("a.png", "b.png"))
    with pytest.raises(BadInputError, match=r"vi/a\.png has no partner"):
        find_pairs(tmp_path)
    make_pair(tmp_path, ("vi", "ir"), ("a.bmp", "a.png"))
    with pytest.raises(BadInputError, match=r"both a\.bmp and a\.png"):
        find_pairs(tmp_path)
    (tmp_path / "thermal").mkdir()
    with pytest.raises(BadInputError, match="ir/ and thermal/"):
        find_pairs(tmp_path)
    with pytest.raises(BadInputError, match="is a file"):
        find_pairs(tmp_path / "vi" / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_visible_comes_back_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    assert cv2.imwrite(str(path), COLOUR[..., ::-1])
    back = read_visible(path)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, COLOUR)


def test_visible_from_grey_alpha_16_bit_and_a_name_beyond_ascii(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), COLOUR[..., 0])
    np.testing.assert_array_equal(read_visible(tmp_path / "grey.png"), np.repeat(COLOUR[..., :1], 3, axis=2))
    cv2.imwrite(str(tmp_path / "deep.png"), COLOUR[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_visible(tmp_path / "deep.png"), COLOUR)
    alpha = np.dstack([COLOUR[..., ::-1], COLOUR[..., 0]])
    (tmp_path / "höhe 1.png").write_bytes(cv2.imencode(".png", alpha)[1].tobytes())
    np.testing.assert_array_equal(read_visible(tmp_path / "höhe 1.png"), COLOUR)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_thermal_counts_are_exact(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"counts{suffix}"
    assert cv2.imwrite(str(path), RAMP)
    back = read_thermal(path)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, RAMP)


@pytest.mark.parametrize(
    "options", [{"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}]
)
def test_thermal_tiff_flavours(tmp_path: Path, options: dict[str, object]) -> None:
    tifffile.imwrite(tmp_path / "counts.tif", RAMP, **options)
    back = read_thermal(tmp_path / "counts.tif")
    assert back.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(back, RAMP)


def test_planar_colour_tiff_is_read_as_a_picture(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    tifffile.imwrite(tmp_path / "planar.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_visible(tmp_path / "planar.tif"), COLOUR)


def test_grey_thermal_saved_as_colour_is_one_channel(tmp_path: Path) -> None:
    grey = (RAMP >> 8).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "t.png"), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_thermal(tmp_path / "t.png"), grey)
    smooth = np.repeat(cv2.GaussianBlur(grey, (0, 0), 5)[..., None], 3, axis=2)
    cv2.imwrite(str(tmp_path / "t.jpg"), smooth)
    assert np.abs(read_thermal(tmp_path / "t.jpg").astype(int) - smooth[..., 0]).max() <= 6


def test_thermal_in_an_unknown_palette_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "t.png"), COLOUR)
    with pytest.raises(BadInputError, match="palette"):
        read_thermal(tmp_path / "t.png")


def test_floating_point_thermal_becomes_hundredths(tmp_path: Path) -> None:
    celsius = RAMP.astype(np.float32) / 1000
    tifffile.imwrite(tmp_path / "c.tif", celsius)
    np.testing.assert_allclose(read_thermal(tmp_path / "c.tif") * 0.01 - 100, celsius, atol=0.006)
    celsius[3:, 4:] = np.nan
    tifffile.imwrite(tmp_path / "c.tif", celsius)
    with pytest.raises(BadInputError, match="values that are NaN"):
        read_thermal(tmp_path / "c.tif")


@pytest.mark.parametrize("read", [read_visible, read_thermal])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp"])
def test_truncated_files_are_refused(tmp_path: Path, read: object, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8)
    whole = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    for share in (0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BadInputError, match=r"damaged|cannot be decoded"):
            read(path)  # type: ignore[operator]


def test_other_bad_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(BadInputError, match="does not exist"):
        read_visible(path)
    with pytest.raises(BadInputError, match="is a folder"):
        read_thermal(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match="empty"):
        read_thermal(path)
    path.write_text("this is no picture at all")
    with pytest.raises(BadInputError, match="cannot be decoded"):
        read_visible(path)
    data = bytearray(cv2.imencode(".png", COLOUR)[1].tobytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(BadInputError, match="check sum of its IDAT"):
        read_visible(path)
    tifffile.imwrite(tmp_path / "i.tif", RAMP.astype(np.complex64))
    with pytest.raises(BadInputError, match="complex64"):
        read_thermal(tmp_path / "i.tif")
