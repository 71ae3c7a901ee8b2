"""`lumitherm run`: options, exit codes, signals, and that every way of ending closes the recording."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.recording.reader import RecordingReader
from app.recording.segments import list_recordings

ROOT = Path(__file__).resolve().parents[2]


# Runs the command line with test cameras in place of the simulated rig, which takes seconds to paint its scene.
_PROGRAM = """
import sys
sys.path.insert(0, "tests")
from support import live as support
import app.pipeline.live_fusion
app.pipeline.live_fusion.LiveFusion.__init__.__kwdefaults__["camera_factory"] = support.camera_factory()
from app.__main__ import main
sys.argv = ["lumitherm", *sys.argv[1:]]
main()
"""


def command(folder: Path, *options: str) -> list[str]:
    config = folder / "rig.yaml"
    config.write_text(
        "rig: test\nvisible: {uri: sim:visible}\nthermal: {uri: sim:thermal}\nengine: {name: average}\n"
        f"recording: {{directory: {folder / 'recordings'}, reserve_mb: 1, reserve_s: 0}}\n"
        "logging: {stats_interval_s: 0.5}\n"
    )
    return [sys.executable, "-c", _PROGRAM, "run", "--config", str(config), "--headless", *options]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=180, check=False, env=os.environ
    )


def test_runs_for_a_while_records_and_tells_what_it_did(tmp_path: Path) -> None:
    done = run(tmp_path, "--duration", "2", "--record", "--set", "recording.tracks=[fused, thermal]")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ pictures fused by average, latency p50 [\d.]+ ms", done.stdout)
    (path,) = list_recordings(tmp_path / "recordings")
    assert str(path) in done.stdout
    with RecordingReader(path) as reader:
        assert [track.value for track in reader.tracks] == ["fused", "thermal"] and reader.info.closed_in_order
    lines = [line for line in done.stderr.splitlines() if '"event": "stats"' in line]
    assert lines and '"fps_fused"' in lines[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_closes_the_recording(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        command(tmp_path, "--record"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 240
        while not list((tmp_path / "recordings").glob("*.jsonl")):
            assert time.monotonic() < end and process.poll() is None, process.communicate()
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 128 + number, err
    assert "recorded" in out
    (path,) = list_recordings(tmp_path / "recordings")
    with RecordingReader(path) as reader:
        assert reader.info.closed_in_order and len(reader) > 0


def test_the_end_tells_that_the_disk_was_full_for_the_rest_of_the_run(tmp_path: Path) -> None:
    done = subprocess.run(
        ["prlimit", "--fsize=30000", *command(tmp_path, "--duration", "4", "--record")],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert "problem: nothing is recorded: " in done.stdout and "could not be written" in done.stdout, done.stdout


def _signals(*names: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A program that stops in order, sent these signals at once."""
    program = f"""
import os, signal
from app.commands.common.output import stop_on_signals
{before}
with stop_on_signals() as (stop, received):
    signal.pthread_sigmask(signal.SIG_BLOCK, [{", ".join(f"signal.{name}" for name in set(names))}])
    for number in [{", ".join(f"signal.{name}" for name in names)}]:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    print(stop.is_set(), len(received))
"""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_signals_that_come_together_leave_no_traceback_of_pythons() -> None:
    done = _signals("SIGINT", "SIGTERM")
    assert done.returncode == -signal.SIGTERM and "race condition" not in done.stderr, done.stderr


def test_a_hang_up_asks_once_however_often_it_comes_and_nohup_has_its_way() -> None:
    program = "with stop_on_signals() as (stop, _):\n    for _ in range(2): signal.raise_signal(signal.SIGHUP)\n"
    assert _signals(before=program + "    print(stop.is_set())").stdout.split()[0] == "True"
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + program + "    print(stop.is_set())"
    assert _signals(before=ignored).stdout.split()[0] == "False"


def test_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--set", "engine.nmae=average")
    assert done.returncode == 2 and "engine.nmae" in done.stderr and "name" in done.stderr


def test_a_wrong_calibration_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--set", f"calibration.file={tmp_path / 'none.yaml'}")
    assert done.returncode == 2 and "none.yaml" in done.stderr


def _unwritable(folder: Path, kind: str) -> Path:
    """A place where nothing can be recorded, also by root."""
    if kind == "a device":
        return Path("/dev/full")
    if kind == "below a file":
        (folder / "file").write_text("")
        return folder / "file" / "recordings"
    if kind == "a folder of the kernel's":
        return Path("/proc/lumitherm")
    locked = folder / "locked"
    locked.mkdir()
    if os.geteuid() == 0:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", str(locked)], check=False).returncode:
            pytest.skip("a read-only folder needs mounting here")
    else:
        locked.chmod(0o500)
    return locked


@pytest.mark.parametrize("kind", ["a device", "below a file", "a folder of the kernel's", "read-only"])
def test_a_folder_that_cannot_be_written_is_found_before_anything_begins(tmp_path: Path, kind: str) -> None:
    place = _unwritable(tmp_path, kind)
    try:
        began = time.monotonic()
        done = run(tmp_path, "--record", "--duration", "30", "--set", f"recording.directory={place}")
        assert done.returncode == 1 and str(place) in done.stderr and "recording.directory" in done.stderr
        assert "fused" not in done.stdout and time.monotonic() - began < 25
        assert "Traceback" not in done.stderr
    finally:
        if place.is_mount():
            subprocess.run(["umount", str(place)], check=True)


def test_a_service_whose_time_ran_out_without_a_recording_ends_with_1(tmp_path: Path) -> None:
    """It goes on meanwhile, for a disk may come back; at its end nobody may believe that there is a recording."""
    place = _unwritable(tmp_path, "below a file")
    own = {"state_directory": tmp_path / "state", "control.socket": tmp_path / "c.sock", "web.port": 0}
    options = [part for key, value in own.items() for part in ("--set", f"service.{key}={value}")]
    done = run(tmp_path, "--record", "--duration", "2", "--service", "--set", f"recording.directory={place}", *options)
    assert done.returncode == 1 and f"nothing was recorded in {place}" in done.stderr, done.stderr
    assert "pictures fused" in done.stdout and "Traceback" not in done.stderr


def test_a_recording_that_never_came_ends_with_1_and_says_why(tmp_path: Path) -> None:
    """No camera is there: whoever asked for a recording must not believe that there is one."""
    start = command(tmp_path, "--record")
    away = "camera_factory(*(support.PatternCamera(s, size=(96, 128)) for s in ('visible', 'thermal')))"
    start[2] = (
        start[2]
        .replace("support.camera_factory()", f"support.{away}")
        .replace(
            "from app.__main__",
            "support.PatternCamera.absent = property(lambda self: True, lambda self, value: None)\nfrom app.__main__",
        )
    )
    with subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(8)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "nothing was recorded" in err and "no camera gave a picture" in err, err
    assert "Traceback" not in err and not list_recordings(tmp_path / "recordings")
