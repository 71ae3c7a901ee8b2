"""Files as cameras, phones and recorders make them: each kind, by every reader that meets it."""

from __future__ import annotations

import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.live import wait_until

from app.capture.cameras.factory import create_cameras
from app.capture.capture_thread import CaptureThread
from app.capture.config import CameraConfig
from app.commands.calibrate.sources import open_pairs
from app.dataset.sources import VideoSource
from app.media.geometry import parse_media_input
from app.media.pairing import default_max_skew_ns, pair_by_time
from app.media.reader import VideoReader, open_reader
from fusion_core.errors import BadInputError, ConfigError, EndOfStream
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


# High dynamic range, uneven rates, odd formats


PQ, HLG, WIDE = 16, 18, 9  # as ITU-T H.273 numbers them


def light_code(light: np.ndarray, transfer: int) -> np.ndarray:
    """Codes (0 to 1) of light, 1 = the white of paper: ITU-R BT.2100, 203 cd/m2 by BT.2408."""
    if transfer == HLG:
        scaled = light * 0.265
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(scaled <= 1 / 12, np.sqrt(3 * scaled), a * np.log(np.maximum(12 * scaled - b, 1e-9)) + c)
    power = (light * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("full_range", [False, True])
def test_high_dynamic_range_is_brought_to_a_screen(tmp_path: Path, transfer: int, full_range: bool) -> None:
    """Greys, whose primaries do not matter: each comes back as the level that the scene had."""
    levels = np.repeat(np.linspace(20, 225, 8).astype(np.uint8), 8)
    shown = levels / 255.0
    light = np.where(shown < 0.081, shown / 4.5, ((shown + 0.099) / 1.099) ** (1 / 0.45))
    codes = light_code(light, transfer)
    luma = np.rint(codes * 1023 if full_range else 64 + codes * 876).astype("<u2")
    with av.open(str(tmp_path / "h.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv444p10le"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, WIDE
        stream.codec_context.colorspace, stream.codec_context.color_range = WIDE, 2 if full_range else 1
        frame = av.VideoFrame(64, 48, "yuv444p10le")
        for number, plane in enumerate(frame.planes):
            rows = np.full((48, plane.line_size // 2), 512, "<u2")
            rows[:, :64] = luma if number == 0 else 512
            plane.update(rows.tobytes())
        frame.color_range, frame.colorspace = 2 if full_range else 1, WIDE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, reader = read_all(tmp_path / "h.mkv")
    assert np.abs(frames[0].pixels[24].astype(int) - levels[:, None]).max() <= 8
    assert any("dynamic range" in note for note in reader.notes)


def test_an_uneven_rate_keeps_its_stamps_and_takes_the_nearest_partner(tmp_path: Path) -> None:
    stamps = [0, 1, 3, 4, 5, 9, 10, 11]
    path = video(tmp_path / "v.mkv", numbered(8), "libx264", "yuv420p", pts=stamps)
    slow = video(tmp_path / "t.mkv", numbered(6), "ffv1", "bgr0", pts=list(range(0, 12, 2)))
    frames, _ = read_all(path)
    assert [frame.timestamp_ns for frame in frames] == [stamp * 10**8 for stamp in stamps]
    readers = open_reader(path, V), open_reader(slow, T)
    found = list(pair_by_time(readers[0].frames(), readers[1].frames(), default_max_skew_ns(readers[1].rate)))
    for reader in readers:
        reader.close()
    partners = [None if pair.thermal is None else pair.thermal.frame.timestamp_ns // 10**8 for pair in found]
    assert partners == [0, 0, 2, 4, 4, 8, 10, 10]


@pytest.mark.parametrize("exponent", [1.0, 2.2])
def test_the_gamma_of_a_png_is_brought_to_a_screens(tmp_path: Path, exponent: float) -> None:
    """As viewers show it: a file of linear light is not dark. An sRGB part goes before it."""
    stored = np.rint((SCENE / 255.0) ** (2.2 / exponent) * 65535).astype(np.uint16)
    data = cv2.imencode(".png", stored[..., ::-1])[1].tobytes()
    gamma = b"gAMA" + struct.pack(">I", round(100_000 / exponent))
    part = struct.pack(">I", 4) + gamma + struct.pack(">I", zlib.crc32(gamma))
    (tmp_path / "g.png").write_bytes(data[:33] + part + data[33:])
    reader = PictureReader(V)
    assert np.abs(reader.read(tmp_path / "g.png").astype(int) - SCENE).max() <= 2
    assert bool(reader.notes) == (exponent == 1.0)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1", "RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_every_kind_of_colour_is_read_as_viewers_show_it(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    picture = Image.fromarray(SCENE).convert(mode)
    try:
        picture.save(path, **({"quality": 95} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}))
    except (OSError, ValueError):
        pytest.skip(f"{suffix} does not hold {mode}")
    wanted = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(read_visible(path)[4:20:8, 4:60:8].astype(int) - wanted[4:20:8, 4:60:8]).max() <= 12


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_an_animation_gives_its_first_picture_and_says_so(tmp_path: Path, suffix: str) -> None:
    first, second = Image.fromarray(SCENE), Image.fromarray(255 - SCENE)
    lossless = {"lossless": True} if suffix == ".webp" else {}
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second], **lossless)
    reader = PictureReader(V)
    np.testing.assert_array_equal(reader.read(tmp_path / f"a{suffix}"), SCENE)
    assert "animation" in reader.notes[0]


@pytest.mark.parametrize("marker", [0, 65_535])
def test_no_data_of_unsigned_counts_is_filled(tmp_path: Path, marker: int) -> None:
    holed = COUNTS.copy()
    holed[3:5, :20] = marker
    tifffile.imwrite(tmp_path / "t.tif", holed, extratags=[(42113, 2, 6, str(marker), True)])
    assert np.abs(read_thermal(tmp_path / "t.tif").astype(int) - COUNTS).max() <= 40


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """Links to nothing or to themselves, folders, and pipes, which would never end."""
    for name in ("a.png", "a.mp4"):
        path = tmp_path / name
        read = (
            (lambda given: PictureReader(V).read(given)) if name == "a.png" else (lambda given: open_reader(given, V))
        )
        for make, word in (
            (lambda at: at.symlink_to(at), "a.m|a.p"),
            (lambda at: at.symlink_to(tmp_path / "nothing"), "link to nothing"),
            (Path.mkdir, "folder|ordinary"),
            (os.mkfifo, "no ordinary file"),
            (Path.touch, "empty"),
        ):
            make(path)
            with pytest.raises(BadInputError, match=word) as caught:
                read(path)
            assert caught.value.exit_code == 2
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize(
    ("name", "keep", "code"),
    [("p.jpg", 0.5, 1), ("p.png", 0.5, 1), ("p.tif", 0.2, 1), ("v.mkv", 0.02, 1), ("v.mp4", 0.5, 1), ("no.png", 1.0, 2),
     ("no.mp4", 1.0, 2)],
)  # fmt: skip
def test_a_broken_file_ends_with_1_and_a_wrong_one_with_2(tmp_path: Path, name: str, keep: float, code: int) -> None:
    path = tmp_path / name
    if name.startswith("no"):
        path.write_text("nothing of the kind " * 50)
    elif name.startswith("v"):
        video(path, numbered(12), "libx264", "yuv420p")
    elif name.endswith("tif"):
        tifffile.imwrite(path, COUNTS, compression="zlib")
    else:
        cv2.imwrite(str(path), SCENE)
    path.write_bytes(path.read_bytes()[: max(60, round(path.stat().st_size * keep))])
    with pytest.raises(BadInputError) as caught:
        open_reader(path, V).close() if path.suffix in (".mp4", ".mkv") else PictureReader(T, True).read(path)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)


def test_the_same_picture_twice_is_refused_wherever_videos_are_read(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mkv", numbered(3))
    (tmp_path / "link.mkv").symlink_to(path)
    for other in (path, tmp_path / "link.mkv"):
        with pytest.raises(BadInputError, match="are the same"):
            open_pairs(path, other, 1)
        with pytest.raises(BadInputError, match="are the same"):
            VideoSource(path, other)
    with pytest.raises(ConfigError, match="same source"):
        create_cameras(CameraConfig(uri=f"file:{path}"), CameraConfig(uri=f"file:{path}"))


def test_what_a_camera_did_to_its_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    painted = colorize(np.clip(COLUMNS * 4, 0, 255).astype(np.uint8), "iron")
    for number in range(3):
        cv2.imwrite(str(tmp_path / "t" / f"{number}.png"), np.roll(painted, number, 1)[..., ::-1])
    uri = f"file:{video(tmp_path / 'p.mkv', [painted] * 3, 'ffv1', 'bgr0')}"
    for config in (CameraConfig(uri=f"images:{tmp_path / 't'}"), CameraConfig(uri=uri)):
        assert any("iron" in note for note in told_by(config))


def told_by(config: CameraConfig) -> list[str]:
    told: list[str] = []
    camera = create_cameras(CameraConfig(uri="sim:visible"), config).thermal
    thread = CaptureThread(camera, T, config, lambda _: None, on_note=lambda _, note: told.append(note))
    thread.start()
    wait_until(lambda: not thread.alive)
    return told


def test_other_colour_of_tiff_is_refused_or_turned_into_rgb(tmp_path: Path) -> None:
    lab = np.repeat(COUNTS[..., None] >> 8, 3, axis=2).astype(np.uint8)
    tifffile.imwrite(tmp_path / "lab.tif", lab, photometric="cielab")
    with pytest.raises(BadInputError, match="CIELAB"):
        read_visible(tmp_path / "lab.tif")
    inks = np.asarray(Image.fromarray(SCENE).convert("CMYK"))
    tifffile.imwrite(tmp_path / "inks.tif", inks.astype(np.uint16) * 257, photometric="separated")
    assert np.abs(read_visible(tmp_path / "inks.tif").astype(int) - SCENE).max() <= 2
