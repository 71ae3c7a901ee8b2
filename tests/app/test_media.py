"""Reading, pairing and writing video: stamps, colours, 16 bit, damage. Files are made here with plain PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from app.media.pairing import MediaPair, default_max_skew_ns, pair_by_time
from app.media.pictures import match_folders, read_picture, write_picture
from app.media.reader import MediaFrame, SequenceReader, VideoReader, open_reader
from app.media.writer import VideoFormat, VideoWriter
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource
from fusion_core.picture_file import PictureReader

HEIGHT, WIDTH = 48, 64
COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (128, 64, 200),
    (90, 160, 30),
    (10, 10, 10),
]
VFR_PTS = [9000, 12000, 12500, 21000, 24003, 60000, 63000, 63090, 70000, 71001]  # 90 kHz


def make_video(
    path: Path,
    frames: Sequence[np.ndarray],
    pts: Sequence[int],
    time_base: Fraction,
    codec: str,
    array_format: str,
    pixel_format: str,
    matrix: Colorspace | None = None,
    color_range: ColorRange = ColorRange.MPEG,
    rotation: int = 0,
) -> Path:
    """Write a video with PyAV alone, so that reader and writer are not tested against each other only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        if codec == "libx264":
            stream.options = {"crf": "1", "bf": "0"}
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = color_range
        for pixels, stamp in zip(frames, pts, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format=array_format)
            if matrix is not None:
                frame = frame.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=color_range)
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def colour_bars() -> np.ndarray:
    bars = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        bars[:, number * 8 : number * 8 + 8] = colour
    return bars


def bar_centres(picture: np.ndarray) -> np.ndarray:
    return picture[24, 3::8].astype(int)


