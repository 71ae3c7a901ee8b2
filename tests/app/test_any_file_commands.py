"""Files as people bring them, through the command line: what is written, what is said, and the exit code."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.recording.reader import RecordingReader
from fusion_core.errors import LumithermError
from fusion_core.thermal.palettes import colorize
from tests.app.test_any_file import COUNTS, RATE, SCENE, numbered, video


def cli(*arguments: object) -> tuple[int, str]:
    """(exit code, what was said, as one text)."""
    result = CliRunner().invoke(build_cli(), [str(argument) for argument in arguments])
    if isinstance(result.exception, LumithermError):
        return result.exception.exit_code, f"{result.output}{result.exception}"
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def fuse(visible: Path | str, thermal: Path | str, output: Path | str, *more: str) -> tuple[int, str]:
    return cli("fuse", visible, thermal, "-o", output, "--engine", "average", *more)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with plain partners: v.png, t.png, v.mkv and t.mkv."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("v.png", SCENE[..., ::-1])
    cv2.imwrite("t.png", COUNTS)
    video(tmp_path / "v.mkv", numbered(8))
    video(tmp_path / "t.mkv", [COUNTS + np.uint16(number) for number in range(8)], pix_fmt="gray16le")
    return tmp_path


def test_values_of_the_range_are_in_the_unit_of_the_file(here: Path) -> None:
    celsius = np.linspace(10, 45, COUNTS.size, dtype=np.float32).reshape(COUNTS.shape)
    wanted = np.clip((celsius - 15) / 25 * 255, 0, 255)
    for name, values, limits in (
        ("f.tif", celsius, "15:40"),
        ("k.tif", celsius + 273.15, "288.15:313.15"),
        ("s.tif", (celsius * 100 - 3000).astype(np.int16), "-1500:1000"),
        ("h.tif", celsius.astype(np.float16), "15:40"),
    ):
        tifffile.imwrite(name, values)
        code, said = fuse("v.png", name, f"{name}.png", "--view", "thermal", "--agc-range", limits)
        assert code == 0, said
        assert np.abs(cv2.imread(f"{name}.png", 0) - wanted).max() <= 2
    code, said = fuse("v.png", "f.tif", "o.png", "--agc-range", "9000:9100")
    assert code == 2 and "outside of what the thermal input can hold" in said


def test_a_file_without_an_ending_is_told_to_be_taken_as_a_video(here: Path) -> None:
    (here / "note").write_bytes((here / "v.png").read_bytes())
    (here / "heat").write_bytes((here / "t.png").read_bytes())
    for thermal in ("t.png", "heat"):
        code, said = fuse("note", thermal, "o.png", "--view", "fused")
        assert code == 2 and "note has no ending, so it is taken as a video" in said, said


def test_a_range_that_shows_nothing_is_said(here: Path) -> None:
    low, high = int(COUNTS.min()), int(COUNTS.max())
    cv2.imwrite("8.png", cv2.normalize(COUNTS, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U))
    for number, (name, limits, words) in enumerate(
        (
            ("t.png", f"{low}:{high}", ""),
            ("t.png", f"{high + 10}:{high + 20}", f"values from {low} to {high}, so that all of it is black"),
            ("t.mkv", f"{low - 20}:{low - 10}", f"values from {low} to {high + 7}, so that all of it is white"),
            ("8.png", "0:200", ""),
            ("8.png", "100:300", "changed nothing: thermal has 8 bits, and values from 0 to 255"),
        )
    ):
        stem = Path(name).suffix
        code, said = fuse(f"v{stem}", name, f"range{number}{stem}", "--agc-range", limits)
        assert code == 0 and ("--agc-range" in said) == bool(words) and words in said, said


def test_a_preview_beside_the_counts_is_left_aside(here: Path) -> None:
    with tifffile.TiffWriter("p.tif") as writer:
        writer.write(COUNTS)
        writer.write(COUNTS[::4, ::4], subfiletype=1)
    assert fuse("v.png", "p.tif", "p.png", "--view", "thermal")[0] == 0
    assert fuse("v.png", "t.png", "q.png", "--view", "thermal")[0] == 0
    np.testing.assert_array_equal(cv2.imread("p.png"), cv2.imread("q.png"))
    tifffile.imwrite("two.tif", np.stack([COUNTS, COUNTS]))
    code, said = fuse("v.png", "two.tif", "r.png")
    assert code == 2 and "several pages" in said


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_display_matrix_turns_mirrors_and_turns_the_pixels_too(here: Path, degrees: int, mirrored: bool) -> None:
    """Stored so that a player shows the scene upright."""
    upright = SCENE[:, ::-1] if mirrored else SCENE
    with av.open("m.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "4"})
        stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
        stream.height, stream.width, stream.pix_fmt = *stored.shape[:2], "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(degrees, hflip=mirrored)
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    code, said = fuse("m.mp4", "t.mkv", "o.mkv", "--view", "visible")
    assert code == 0, said
    with av.open("o.mkv") as container:
        assert container.streams.video[0].sample_aspect_ratio == (Fraction(3, 4) if degrees % 180 else Fraction(4, 3))
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert shown.shape == SCENE.shape
    for row, column in ((12, 16), (12, 48), (36, 16), (36, 48)):
        assert np.abs(shown[row, column] - SCENE[row, column]).max() <= 40


def test_names_are_names(here: Path) -> None:
    long = "a" * 247 + ".png"
    for name in ("50%done.mkv", "rec%03d.mkv", "cam1:front.mkv", "a#b.mkv", "what?.mkv", "-x.mkv"):
        os.link("v.mkv", name)
        code, said = fuse(f"./{name}", "t.mkv", f"2024-05-01T12:30:00 {name}")
        assert code == 0 and Path(f"2024-05-01T12:30:00 {name}").stat().st_size > 0, said
    assert fuse("v.png", "t.png", long)[0] == 0 and Path(long).is_file()
    for arguments in (("v.png", "t.png", "a" * 300 + ".png"), ("a" * 300 + ".png", "t.png", "x.png"),
                      ("a" * 300 + ".mkv", "t.mkv", "x.mkv")):  # fmt: skip
        code, said = fuse(*arguments)
        assert code == 2 and "Traceback" not in said
    code, said = fuse("v.mkv?tack=1", "t.mkv", "x.mkv")
    assert code == 2 and "'tack=1' is no option" in said


def test_a_file_that_breaks_off_ends_with_1_unless_allowed(here: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (8, 48, 64, 3), np.uint8)
    whole = video(here / "w.mkv", list(noise)).read_bytes()
    Path("cut.mkv").write_bytes(whole[: len(whole) // 2])
    code, said = fuse("cut.mkv", "t.mkv", "o.mkv")
    assert code == 1 and "cut.mkv breaks off" in said and Path("o.mkv").is_file()
    code, said = fuse("cut.mkv", "t.mkv", "p.mkv", "--allow-damage")
    assert code == 0 and "note: " in said and "breaks off" in said


def test_tracks_and_halves_of_one_file(here: Path) -> None:
    both = [np.hstack([SCENE, np.repeat(SCENE[::-1, ..., :1], 3, axis=2)])] * 4
    video(here / "b.mkv", both)
    assert fuse("b.mkv#half=left", "b.mkv#half=right", "o.mkv")[0] == 0
    for second in ("b.mkv", "b.mkv#half=left"):
        code, said = fuse(second, second, "p.mkv")
        assert code == 2 and "half=right" in said and "track=1" in said
    code, said = fuse("b.mkv", "t.mkv?track=1", "q.mkv")
    assert code == 2 and "1 video track" in said


def test_a_recorded_double_height_video_runs_to_its_end(here: Path) -> None:
    """Both halves of one file, live: one recording of counts, then the end."""
    with av.open("d.mkv", "w") as container:
        stream = container.add_stream("rawvideo", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 96, 64, "yuyv422"
        for number in range(6):
            packed = np.full((96, 64, 2), 128, np.uint8)
            packed[:48, :, 0] = SCENE[..., 0]
            packed[48:] = (COUNTS + np.uint16(number)).view(np.uint8).reshape(48, 64, 2)
            frame = av.VideoFrame(64, 96, "yuyv422")
            rows = np.zeros((96, frame.planes[0].line_size), np.uint8)
            rows[:, :128] = packed.reshape(96, 128)
            frame.planes[0].update(rows.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    config = {
        "rig": "test",
        "visible": {"uri": f"file:{here / 'd.mkv'}#half=top"},
        "thermal": {"uri": f"file:{here / 'd.mkv'}#half=bottom&counts=1"},
        "engine": {"name": "average"},
        "recording": {"directory": str(here / "rec"), "autostart": True},
    }
    Path("c.yaml").write_text(json.dumps(config))
    code, said = cli("run", "--config", "c.yaml", "--headless")
    assert code == 0, said
    recorded = sorted((here / "rec").glob("*.mkv"))
    assert len(recorded) == 1
    with RecordingReader(recorded[0]) as reader:
        pairs = list(reader)
    assert len(pairs) == 6
    for number, pair in enumerate(pairs):
        assert pair.thermal is not None
        np.testing.assert_array_equal(pair.thermal.pixels, COUNTS + np.uint16(number))


def test_the_same_pictures_are_read_and_told_by_every_command(here: Path) -> None:
    """A set as people have it: a palette, NaN, min is white, a turned JPEG, and what is no picture."""
    rng = np.random.default_rng(2)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (96, 128, 3), np.uint8), (0, 0), 3)
    scene = cv2.normalize(scene, None, 20, 235, cv2.NORM_MINMAX)
    heat = scene[..., 1]
    for folder in ("Vis", "Ir"):
        Path("set", folder).mkdir(parents=True)
        Path("set", folder, "._a.png").write_bytes(b"sidecar")
        Path("set", folder, "f.png").mkdir()
    for stem in "abc":
        cv2.imwrite(f"set/Vis/{stem}.png", scene[..., ::-1])
    cv2.imwrite("set/Ir/a.png", colorize(heat, "rainbow")[..., ::-1])
    celsius = heat.astype(np.float32) / 10
    celsius[:4] = np.nan
    tifffile.imwrite("set/Ir/b.tif", celsius)
    tifffile.imwrite("set/Ir/c.tif", np.invert(heat), photometric="miniswhite")
    commands = {
        "fuse": fuse("set/Vis", "set/Ir", "fused"),
        "evaluate": cli("evaluate", "--engine", "average", "--pairs", "set", "--shifts", "0"),
        "doctor": cli("train", "doctor", "set"),
    }
    for name, (code, said) in commands.items():
        assert code == 0, (name, said)
        assert "palette rainbow" in said and "512 of 12288 pixels" in said, (name, said)
    views = [cv2.imread(str(path)).astype(int) for path in sorted(Path("fused").iterdir())]
    assert len(views) == 3 and np.abs(views[0] - views[2])[8:-8, 8:-8].mean() < 12
    config = {"rig": "t", "visible": {"uri": "images:set/Vis"}, "thermal": {"uri": "images:set/Ir"}}
    Path("c.yaml").write_text(json.dumps(config | {"engine": {"name": "average"}}))
    code, said = cli("run", "--config", "c.yaml", "--headless")
    assert code == 0 and "3 pictures fused" in said
