"""Files as cameras, phones and recorders make them: each kind, by every reader that meets it."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile

from app.capture.cameras.factory import create_cameras
from app.capture.config import CameraConfig
from app.media.geometry import parse_media_input
from app.media.reader import VideoReader, open_reader
from fusion_core.errors import BadInputError, EndOfStream
from fusion_core.frames import Frame, Stream
from fusion_core.pair_folder import find_pairs, list_pairs, read_thermal, read_visible
from fusion_core.picture_file import PictureReader
from fusion_core.picture_formats.decoders import turned
from fusion_core.picture_formats.radiometric import jpeg_is_whole
from fusion_core.thermal.painted import Unpainter, find_palette
from fusion_core.thermal.palettes import PALETTES, colorize

V, T = Stream.VISIBLE, Stream.THERMAL
RATE = 10
SCENE = np.full((48, 64, 3), 230, np.uint8)
SCENE[:24, :32], SCENE[:24, 32:], SCENE[24:, :32] = (200, 30, 30), (30, 190, 30), (40, 40, 210)
ROWS, COLUMNS = np.mgrid[0:48, 0:64]
COUNTS = (29_000 + 30 * COLUMNS + 3 * ROWS).astype(np.uint16)
BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # undoes each orientation


def exif(orientation: int, order: str) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIH HHIHH I", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif(path: Path, picture: np.ndarray, orientation: int, order: str) -> Path:
    """A picture file whose EXIF block holds this orientation."""
    stored = turned(picture, BACK[orientation])
    data = cv2.imencode(path.suffix, stored[..., ::-1] if stored.ndim == 3 else stored)[1].tobytes()
    block = exif(orientation, order)
    if path.suffix == ".jpg":
        segment = b"Exif\0\0" + block
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    else:
        chunk = b"eXIf" + block
        data = data[:33] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    path.write_bytes(data)
    return path


def video(
    path: Path, pictures: list[np.ndarray], codec: str = "ffv1", pix_fmt: str = "yuv444p", pts: list[int] | None = None,
    bframes: int = 0,
) -> Path:  # fmt: skip
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"bf": str(bframes)} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        for number, picture in enumerate(pictures):
            kind = "rgb24" if picture.ndim == 3 else "gray16le" if picture.dtype == np.uint16 else "gray"
            frame = av.VideoFrame.from_ndarray(picture, format=kind)
            if pts is not None:
                frame.pts, frame.time_base = pts[number], Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered(count: int) -> list[np.ndarray]:
    """Grey pictures whose level tells their number."""
    return [np.full((48, 64, 3), 20 + 8 * number, np.uint8) for number in range(count)]


def read_all(path: Path | str, stream: Stream = V) -> tuple[list[Frame], VideoReader]:
    reader = open_reader(Path(path), stream)
    frames = [media.frame for media in reader.frames()]
    reader.close()
    return frames, reader  # type: ignore[return-value]


def levels(frames: list[Frame]) -> list[int]:
    return [round((int(frame.pixels[20, 20, 0]) - 20) / 8) for frame in frames]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_by_their_exif(tmp_path: Path, orientation: int, suffix: str, order: str) -> None:
    path = with_exif(tmp_path / f"p{suffix}", SCENE, orientation, order)
    assert np.abs(read_visible(path)[4:20:8, 4:60:8].astype(int) - SCENE[4:20:8, 4:60:8]).max() <= 12
    camera = create_cameras(CameraConfig(uri=f"images:{tmp_path}"), CameraConfig(uri="sim:thermal")).visible
    camera.open()
    np.testing.assert_array_equal(camera.read(1.0).pixels, read_visible(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_counts_stand_upright(tmp_path: Path, orientation: int) -> None:
    stored = turned(COUNTS, BACK[orientation])
    tifffile.imwrite(tmp_path / "t.tif", stored, extratags=[(274, 3, 1, orientation, True)])
    np.testing.assert_array_equal(read_thermal(tmp_path / "t.tif"), COUNTS)


def test_a_jpeg_with_other_data_behind_it_is_whole() -> None:
    data = cv2.imencode(".jpg", SCENE)[1].tobytes()
    assert jpeg_is_whole(data + b"\0\xff\xda more" * 3)
    assert not jpeg_is_whole(data[: len(data) // 2])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["png", "swapped png", "raw"])
def test_the_counts_inside_a_radiometric_jpeg_are_used(tmp_path: Path, order: str, form: str) -> None:
    body = COUNTS.astype(f"{order}u2").tobytes()
    if "png" in form:
        body = cv2.imencode(".png", COUNTS.byteswap() if "swapped" in form else COUNTS)[1].tobytes()
    raw = struct.pack(f"{order}HHH", 2, 64, 48) + bytes(26) + body
    head = b"FFF\0" + b"CAMERA".ljust(16, b"\0") + struct.pack(f"{order}III", 101, 64, 1) + bytes(32)
    entry = struct.pack(f"{order}HHIIII", 1, 0, 0, 0, 96, len(raw)) + bytes(12)
    records = head + entry + raw
    size = 5_000
    parts = [records[at : at + size] for at in range(0, len(records), size)]
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 10) + b"FLIR\0\x01" + bytes([number, len(parts) - 1]) + part
        for number, part in enumerate(parts)
    )
    painted = cv2.imencode(".jpg", SCENE)[1].tobytes()
    (tmp_path / "f.jpg").write_bytes(painted[:2] + segments + painted[2:])
    reader = PictureReader(T)
    np.testing.assert_array_equal(reader.read(tmp_path / "f.jpg"), COUNTS)
    assert "raw thermal counts" in reader.notes[0]


def test_the_counts_of_a_dji_jpeg_are_used(tmp_path: Path) -> None:
    counts = (17_000 + np.arange(160 * 120) % 900).astype("<u2").reshape(120, 160)
    raw = counts.tobytes()
    parts = [raw[at : at + 30_000] for at in range(0, len(raw), 30_000)]
    segments = b"".join(b"\xff\xe3" + struct.pack(">H", len(part) + 2) + part for part in parts)
    painted = cv2.imencode(".jpg", SCENE)[1].tobytes()
    (tmp_path / "d.jpg").write_bytes(painted[:2] + segments + painted[2:])
    np.testing.assert_array_equal(read_thermal(tmp_path / "d.jpg"), counts)


@pytest.mark.parametrize("palette", sorted(set(PALETTES) - {"white_hot", "black_hot"}))
def test_known_palettes_are_undone(tmp_path: Path, palette: str) -> None:
    grey = np.clip(COLUMNS * 4, 0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), colorize(grey, palette)[..., ::-1])
    reader = PictureReader(T)
    back = reader.read(tmp_path / "p.png").astype(int)
    assert "was undone" in reader.notes[0]
    assert np.abs(np.diff(back.mean(axis=0))).max() <= 24 and np.corrcoef(back.ravel(), grey.ravel())[0, 1] > 0.98


def test_an_unknown_palette_is_refused_unless_accepted(tmp_path: Path) -> None:
    assert find_palette(SCENE) is None and Unpainter().grey(SCENE) is None
    cv2.imwrite(str(tmp_path / "p.png"), SCENE)
    with pytest.raises(BadInputError, match="palette"):
        read_thermal(tmp_path / "p.png")
    assert read_thermal(tmp_path / "p.png", accept_colour=True).shape == (48, 64)


def test_floats_and_signed_counts_keep_one_scale_and_fill_what_is_missing(tmp_path: Path) -> None:
    celsius = (COUNTS / 100.0 - 273.15).astype(np.float32)
    holed = celsius.copy()
    holed[3, 4], holed[9, 9] = -9999, np.nan
    tifffile.imwrite(tmp_path / "a.tif", celsius)
    tifffile.imwrite(tmp_path / "b.tif", holed)
    tifffile.imwrite(tmp_path / "c.tif", (celsius + 20).astype(np.float32))
    reader = PictureReader(T)
    first, second, third = (reader.read(tmp_path / f"{name}.tif").astype(int) for name in "abc")
    assert np.abs(second - first).max() <= 40 and np.abs(third - first - 2000).max() <= 1
    assert reader.scale is not None and round(reader.scale.to_counts(15.0)) == 11_500
    assert any("2 of 3072 pixels" in note for note in reader.notes)
    signed = (COUNTS.astype(int) - 30_000).astype(np.int16)
    tifffile.imwrite(tmp_path / "s.tif", signed)
    np.testing.assert_array_equal(read_thermal(tmp_path / "s.tif").astype(int) - 32_768, signed)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_min_is_white_is_turned_round(tmp_path: Path, dtype: type) -> None:
    levels = (COUNTS >> 8).astype(np.uint8) if dtype is np.uint8 else COUNTS
    tifffile.imwrite(tmp_path / "t.tif", np.invert(levels), photometric="miniswhite")
    np.testing.assert_array_equal(read_thermal(tmp_path / "t.tif"), levels)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_visible_of_few_bits_is_scaled_by_what_is_used(tmp_path: Path, bits: int) -> None:
    deep = (SCENE.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "v.png"), deep[..., ::-1])
    assert np.abs(read_visible(tmp_path / "v.png").astype(int) - SCENE).max() <= 1


def test_three_equal_deep_channels_are_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "gbrp16le"
        frame = av.VideoFrame(64, 48, "gbrp16le")
        for plane in frame.planes:
            rows = np.zeros((48, plane.line_size // 2), "<u2")
            rows[:, :64] = COUNTS
            plane.update(rows.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = read_all(path, T)
    np.testing.assert_array_equal(frames[0].pixels, COUNTS)


def test_a_start_later_than_zero_is_no_delay(tmp_path: Path) -> None:
    frames, reader = read_all(video(tmp_path / "v.mkv", numbered(8), pts=list(range(14, 22))))
    assert frames[0].timestamp_ns == 0 and reader.begins_s > 1
    assert levels(frames) == list(range(8))


def test_joined_streams_go_on(tmp_path: Path) -> None:
    for part in range(2):
        video(tmp_path / f"{part}.ts", numbered(16)[part * 8 : part * 8 + 8], "libx264", "yuv420p")
    joined = tmp_path / "j.ts"
    joined.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    frames, reader = read_all(joined)
    assert levels(frames) == list(range(16)) and reader.damage is None
    np.testing.assert_allclose(np.diff([frame.timestamp_ns for frame in frames]), 1e9 / RATE, rtol=0.02)
    assert any("starts over" in note for note in reader.notes)


@pytest.mark.parametrize("name", ["b.avi", "r.h264"])
def test_no_frame_is_lost_for_its_stamp(tmp_path: Path, name: str) -> None:
    frames, _ = read_all(video(tmp_path / name, numbered(20), "libx264", "yuv420p", bframes=2))
    assert levels(frames) == list(range(20))
    np.testing.assert_allclose(np.diff([frame.timestamp_ns for frame in frames]), 1e9 / RATE, rtol=0.02)


def test_a_file_of_exactly_this_name_is_that_file(tmp_path: Path) -> None:
    for name in ("rec%03d.mkv", "cam1:front.mkv", "50%done#half=left.mkv"):
        video(tmp_path / name, numbered(3))
        assert len(read_all(tmp_path / name)[0]) == 3
        camera = create_cameras(CameraConfig(uri=f"file:{tmp_path / name}"), CameraConfig(uri="sim:thermal")).visible
        camera.open()
        camera.read(1.0)
        camera.close()
    assert parse_media_input(tmp_path / "rec%03d.mkv").track == 0


def test_halves_and_turns_are_the_same_in_files_and_cameras(tmp_path: Path) -> None:
    path = video(tmp_path / "s.mkv", [SCENE] * 3)
    for options in ("half=left", "half=right&rotate=90", "rotate=270&mirror=1", "mirror=true", "rotate=180"):
        frames, _ = read_all(f"{path}#{options}")
        camera = create_cameras(CameraConfig(uri=f"file:{path}#{options}"), CameraConfig(uri="sim:thermal")).visible
        camera.open()
        seen = camera.read(1.0).pixels
        np.testing.assert_array_equal(seen, frames[0].pixels)
        assert (camera.info.height, camera.info.width) == seen.shape[:2]
        camera.close()
    frames, _ = read_all(f"{path}#rotate=90")
    assert frames[0].pixels.shape == (64, 48, 3) and frames[0].pixels[4, 44, 0] > 180  # red top right


def test_both_halves_of_a_file_end_together(tmp_path: Path) -> None:
    path = video(tmp_path / "s.mkv", [np.hstack([grey, grey]) for grey in numbered(5)])
    cameras = create_cameras(CameraConfig(uri=f"file:{path}#half=left"), CameraConfig(uri=f"file:{path}#half=right"))
    for camera in (cameras.visible, cameras.thermal):
        camera.open()
        assert len([camera.read(1.0) for _ in range(5)]) == 5
        with pytest.raises(EndOfStream):
            camera.read(1.0)


def layout(root: Path, files: str) -> Path:
    """Files of a published set by their names: small pictures, whose content tells nothing."""
    for name in files.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), SCENE)
    return root


@pytest.mark.parametrize(
    ("files", "stem"),
    [
        ("Vis/00000.png Ir/00000.png Annotation/00000.png", "00000"),  # M3FD
        ("crop_LR_visible/FLIR_04424.jpg crop_HR_visible/FLIR_04424.jpg cropinfrared/FLIR_04424.jpg", "FLIR_04424"),
        ("vi/00001D.png ir/00001D.png Segmentation_labels/00001D.png", "00001D"),  # MSRS/train
        ("visible/I00000.jpg lwir/I00000.jpg", "I00000"),  # KAIST/set00/V000
        ("RGB/FLIR_00001.jpg thermal_8_bit/FLIR_00001.jpeg", "FLIR_00001"),  # FLIR ADAS 1
        ("rgb/FLIR_2_RGB.jpg thermal/FLIR_2_PreviewData.jpeg", "FLIR_2"),  # FLIR aligned, in two folders
        ("vis/000_vis.png ir/000_ir.png vis/._000_vis.png", "000"),
    ],
)
def test_layouts_of_published_sets_are_taken(tmp_path: Path, files: str, stem: str) -> None:
    assert [pair.stem for pair in find_pairs(layout(tmp_path, files))] == [stem]


@pytest.mark.parametrize(
    ("files", "where"),
    [
        (
            "visible/train/01.jpg visible/test/19.jpg infrared/train/01.jpg infrared/test/19.jpg",
            "test/visible",
        ),  # LLVIP
        ("train/vi/1.png train/ir/1.png test/vi/2.png test/ir/2.png", "test (2 such folders)"),  # MSRS
        ("set00/V000/visible/I0.jpg set00/V000/lwir/I0.jpg set01/V000/visible/I0.jpg", "set00/V000"),  # KAIST
        ("M3FD_Detection/Vis/1.png M3FD_Detection/Ir/1.png", "M3FD_Detection"),
        ("train/RGB/F_1.jpg train/thermal_8_bit/F_1.jpeg", "train"),  # FLIR ADAS 1
        ("RGB/F_1.jpg thermal_8_bit/F_1.jpeg thermal_16_bit/F_1.tiff", "thermal_16_bit/ and thermal_8_bit/"),
        ("images_rgb_train/data/video-a-0.jpg images_thermal_train/data/video-b-0.jpg", "rgb_to_thermal_vid_map"),
        ("FLIR_1_RGB.jpg FLIR_1_PreviewData.jpeg", "side by side"),  # FLIR aligned
        ("day/1.png", "no folder of visible"),
    ],
)
def test_other_layouts_are_pointed_to_in_one_sentence(tmp_path: Path, files: str, where: str) -> None:
    with pytest.raises(BadInputError) as caught:
        list_pairs(layout(tmp_path, files))
    assert where in str(caught.value) and "\n" not in str(caught.value)