def counts(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(7000, 9000, (HEIGHT, WIDTH)).astype(np.uint16)


def stamps_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def write_grey(path: Path, pts: Sequence[int], time_base: Fraction, height: int = HEIGHT, width: int = WIDTH) -> None:
    writer = VideoWriter(path, height, width, time_base, Fraction(30))
    for number, stamp in enumerate(pts):
        writer.write(np.full((height, width, 3), 20 + number, np.uint8), stamp, 500)
    writer.close()


# Reading


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_reader_gives_back_the_colours_by_declared_matrix_and_range(
    tmp_path: Path, matrix: Colorspace, color_range: ColorRange
) -> None:
    pixel_format = "yuvj420p" if color_range == ColorRange.JPEG else "yuv420p"
    path = make_video(
        tmp_path / "v.mkv", [colour_bars()] * 2, [0, 33], Fraction(1, 1000), "libx264", "rgb24", pixel_format,
        matrix, color_range,
    )  # fmt: skip
    reader = VideoReader(path, Stream.VISIBLE)
    frame = next(iter(reader.frames())).frame
    reader.close()
    assert frame.pixels.dtype == np.uint8
    assert frame.ts_source is TimestampSource.FILE
    assert np.abs(bar_centres(frame.pixels) - np.array(COLOURS)).max() <= 4


def test_reader_keeps_variable_stamps_and_durations(tmp_path: Path) -> None:
    frames = [np.full((HEIGHT, WIDTH, 3), n, np.uint8) for n in range(len(VFR_PTS))]
    path = make_video(tmp_path / "v.mp4", frames, VFR_PTS, Fraction(1, 90000), "libx264", "rgb24", "yuv420p")
    reader = VideoReader(path, Stream.VISIBLE)
    read = list(reader.frames())
    reader.close()
    wanted = [Fraction(p, 90000) for p in VFR_PTS]
    assert [f.pts * reader.time_base for f in read] == wanted
    assert [f.frame.timestamp_ns for f in read] == [round((t - wanted[0]) * 10**9) for t in wanted]
    assert [f.frame.index for f in read] == list(range(len(VFR_PTS)))
    assert read[3].duration * reader.time_base == Fraction(VFR_PTS[4] - VFR_PTS[3], 90000)
    assert reader.damage is None and reader.notes == []


@pytest.mark.parametrize(("pixel_format", "bits"), [("gray16le", 16), ("gray12le", 12), ("gray10le", 10)])
def test_deep_grey_ffv1_is_read_bit_exact(tmp_path: Path, pixel_format: str, bits: int) -> None:
    wanted = [counts(n) & np.uint16((1 << bits) - 1) for n in range(3)]
    path = tmp_path / "t.mkv"
    make_video(path, wanted, [0, 111, 222], Fraction(1, 1000), "ffv1", pixel_format, pixel_format)
    reader = VideoReader(path, Stream.THERMAL)
    read = list(reader.frames())
    reader.close()
    assert [f.frame.pixels.dtype for f in read] == [np.uint16] * 3
    for frame, pixels in zip(read, wanted, strict=True):
        assert np.array_equal(frame.frame.pixels, pixels)


def test_eight_bit_grey_thermal_is_read_unchanged(tmp_path: Path) -> None:
    wanted = (counts(1) % 256).astype(np.uint8)
    path = make_video(tmp_path / "t.mkv", [wanted], [0], Fraction(1, 1000), "ffv1", "gray", "gray")
    reader = VideoReader(path, Stream.THERMAL)
    assert np.array_equal(next(iter(reader.frames())).frame.pixels, wanted)
    assert reader.notes == []
    reader.close()


def test_counts_written_as_ffv1_come_back_bit_exact(tmp_path: Path) -> None:
    path = tmp_path / "t.mkv"
    writer = VideoWriter(path, HEIGHT, WIDTH, Fraction(1, 1000), Fraction(9), VideoFormat("ffv1", "gray16le"))
    for number in range(3):
        writer.write(counts(number), number * 111, 111)
    writer.close()
    reader = VideoReader(path, Stream.THERMAL)
    for number, media_frame in enumerate(reader.frames()):
        assert np.array_equal(media_frame.frame.pixels, counts(number))
    reader.close()
    assert number == 2


@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_grey_kept_in_a_colour_video_is_read_as_luma_in_full_range(tmp_path: Path, color_range: ColorRange) -> None:
    ramp = np.tile(np.repeat(np.arange(0, 256, 32), 8).astype(np.uint8), (HEIGHT, 1))
    path = make_video(
        tmp_path / "t.mkv", [cv2.cvtColor(ramp, cv2.COLOR_GRAY2RGB)], [0], Fraction(1, 1000), "libx264", "rgb24",
        "yuvj420p" if color_range == ColorRange.JPEG else "yuv420p", Colorspace.ITU709, color_range,
    )  # fmt: skip
    reader = VideoReader(path, Stream.THERMAL)
    thermal = next(iter(reader.frames())).frame.pixels
    reader.close()
    assert thermal.shape == (HEIGHT, WIDTH) and thermal.dtype == np.uint8
    assert np.abs(thermal[:, 3::8].astype(int) - ramp[:, 3::8]).max() <= 2
    assert reader.notes == []


def test_a_thermal_video_in_an_unknown_palette_is_refused_unless_accepted(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "t.mkv", [colour_bars()], [0], Fraction(1, 1000), "libx264", "rgb24", "yuv420p"
    )  # fmt: skip
    with pytest.raises(BadInputError, match="in colour"):
        VideoReader(path, Stream.THERMAL)
    reader = VideoReader(path, Stream.THERMAL, accept_colour=True)
    assert any("brightness is used" in note for note in reader.notes)
    reader.close()


def test_display_rotation_of_phones_is_applied(tmp_path: Path) -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:16, :16] = 255  # upper left corner
    upright = make_video(tmp_path / "a.mp4", [picture], [0], Fraction(1, 1000), "libx264", "rgb24", "yuv420p")
    turned = make_video(
        tmp_path / "b.mp4", [picture], [0], Fraction(1, 1000), "libx264", "rgb24", "yuv420p", rotation=90
    )
    reader = VideoReader(upright, Stream.VISIBLE)
    assert (reader.height, reader.width) == (HEIGHT, WIDTH)
    reader.close()
    reader = VideoReader(turned, Stream.VISIBLE)
    shown = next(iter(reader.frames())).frame.pixels
    reader.close()
    assert shown.shape == (WIDTH, HEIGHT, 3)
    assert shown[-8, 8].min() > 200  # 90 degrees counter-clockwise: lower left
    assert shown[8, 8].max() < 50


def test_missing_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 30)
    (tmp_path / "notes.txt").write_text("no video at all\n" * 30)
    for name, word in [
        ("none.mp4", "does not exist"),
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be read"),
        ("notes.txt", "notes.txt"),
    ]:
        with pytest.raises(BadInputError, match=word):
            open_reader(tmp_path / name, Stream.VISIBLE)


def test_a_truncated_matroska_gives_its_frames_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8) for _ in range(60)]
    pts = [n * 33 for n in range(60)]
    path = make_video(tmp_path / "v.mkv", frames, pts, Fraction(1, 1000), "libx264", "rgb24", "yuv420p")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    reader = VideoReader(path, Stream.VISIBLE)
    read = list(reader.frames())
    reader.close()
    assert 15 < len(read) < 45
    assert [f.pts for f in read] == pts[: len(read)]
    assert reader.damage is not None and "v.mkv" in reader.damage


