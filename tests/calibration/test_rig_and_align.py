"""The rig file, what it refuses, and the alignment maps made from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from calibration.align import ThermalAligner
from calibration.render import synthetic_rig
from calibration.rig import (
    CameraSide,
    PlaneCalibration,
    Region,
    RigCalibration,
    apply_homography,
    check_cameras,
    load_calibration,
    save_calibration,
)
from fusion_core.errors import BadInputError, ConfigError

RIG = synthetic_rig((240, 320), (256, 320))


def plane() -> PlaneCalibration:
    H = np.array([[1.05, 0.01, 6.0], [-0.01, 1.05, -4.0], [0, 0, 1.0]])
    return PlaneCalibration(CameraSide("v", 240, 320), CameraSide("t", 256, 320), H, 0.4, 3.0)


@pytest.mark.parametrize("kind", ["stereo", "plane"])
def test_what_is_saved_comes_back(tmp_path: Path, kind: str) -> None:
    made: RigCalibration | PlaneCalibration = RIG if kind == "stereo" else plane()
    made = replace(made.with_correction(np.array([[1, 0.01, 2], [0, 1, -1], [0, 0, 1.0]])), report_sha256="ab" * 32)
    path = tmp_path / "sub" / "rig.yaml"
    save_calibration(made, path)
    back = load_calibration(path)
    assert type(back) is type(made)
    assert back.visible == made.visible and back.thermal == made.thermal
    assert back.report_sha256 == made.report_sha256 and back.created
    grid = np.array([[10.0, 20.0], [160, 120], [300, 230]])
    assert np.allclose(back.thermal_from_visible(grid), made.thermal_from_visible(grid), atol=1e-9)
    assert [p.name for p in path.parent.iterdir()] == ["rig.yaml"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"kind": "mono"}, "kind"),
        ({"working_distance_m": -1.0}, "working_distance_m"),
        ({"working_distance_m": 0.0}, "above 0"),
        ({"R_visible_thermal": [[1, 0, 0], [0, 1, 0], [0, 0, 2]]}, "rotation"),
        ({"correction_visible": [[0, 0, 0], [0, 0, 0], [0, 0, 1]]}, "singular"),
        ({"colour": "red"}, "colour"),
        ({"rms_px": float("nan")}, "rms_px"),
    ],
)
def test_an_impossible_file_is_refused_by_key(tmp_path: Path, change: dict[str, object], word: str) -> None:
    path = tmp_path / "rig.yaml"
    save_calibration(RIG, path)
    data = yaml.safe_load(path.read_text())
    data.update(change)
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=word):
        load_calibration(path)


@pytest.mark.parametrize("kind", ["stereo", "plane"])
def test_a_region_is_kept_moves_its_inside_only_and_can_be_undone(tmp_path: Path, kind: str) -> None:
    base: RigCalibration | PlaneCalibration = RIG if kind == "stereo" else plane()
    move = np.array([[1.03, 0.01, -2.0], [-0.01, 0.98, 3.0], [0, 0, 1.0]])
    made = replace(base, region=Region(move, (90.0, 110.0), (60.0, 80.0)))
    save_calibration(made, tmp_path / "rig.yaml")
    back = load_calibration(tmp_path / "rig.yaml")
    y, x = np.mgrid[10:230:9j, 10:310:12j]
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    assert made.region is not None and np.array_equal(
        back.thermal_from_visible(points), made.thermal_from_visible(points)
    )
    assert np.abs(made.visible_from_thermal(made.thermal_from_visible(points)) - points).max() < 0.02
    weight = made.region.weight(points)
    inside, outside = points[weight == 1], points[weight == 0]
    assert np.allclose(made.thermal_from_visible(outside), base.thermal_from_visible(outside))
    assert np.allclose(
        made.thermal_from_visible(inside), base.thermal_from_visible(apply_homography(np.linalg.inv(move), inside))
    )
    folding = replace(made, region=replace(made.region, map=np.array([[1, 0, 40.0], [0, 1, 0], [0, 0, 1]])))
    save_calibration(folding, tmp_path / "rig.yaml")
    with pytest.raises(ConfigError, match="fold"):
        load_calibration(tmp_path / "rig.yaml")


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read .*wanted a YAML file$"):  # `config init` writes none
        load_calibration(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="wanted `key: value` lines"):
        load_calibration(tmp_path / "list.yaml")


def test_a_wrong_camera_or_size_is_refused() -> None:
    sizes = {"visible_size": (240, 320), "thermal_size": (256, 320)}
    check_cameras(RIG, **sizes, visible_identity="synthetic-visible")
    with pytest.raises(BadInputError, match="visible camera gives 640x480"):
        check_cameras(RIG, visible_size=(480, 640), thermal_size=(256, 320))
    with pytest.raises(BadInputError, match="thermal camera is 'another'"):
        check_cameras(RIG, **sizes, thermal_identity="another")


def test_there_and_back_is_the_same_pixel() -> None:
    grid = np.array([[40.0, 30.0], [160, 120], [280, 200]])
    for distance in (1.0, 3.0, 50.0):
        assert np.allclose(
            RIG.visible_from_thermal(RIG.thermal_from_visible(grid, distance), distance), grid, atol=1e-4
        )
    with pytest.raises(BadInputError, match="one homography"):
        plane().thermal_from_visible(grid, 7.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_aligner_puts_thermal_blobs_where_the_geometry_says(dtype: type) -> None:
    aligner = ThermalAligner(RIG)
    for target in ([90.0, 80.0], [160.0, 120.0], [230.0, 170.0]):
        at = RIG.thermal_from_visible(np.array([target]))[0]
        y, x = np.mgrid[0:256, 0:320]
        blob = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 32) * (200 if dtype is np.uint8 else 50000)
        out = aligner.to_visible(blob.astype(dtype))
        assert out.shape == (240, 320) and out.dtype == dtype
        weight = out.astype(float)
        yy, xx = np.mgrid[0:240, 0:320]
        centre = np.array([(weight * xx).sum(), (weight * yy).sum()]) / weight.sum()
        assert np.abs(centre - target).max() < 0.1


def test_interpolated_maps_equal_the_exact_ones() -> None:
    aligner = ThermalAligner(RIG)
    grid = aligner.sampling_grid()
    assert grid.shape == (240, 320, 2) and grid.dtype == np.float32
    y, x = np.mgrid[0:240:7, 0:320:9]
    exact = RIG.thermal_from_visible(np.stack([x, y], -1).reshape(-1, 2).astype(float)).reshape(*x.shape, 2)
    pixels = (grid[0:240:7, 0:320:9] + 1) * np.array([320, 256]) / 2 - 0.5
    assert np.abs(pixels - exact).max() < 0.03


def test_mask_correction_and_refusals() -> None:
    aligner = ThermalAligner(plane())
    before = aligner.to_visible(
        cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (256, 320), dtype=np.uint8), (0, 0), 3)
    )
    assert 0.7 < aligner.mask.mean() <= 1 and not aligner.mask.flags.writeable
    assert np.all(before[~aligner.mask & (cv2.erode((~aligner.mask).astype(np.uint8), np.ones((5, 5))) > 0)] == 0)
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (256, 320), dtype=np.uint8), (0, 0), 3)
    moved = plane().with_correction(np.array([[1, 0, 5], [0, 1, 0], [0, 0, 1.0]]))
    after = ThermalAligner(moved).to_visible(picture)
    assert np.abs(after[60:180, 65:205].astype(int) - before[60:180, 60:200]).max() <= 2
    with pytest.raises(BadInputError, match="calibration wants"):
        aligner.to_visible(np.zeros((240, 320), np.uint8))
    with pytest.raises(BadInputError, match="proportions"):
        ThermalAligner(plane(), (240, 400))
    assert ThermalAligner(plane(), (120, 160)).to_visible(picture).shape == (120, 160)


def test_what_thermal_does_not_see_is_filled_from_visible_for_the_engines(tmp_path: Path) -> None:
    from app.pipeline.thermal_grid import ThermalGrid
    from fusion_core.engines.pyramid_engine import LaplacianPyramidEngine

    rig = synthetic_rig((480, 640), (256, 320), visible_hfov_deg=60, thermal_hfov_deg=30)
    save_calibration(rig, tmp_path / "rig.yaml")
    grid = ThermalGrid(tmp_path / "rig.yaml")
    visible = np.full((480, 640, 3), 160, np.uint8)
    levels = grid.to_visible(np.full((256, 320), 90, np.uint8), 480, 640)
    mask = grid.mask(480, 640)
    assert mask is not None and 0.1 < mask.mean() < 0.5
    whole = grid.filled(levels, visible)
    far = cv2.erode((~mask).astype(np.uint8), np.ones((121, 121), np.uint8)) > 0
    assert (whole[mask] == levels[mask]).all() and (whole[far] == 160).all()
    engine = LaplacianPyramidEngine()
    assert not levels[far].any()
    dark, same = (engine.fuse(visible, thermal)[far] for thermal in (levels, whole))
    assert np.abs(same.astype(int) - 160).max() <= 2 and dark.max() < 120
    alignment = grid.alignment(480, 640)
    assert alignment is not None and np.array_equal(alignment.seen, mask)
    centre = alignment.thermal_points(np.array([[319.5, 239.5]]))
    assert np.abs(centre - rig.thermal_from_visible(np.array([[319.5, 239.5]]))).max() < 1e-9
    plain = ThermalGrid(None)
    assert plain.filled(levels, visible) is levels, "without a calibration thermal sees all"
    assert plain.alignment(480, 640) is None
