"""`lumitherm fuse` from end to end, on files made here, with an engine that is trivial and exact."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rich.console import Console

import app.__main__ as command_line
from app.commands.fuse import ProgressPrinter
from app.jobs.fuse_files import fuse_files
from app.jobs.report import FuseProgress
from app.jobs.request import FuseOptions, FuseRequest
from app.media.reader import VideoReader
from app.media.writer import VideoFormat, VideoWriter
from app.view.views import FileView
from fusion_core.errors import EngineError
from fusion_core.frames import Stream

ROOT = Path(__file__).resolve().parents[2]
SHARED_VIDEO = ROOT.parent / "shared" / "data" / "video"
HEIGHT, WIDTH = 48, 64


class HalfEngine:
    """Visible luma goes into red, thermal into green: the output shows which frames were paired."""

    name = "half"

    def __init__(self) -> None:
        self.calls = 0
        self.closed = False

    def warm_up(self, height: int, width: int) -> None:
        pass

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        self.calls += 1
        assert thermal.shape == visible.shape[:2] and thermal.dtype == np.uint8
        return np.dstack([visible[..., 0], thermal, np.full_like(thermal, 64)])

    def reset(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class FailingEngine(HalfEngine):
    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        if self.calls == 12:
            raise EngineError("the engine failed at frame 12")
        return super().fuse(visible, thermal)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the whole command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr("fusion_core.engines.engine.create_engine", lambda *_, **__: HalfEngine(), raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lumitherm", "fuse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(command_line.run())
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def ramp(value: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    value %= 220
    picture = np.full((height, width), value, np.uint8)
    picture[:, : width // 4] = 255 - value
    return picture


def write_visible(path: Path, pts: list[int], time_base: Fraction = Fraction(1, 1000), width: int = WIDTH) -> Path:
    writer = VideoWriter(path, HEIGHT, width, time_base, Fraction(30), VideoFormat(crf=4))
    for number, stamp in enumerate(pts):
        writer.write(np.dstack([ramp(60 + number, width=width)] * 3), stamp, pts[1] - pts[0])
    writer.close()
    return path


def write_thermal(path: Path, pts: list[int], bits: int = 8, height: int = 30, width: int = 40) -> Path:
    kind = "gray" if bits == 8 else "gray16le"
    writer = VideoWriter(path, height, width, Fraction(1, 1000), Fraction(9), VideoFormat("ffv1", kind))
    for number, stamp in enumerate(pts):
        levels = ramp(40 + 20 * number, height, width)
        writer.write(levels if bits == 8 else levels.astype(np.uint16) * 16 + 7000, stamp, pts[1] - pts[0])
    writer.close()
    return path


def frames_of(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def duration_s(path: Path) -> float:
    with av.open(str(path)) as container:
        assert container.duration is not None
        return float(container.duration / av.time_base)


# Videos


@pytest.mark.parametrize("bits", [8, 16])
def test_different_rates_and_sizes_are_paired_by_time(tmp_path: Path, run: Run, bits: int) -> None:
    visible_pts = [n * 40 for n in range(20)]  # 25 fps
    thermal_pts = [n * 111 for n in range(8)]  # 9 fps
    visible = write_visible(tmp_path / "v.mkv", visible_pts)
    thermal = write_thermal(tmp_path / "t.mkv", thermal_pts, bits)
    code, out, _ = run(visible, thermal, "-o", tmp_path / "f.mkv", "--crf", "4", "--agc-range", "7000:11080")
    assert code == 0
    assert out.splitlines()[0].startswith("20 frames (0.80 s of video)")
    assert out.splitlines()[-1] == str(tmp_path / "f.mkv")
    fused = frames_of(tmp_path / "f.mkv")
    assert [t for t, _ in fused] == [Fraction(p, 1000) for p in visible_pts]
    assert duration_s(tmp_path / "f.mkv") == pytest.approx(0.8, abs=0.002)
    for (_, picture), visible_ms in zip(fused, visible_pts, strict=True):
        nearest = min(range(8), key=lambda n: abs(thermal_pts[n] - visible_ms))
        assert abs(int(picture[24, 48, 1]) - (40 + 20 * nearest)) <= 6
        assert abs(int(picture[24, 48, 0]) - (60 + visible_ms // 40)) <= 6


def test_a_variable_rate_and_a_late_start_are_kept_exactly_in_mp4(tmp_path: Path, run: Run) -> None:
    pts = [126000, 129000, 129500, 150000, 151111, 180000, 183003, 183100]
    visible = write_visible(tmp_path / "v.mp4", pts, Fraction(1, 90000))
    thermal = write_thermal(tmp_path / "t.mkv", [n * 50 for n in range(60)], 8)
    code, *_ = run(visible, thermal, "-o", tmp_path / "f.mp4")
    assert code == 0
    assert [t for t, _ in frames_of(tmp_path / "f.mp4")] == [Fraction(p, 90000) for p in pts]


def test_missing_thermal_is_held_then_left_out_and_said(tmp_path: Path, run: Run) -> None:
    visible = write_visible(tmp_path / "v.mkv", [n * 40 for n in range(25)])
    thermal = write_thermal(tmp_path / "t.mkv", [n * 40 for n in range(6)])
    code, out, _ = run(
        visible, thermal, "-o", tmp_path / "f.mkv", "--max-hold-ms", 200, "--max-skew-ms", 20, "--view", "side-by-side"
    )
    assert code == 0
    assert (
        "thermal missing: 5 frames with the last thermal picture held, 14 frames visible only, first at 0.24 s" in out
    )
    fused = frames_of(tmp_path / "f.mkv")
    assert len(fused) == 25
    assert fused[0][1].shape == (HEIGHT, 3 * WIDTH, 3)
    assert fused[-1][1][24, WIDTH + 48].max() <= 4  # the thermal panel is black
    assert fused[8][1][24, WIDTH + 48].min() > 100  # held


def test_limit_and_views(tmp_path: Path, run: Run) -> None:
    visible = write_visible(tmp_path / "v.mkv", [n * 40 for n in range(10)])
    thermal = write_thermal(tmp_path / "t.mkv", [n * 40 for n in range(10)])
    for view, shape in [("quad", (2 * HEIGHT, 2 * WIDTH, 3)), ("thermal", (HEIGHT, WIDTH, 3))]:
        code, *_ = run(visible, thermal, "-o", tmp_path / f"{view}.mkv", "--limit", 4, "--view", view)
        assert code == 0
        fused = frames_of(tmp_path / f"{view}.mkv")
        assert len(fused) == 4 and fused[0][1].shape == shape


def test_numbered_pictures_become_a_video(tmp_path: Path, run: Run) -> None:
    for number in range(3, 9):
        cv2.imwrite(str(tmp_path / f"v{number:03d}.png"), ramp(50 + number))
        cv2.imwrite(str(tmp_path / f"t{number:03d}.png"), ramp(90 + number).astype(np.uint16) * 50)
    code, *_ = run(tmp_path / "v%03d.png", tmp_path / "t%03d.png", "-o", tmp_path / "f", "--sequence-fps", 10)
    assert code == 0
    assert [t for t, _ in frames_of(tmp_path / "f.mkv")] == [Fraction(n, 10) for n in range(3, 9)]


def test_the_threads_are_gone_and_the_report_adds_up(tmp_path: Path) -> None:
    visible = write_visible(tmp_path / "v.mkv", [n * 40 for n in range(12)])
    thermal = write_thermal(tmp_path / "t.mkv", [n * 40 for n in range(12)])
    seen: list[FuseProgress] = []
    engine = HalfEngine()
    report = fuse_files(FuseRequest(visible, thermal, tmp_path / "f.mkv"), lambda: engine, seen.append)
    assert not [t for t in threading.enumerate() if t.name.startswith("fuse-")]
    assert engine.closed and engine.calls == 12
    assert [p.done for p in seen] == list(range(1, 13))
    assert report.frames == 12 and set(report.stages) == {"decode", "fuse", "encode"}
    assert sum(stage.share for stage in report.stages.values()) == pytest.approx(1.0)


def test_covered_lens_and_other_shape_are_noted(tmp_path: Path, run: Run) -> None:
    visible = write_visible(tmp_path / "v.mkv", [0, 40, 80])
    writer = VideoWriter(tmp_path / "t.mkv", 40, 40, Fraction(1, 1000), Fraction(25), VideoFormat("ffv1", "gray16le"))
    for number in range(3):
        writer.write(np.full((40, 40), 7000, np.uint16) + np.uint16(number * np.eye(40)), number * 40, 40)
    writer.close()
    code, out, _ = run(visible, tmp_path / "t.mkv", "-o", tmp_path / "f.mkv")
    assert code == 0 and len(frames_of(tmp_path / "f.mkv")) == 3
    assert "1 thermal frames have the same value" in out and "differ in shape (visible 64x48, thermal 40x40)" in out


def test_a_stop_before_the_first_frame_leaves_nothing(tmp_path: Path) -> None:
    visible = write_visible(tmp_path / "v.mkv", [0, 40, 80])
    thermal = write_thermal(tmp_path / "t.mkv", [0, 40, 80])
    stop = threading.Event()
    stop.set()
    report = fuse_files(FuseRequest(visible, thermal, tmp_path / "f.mkv"), HalfEngine, stop=stop)
    assert report.interrupted and report.frames == 0 and not (tmp_path / "f.mkv").exists()


# Pictures and folders


def test_a_pair_of_pictures(tmp_path: Path, run: Run) -> None:
    cv2.imwrite(str(tmp_path / "v.png"), ramp(70))
    cv2.imwrite(str(tmp_path / "t.tiff"), ramp(90, 24, 32).astype(np.uint16) * 40)
    code, out, _ = run(tmp_path / "v.png", tmp_path / "t.tiff", "-o", tmp_path / "f.png")
    assert code == 0 and out.startswith("1 picture,")
    fused = cv2.imread(str(tmp_path / "f.png"))
    assert fused is not None and fused.shape == (HEIGHT, WIDTH, 3) and fused[24, 48, 2] == 70


def make_folders(tmp_path: Path, visible_names: list[str], thermal_names: list[str]) -> tuple[Path, Path]:
    visible, thermal = tmp_path / "visible", tmp_path / "thermal"
    for folder, names in ((visible, visible_names), (thermal, thermal_names)):
        folder.mkdir()
        for name in names:
            cv2.imwrite(str(folder / f"{name}.png"), ramp(70))
    return visible, thermal


def test_folders_are_matched_by_name(tmp_path: Path, run: Run) -> None:
    visible, thermal = make_folders(tmp_path, ["a", "b", "c"], ["b", "c", "d"])
    out_folder = tmp_path / "out"
    code, _, err = run(visible, thermal, "-o", out_folder)
    assert code == 2 and "only in" in err and "--allow-unmatched" in err and not out_folder.exists()
    code, out, _ = run(visible, thermal, "-o", out_folder, "--allow-unmatched")
    assert code == 0 and "2 pictures without a partner were left out" in out
    assert sorted(p.name for p in out_folder.iterdir()) == ["b.png", "c.png"]
    code, _, err = run(visible, thermal, "-o", out_folder, "--allow-unmatched")
    assert code == 2 and "--overwrite" in err
    assert run(visible, thermal, "-o", out_folder, "--allow-unmatched", "--overwrite")[0] == 0


def test_a_bad_picture_in_a_folder_keeps_those_before_it(tmp_path: Path, run: Run) -> None:
    visible, thermal = make_folders(tmp_path, ["a", "b", "c"], ["a", "b", "c"])
    cv2.imwrite(str(thermal / "c.png"), np.full((30, 40), 5, np.uint8))
    code, _, err = run(visible, thermal, "-o", tmp_path / "out")
    assert code == 2 and "same value" in err and "The 2 pictures before it" in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


# What goes wrong


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("lumitherm:")]
    assert len(lines) == 1, err
    return lines[0]


def test_bad_requests_end_with_one_line_and_code_2(tmp_path: Path, run: Run) -> None:
    visible = write_visible(tmp_path / "v.mkv", [0, 40, 80])
    thermal = write_thermal(tmp_path / "t.mkv", [0, 40, 80])
    (tmp_path / "empty.mkv").touch()
    (tmp_path / "text.mkv").write_text("no video " * 100)
    cv2.imwrite(str(tmp_path / "p.png"), ramp(70))
    nan = ramp(70).astype(np.float32)
    nan[:, 3:] = np.nan
    cv2.imwrite(str(tmp_path / "nan.tiff"), nan)
    cv2.imwrite(str(tmp_path / "flat.png"), np.zeros((30, 40), np.uint8))
    fresh = tmp_path / "fresh.mkv"
    cases: list[tuple[object, object, object, str]] = [
        (tmp_path / "none.mkv", thermal, fresh, "does not exist"),
        (visible, tmp_path / "empty.mkv", fresh, "empty"),
        (tmp_path / "text.mkv", thermal, fresh, "cannot be read as a video"),
        (visible, tmp_path / "p.png", fresh, "same kind"),
        (visible, thermal, thermal, "also an input"),
        (visible, thermal, tmp_path / "no" / "f.mkv", "does not exist. Create it"),
        (visible, thermal, tmp_path / "f.avi", "written as .mkv, .mp4, got '.avi'"),
        (tmp_path / "p.png", tmp_path / "nan.tiff", tmp_path / "f.png", "NaN"),
        (tmp_path / "p.png", tmp_path / "flat.png", tmp_path / "f.png", "same value"),
        (tmp_path / "p.png", tmp_path / "p.png", tmp_path / "p.png", "also an input"),
    ]
    for first, second, output, words in cases:
        code, _, err = run(first, second, "-o", output)
        assert code == 2, words
        assert words in one_line(err)
    assert not fresh.exists() and not (tmp_path / "f.png").exists()
    code, _, err = run(visible, thermal, "-o", fresh, "--agc-range", "5000")
    assert code == 2 and "LOW:HIGH" in one_line(err)
    code, _, err = run(visible, thermal, "-o", fresh, "--thermal-offset-ms", "100000")
    assert code == 2 and "do not overlap" in one_line(err) and "--thermal-offset-ms 0" in one_line(err)
    code, _, err = run(visible, visible, "-o", fresh)
    assert code == 2 and "are the same" in one_line(err)
    code, _, err = run(visible, thermal, "-o", fresh, "--agc-range", "500:100")
    assert code == 2 and "must be below" in one_line(err)


def test_an_output_in_the_way_needs_force(tmp_path: Path, run: Run) -> None:
    visible = write_visible(tmp_path / "v.mkv", [0, 40, 80])
    thermal = write_thermal(tmp_path / "t.mkv", [0, 40, 80])
    (tmp_path / "f.mkv").write_text("precious")
    code, _, err = run(visible, thermal, "-o", tmp_path / "f.mkv")
    assert code == 2 and "--overwrite" in one_line(err) and (tmp_path / "f.mkv").read_text() == "precious"
    assert run(visible, thermal, "-o", tmp_path / "f.mkv", "--overwrite")[0] == 0
    assert len(frames_of(tmp_path / "f.mkv")) == 3


def test_no_overlap_that_only_the_frames_reveal_leaves_no_output(tmp_path: Path, run: Run) -> None:
    visible = write_visible(tmp_path / "v.mkv", [0, 40, 80, 5000])  # a gap in which all thermal frames lie
    thermal = write_thermal(tmp_path / "t.mkv", [0, 40])
    code, _, err = run(visible, thermal, "-o", tmp_path / "f.mkv", "--thermal-offset-ms", 2000)
    assert code == 2 and "do not overlap" in one_line(err) and not (tmp_path / "f.mkv").exists()


@pytest.mark.parametrize("which", ["visible", "thermal"])
def test_a_truncated_video_is_fused_as_far_as_it_goes_and_named(tmp_path: Path, run: Run, which: str) -> None:
    pts = [n * 40 for n in range(50)]
    rng = np.random.default_rng(5)
    files = {"visible": tmp_path / "v.mkv", "thermal": tmp_path / "t.mkv"}
    writer = VideoWriter(files["visible"], HEIGHT, WIDTH, Fraction(1, 1000), Fraction(25), VideoFormat(crf=4))
    for stamp in pts:
        writer.write(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8), stamp, 40)
    writer.close()
    write_thermal(files["thermal"], pts, 16)
    whole = files[which].read_bytes()
    files[which].write_bytes(whole[: len(whole) // 2])
    code, out, err = run(files["visible"], files["thermal"], "-o", tmp_path / "f.mkv")
    assert code == 1 and files[which].name in one_line(err) and str(tmp_path / "f.mkv") in out
    count = len(frames_of(tmp_path / "f.mkv"))
    assert count == 50 if which == "thermal" else 10 < count < 40


def test_an_engine_failure_keeps_the_frames_before_it(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion_core.engines.engine.create_engine", lambda *_, **__: FailingEngine(), raising=False)
    visible = write_visible(tmp_path / "v.mkv", [n * 40 for n in range(30)])
    thermal = write_thermal(tmp_path / "t.mkv", [n * 40 for n in range(30)])
    code, _, err = run(visible, thermal, "-o", tmp_path / "f.mkv")
    assert code == 1 and "The 12 frames before it are in" in one_line(err)
    assert len(frames_of(tmp_path / "f.mkv")) == 12


# Ends from outside: separate processes, with an engine slow enough to be caught at work

SLOW_PROGRAM = """
import resource, sys, time
import numpy as np
import fusion_core.engines.engine, app.__main__ as command_line