def test_sequence_numbers_are_times_and_gaps_stay_gaps(tmp_path: Path) -> None:
    for number in (7, 8, 11):
        cv2.imwrite(str(tmp_path / f"t_{number:04d}.png"), counts(number))
    reader = open_reader(tmp_path / "t_%04d.png", Stream.THERMAL, 10.0)
    assert isinstance(reader, SequenceReader)
    read = list(reader.frames())
    assert [f.frame.timestamp_ns for f in read] == [700_000_000, 800_000_000, 1_100_000_000]
    assert np.array_equal(read[2].frame.pixels, counts(11))
    with pytest.raises(BadInputError, match="no picture fits"):
        open_reader(tmp_path / "u_%04d.png", Stream.THERMAL)


# Pairing


def media(stream: Stream, times_ms: Sequence[int]) -> list[MediaFrame]:
    pixels = np.zeros((1, 1), np.uint8)
    return [
        MediaFrame(Frame(stream, pixels, i, t * 1_000_000, TimestampSource.FILE), t, 0) for i, t in enumerate(times_ms)
    ]


def paired(visible_ms: Sequence[int], thermal_ms: Sequence[int], **settings: int) -> list[tuple[int, int | None, str]]:
    def row(pair: MediaPair) -> tuple[int, int | None, str]:
        flag = "held" if pair.flags & FrameFlag.HELD else "alone" if pair.flags & FrameFlag.VISIBLE_ONLY else ""
        return pair.visible.pts, None if pair.thermal is None else pair.thermal.pts, flag

    settings = {"max_skew_ns": 30_000_000, **settings}
    pairs = pair_by_time(media(Stream.VISIBLE, visible_ms), media(Stream.THERMAL, thermal_ms), **settings)
    return [row(pair) for pair in pairs]


def test_pairs_are_nearest_in_time_not_in_index() -> None:
    assert paired([0, 33, 67, 100, 133], [5, 55, 105, 155]) == [
        (0, 5, ""),
        (33, 55, ""),
        (67, 55, ""),
        (100, 105, ""),
        (133, 155, ""),
    ]


def test_a_tie_goes_to_the_earlier_frame() -> None:
    assert paired([10], [0, 20]) == [(10, 0, "")]


def test_a_gap_holds_the_last_thermal_then_leaves_visible_alone() -> None:
    rows = paired([0, 40, 80, 120, 160, 200], [0, 200], max_hold_ns=100_000_000)
    assert rows == [
        (0, 0, ""),
        (40, 0, "held"),
        (80, 0, "held"),
        (120, None, "alone"),
        (160, None, "alone"),
        (200, 200, ""),
    ]


def test_visible_before_and_after_thermal_stands_alone_and_offset_moves_thermal() -> None:
    assert paired([0, 500], [500]) == [(0, None, "alone"), (500, 500, "")]
    assert paired([0, 10], []) == [(0, None, "alone"), (10, None, "alone")]
    rows = paired([0, 40], [1000, 1040], thermal_offset_ns=-1_000_000_000)
    assert rows == [(0, 1000, ""), (40, 1040, "")]


def test_default_skew_lets_every_steady_stream_pair() -> None:
    for rate in (9, 25, 30, 60):
        half_interval_ns = 0.5e9 / rate
        assert default_max_skew_ns(Fraction(rate)) > half_interval_ns
    assert default_max_skew_ns(None) > 0


# Writing


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_written_stamps_count_and_duration_are_those_given(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix}"
    write_grey(path, VFR_PTS, Fraction(1, 90000))
    wanted = [Fraction(p, 90000) for p in VFR_PTS]
    got = stamps_of(path)
    assert len(got) == len(wanted)
    tolerance = Fraction(1, 2000) if suffix == ".mkv" else 0  # Matroska counts whole milliseconds
    assert all(abs(a - b) <= tolerance for a, b in zip(got, wanted, strict=True))
    reader = VideoReader(path, Stream.VISIBLE)
    assert reader.end_s == pytest.approx((VFR_PTS[-1] - VFR_PTS[0] + 500) / 90000, abs=0.0015)
    reader.close()