class Noise:
    name = "noise"
    rng = np.random.default_rng(1)
    def warm_up(self, height, width): pass
    def fuse(self, visible, thermal):
        time.sleep({sleep_s})
        return self.rng.integers(0, 255, visible.shape).astype(np.uint8)
    def reset(self): pass
    def close(self): pass

fusion_core.engines.engine.create_engine = lambda *_, **__: Noise()
if {limit}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
command_line.main()
"""


def start(tmp_path: Path, output: Path, sleep_s: float = 0.0, size_limit: int = 0) -> subprocess.Popen[str]:
    visible = write_visible(tmp_path / "v.mkv", [n * 40 for n in range(150)])
    thermal = write_thermal(tmp_path / "t.mkv", [n * 40 for n in range(150)])
    program = textwrap.dedent(SLOW_PROGRAM).format(sleep_s=sleep_s, limit=size_limit)
    return subprocess.Popen(
        [sys.executable, "-c", program, "fuse", str(visible), str(thermal), "-o", str(output)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_bytes(process: subprocess.Popen[str], output: Path, size: int) -> None:
    deadline_s = time.monotonic() + 240
    while not output.exists() or output.stat().st_size < size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_a_file_that_plays_and_says_so(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    output = tmp_path / "f.mkv"
    process = start(tmp_path, output, sleep_s=0.05)
    wait_for_bytes(process, output, 60_000)
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert process.returncode == exit_code, err
    assert "stopped early" in err and "plays" in err and "Traceback" not in err
    fused = frames_of(output)
    assert 5 < len(fused) < 150
    assert out.startswith(f"{len(fused)} frames")
    assert duration_s(output) == pytest.approx(len(fused) * 0.04, abs=0.002)  # closed properly


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_kill_leaves_a_file_that_plays(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"f{suffix}"
    process = start(tmp_path, output, sleep_s=0.02)
    wait_for_bytes(process, output, 100_000)
    process.kill()
    process.communicate(timeout=240)
    fused = frames_of(output)
    assert len(fused) > 10
    assert [t for t, _ in fused] == [Fraction(n * 40, 1000) for n in range(len(fused))]


def test_a_disk_that_was_full_before_promises_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, tmp_path / "f.mkv", size_limit=1)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "no room left" in one_line(err) and "Nothing that plays was written." in one_line(err)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_full_disk_ends_with_one_line_and_a_file_that_plays(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"f{suffix}"
    process = start(tmp_path, output, size_limit=150_000)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "no room left" in one_line(err) and "Traceback" not in err
    assert 100_000 < output.stat().st_size <= 150_000
    # read as players do: a last packet that was cut off is skipped
    reader = VideoReader(output, Stream.VISIBLE)
    fused = [frame.frame.timestamp_ns for frame in reader.frames()]
    reader.close()
    assert len(fused) > 50
    assert fused == [n * 40_000_000 for n in range(len(fused))]


# Progress


def test_progress_is_plain_where_there_is_no_terminal() -> None:
    text, now_s = io.StringIO(), iter([0.0, 1.0, 2.5])
    with ProgressPrinter(Console(file=text), lambda: next(now_s)) as printer:
        for done in (1, 10, 20):
            printer.update(FuseProgress(done, 120, 20.0))
    assert text.getvalue().splitlines() == [
        "fusing frame 1/120, 20.0 fps, 0:06 left",
        "fusing frame 20/120, 20.0 fps, 0:05 left",
    ]


def test_progress_is_a_bar_on_a_terminal() -> None:
    text = io.StringIO()
    with ProgressPrinter(Console(file=text, force_terminal=True, width=100)) as printer:
        printer.update(FuseProgress(3, 12, 21.5))
    assert "21.5 fps" in text.getvalue() and "3/12" in text.getvalue()


# Real footage, where it lies beside the checkout


@pytest.mark.skipif(not SHARED_VIDEO.is_dir(), reason="no shared/data/video beside the checkout")
@pytest.mark.parametrize("name", ["m3svd_0111_1803", "vtuav_bus1"])
def test_real_footage(tmp_path: Path, name: str) -> None:
    options = FuseOptions(view=FileView.FUSED, limit=12)
    report = fuse_files(
        FuseRequest(SHARED_VIDEO / f"{name}_vi.mp4", SHARED_VIDEO / f"{name}_ir.mp4", tmp_path / "f.mkv", options),
        HalfEngine,
    )
    assert report.frames == 12 and report.held == report.visible_only == 0
    assert [t for t, _ in frames_of(tmp_path / "f.mkv")] == [Fraction(n, 25) for n in range(12)]