def test_output_is_tagged_and_converted_as_bt709_limited(tmp_path: Path) -> None:
    path = tmp_path / "o.mkv"
    writer = VideoWriter(path, HEIGHT, WIDTH, Fraction(1, 1000), Fraction(30), VideoFormat(crf=1))
    writer.write(colour_bars(), 0, 33)
    writer.close()
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)
        planes = frame.to_ndarray()
    luma = planes[24, 3::8].astype(int)
    red, green, blue = np.array(COLOURS).T / 255.0
    wanted = 16 + 219 * (0.2126 * red + 0.7152 * green + 0.0722 * blue)  # ITU-R BT.709, 8-bit limited range
    assert np.abs(luma - wanted).max() <= 2


def test_odd_sizes_grow_by_one_and_other_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.mkv"
    write_grey(path, [0, 40], Fraction(1, 1000), height=47, width=63)
    reader = VideoReader(path, Stream.VISIBLE)
    assert (reader.height, reader.width) == (48, 64)
    reader.close()
    writer = VideoWriter(tmp_path / "p.mkv", 48, 64, Fraction(1, 1000))
    with pytest.raises(RecordingError, match="takes 64x48"):
        writer.write(np.zeros((10, 10, 3), np.uint8), 0)
    writer.write(np.zeros((48, 64, 3), np.uint8), 5)
    with pytest.raises(RecordingError, match="does not lie after"):
        writer.write(np.zeros((48, 64, 3), np.uint8), 5)
    writer.close()
    writer.close()
    with pytest.raises(BadInputError, match=r"\.mkv or \.mp4"):
        VideoWriter(tmp_path / "p.avi", 48, 64, Fraction(1, 1000))


# Pictures


def test_pictures_keep_16_bit_and_refuse_what_cannot_be_fused(tmp_path: Path) -> None:
    for suffix in ("png", "tiff"):
        cv2.imwrite(str(tmp_path / f"t.{suffix}"), counts(3))
        assert np.array_equal(read_picture(PictureReader(Stream.THERMAL), tmp_path / f"t.{suffix}"), counts(3))
    temperatures = counts(4).astype(np.float32) / 100
    cv2.imwrite(str(tmp_path / "f.tiff"), temperatures)
    read = read_picture(PictureReader(Stream.THERMAL), tmp_path / "f.tiff")
    np.testing.assert_allclose(read * 0.01 - 100, temperatures, atol=0.006)
    temperatures[:, 10:] = np.nan
    cv2.imwrite(str(tmp_path / "nan.tiff"), temperatures)
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((8, 8), 9, np.uint8))
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    cv2.imwritemulti(str(tmp_path / "pages.tiff"), [counts(1), counts(2)])
    for name, word in [
        ("nan.tiff", "NaN"),
        ("flat.png", "same value"),
        ("empty.png", "empty"),
        ("text.png", "cannot be read"),
        ("pages.tiff", "several pages"),
        ("none.png", "none.png"),
    ]:
        with pytest.raises(BadInputError, match=word):
            read_picture(PictureReader(Stream.THERMAL), tmp_path / name)


def test_visible_pictures_become_rgb(tmp_path: Path) -> None:
    bars = colour_bars()
    write_picture(tmp_path / "v.png", bars)
    assert np.array_equal(read_picture(PictureReader(Stream.VISIBLE), tmp_path / "v.png"), bars)
    alpha = np.dstack([bars[..., ::-1], np.full((HEIGHT, WIDTH), 128, np.uint8)])
    cv2.imwrite(str(tmp_path / "a.png"), alpha)
    assert np.array_equal(read_picture(PictureReader(Stream.VISIBLE), tmp_path / "a.png"), bars)
    grey = (counts(1) % 256).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "g.png"), grey)
    assert np.array_equal(read_picture(PictureReader(Stream.VISIBLE), tmp_path / "g.png"), np.dstack([grey] * 3))
    with pytest.raises(BadInputError, match="no picture format"):
        write_picture(tmp_path / "v.xyz", bars)
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_folders_match_by_stem_and_name_what_has_no_partner(tmp_path: Path) -> None:
    visible, thermal = tmp_path / "visible", tmp_path / "thermal"
    visible.mkdir()
    thermal.mkdir()
    for folder, names in ((visible, ["a.jpg", "b.jpg", "c.jpg"]), (thermal, ["b.png", "c.png", "d.png"])):
        for name in names:
            cv2.imwrite(str(folder / name), (counts(1) % 256).astype(np.uint8))
    with pytest.raises(BadInputError, match=r"only in .*visible: a; only in .*thermal: d"):
        match_folders(visible, thermal, allow_unmatched=False)
    matched, left = match_folders(visible, thermal, allow_unmatched=True)
    assert [stem for stem, _, _ in matched] == ["b", "c"] and left == 2
