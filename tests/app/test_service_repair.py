"""What a restart leaves behind: recordings go on, cut files are mended, and every complete file is told of."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.live import wait_until
from support.service import running, service_settings

from app.pipeline.live_fusion import LiveFusion
from app.pipeline.state.stats import RecordingState
from app.recording.segments import list_recordings
from app.recording.self_check import check_recording
from app.service.start import RequestedRecording, RequestedRecordingFile, requested_recording_file, safe_mode_config
from app.service.tasks.recording_repair import RecordingRepair, is_ended
from app.service.web.control import ask
from benchmarks.soak.fault_keeper import Keeper

# ------------------------------------------------------------------ what was asked for


def test_a_wish_to_record_holds_for_ever_and_one_to_stop_until_power_off(tmp_path: Path) -> None:
    file = tmp_path / "state" / "recording-rig.json"

    def book(boot: str = "one") -> RequestedRecordingFile:
        return RequestedRecordingFile(file, boot)

    assert book().read() is None
    book().note(True, "night watch")
    assert book().read() == book("two").read() == RequestedRecording(True, "night watch")
    book().note(False, None)
    assert book().read() == RequestedRecording(False) and book("two").read() is None
    assert list(file.parent.iterdir()) == [file]  # nothing half written is left
    for text in ("", "{", "[1]", "null", '{"recording": 1, "label": null, "boot": "one"}', '{"recording": true}'):
        file.write_text(text)
        assert book().read() is None
    file.write_text(json.dumps({"recording": True, "label": 7, "boot": "one"}))
    assert book().read() == RequestedRecording(True)


def test_a_folder_that_cannot_be_written_stops_no_recording(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    RequestedRecordingFile(tmp_path / "file" / "wish.json", "one").note(True, None)


def recording(live: LiveFusion) -> bool:
    return live.stats.snapshot().recording is RecordingState.RECORDING


@pytest.mark.parametrize("autostart", [False, True])
def test_a_restart_goes_on_with_what_somebody_asked_for(autostart: bool, tmp_path: Path) -> None:
    config = service_settings(
        tmp_path, {"enabled": False}, recording={"autostart": autostart, "directory": tmp_path / "rec"}
    )
    wish = requested_recording_file(config)
    with running(config, requested=wish) as (live, handle):
        wait_until(lambda: recording(live) is autostart)
        handle.operations.call("start", {"label": "night"})
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > 3)
    assert wish.read() == RequestedRecording(True, "night")  # this end was no wish to stop
    with running(config, requested=requested_recording_file(config)) as (live, handle):
        wait_until(lambda: (status := live.recording.status) is not None and "night" in str(status.path))
        handle.operations.call("stop", {})
    for run in (config, safe_mode_config(config)):
        with running(run, requested=requested_recording_file(config)) as (live, _):
            wait_until(lambda: live.latest.sequence > 10)
            assert not recording(live)
    other = RequestedRecordingFile(requested_recording_file(config)._file, "another boot")
    with running(config, requested=other) as (live, _):
        wait_until(lambda: live.latest.sequence > 10 and recording(live) is autostart)


def test_an_event_ends_the_recording_that_it_began_and_no_other(tmp_path: Path) -> None:
    folder = {"directory": tmp_path / "rec", "post_event_s": 0.4, "reserve_mb": 1, "reserve_s": 0}
    config = service_settings(tmp_path, {"enabled": False}, recording=folder)
    wish = requested_recording_file(config)
    with running(config, requested=wish) as (live, handle):
        handle.operations.call("event", {"label": "gate"})
        wait_until(lambda: list_recordings(tmp_path / "rec"))
        wait_until(lambda: not recording(live))
        assert wish.read() is None  # it ends by itself: nothing to go on with
        handle.operations.call("start", {})
        handle.operations.call("event", {"label": "gate"})
        wait_until(lambda: recording(live))
        frames = live.stats.snapshot().frames["recorded"]
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > frames + 15)  # a second
        assert recording(live)
        handle.operations.call("stop", {})
        handle.operations.call("event", {"label": "gate"})
        handle.operations.call("start", {"label": "stay"})  # while the event's recording is under way
        frames = live.stats.snapshot().frames["recorded"]
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > frames + 15)
        assert recording(live) and wish.read() == RequestedRecording(True, "stay")


# ------------------------------------------------------------------ complete files


def test_every_file_of_a_split_recording_is_told_of_once(tmp_path: Path) -> None:
    script = "import os, sys; open(sys.argv[1], 'a').write(os.environ['LUMITHERM_FILE'] + '\\n')"
    told = tmp_path / "told"
    hook = {"name": "up", "on": ["recording_finished"], "command": [sys.executable, "-c", script, str(told)]}
    folder = {"directory": tmp_path / "rec", "split_s": 1, "reserve_mb": 1, "reserve_s": 0}
    config = service_settings(tmp_path, {"enabled": False}, recording=folder, service={"hooks": [hook]})
    with running(config) as (live, handle):
        live.recording.start()
        wait_until(lambda: len(list_recordings(tmp_path / "rec")) >= 3)
        live.recording.stop()
        count = len(list_recordings(tmp_path / "rec"))
        wait_until(lambda: handle.hooks.outcomes.get(("up", "ok"), 0) >= count)
    assert sorted(told.read_text().split()) == [str(path) for path in list_recordings(tmp_path / "rec")]


def short_recording(folder: Path) -> Path:
    config = service_settings(folder.parent, {"enabled": False}, recording={"directory": folder})
    with running(config) as (live, _):
        live.recording.start()
        wait_until(lambda: live.stats.snapshot().frames["recorded"] > 10)
    return list_recordings(folder)[-1]


def test_what_a_kill_cut_off_is_mended_by_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    video = short_recording(folder)
    whole = short_recording(folder)
    sidecar = video.with_suffix(".jsonl")
    lines = sidecar.read_bytes().splitlines(keepends=True)
    assert is_ended(video) and is_ended(whole) and not is_ended(tmp_path / "none.mkv")
    sidecar.write_bytes(b"".join(lines[:-1]) + b'{"type":"frame"')  # killed within a line
    assert not is_ended(video)
    now, told, busy = [0.0], [], [video]
    care = RecordingRepair(folder, "lumitherm", lambda: busy, told.append, print, lambda: now[0])
    for now[0] in (0.0, 10.0, 20.0, 40.0):
        care.look()
    assert told == []  # it is being written, and the other was told of by the run that made it
    busy.clear()
    for now[0] in (41.0, 50.0):
        care.look()
    assert told == []
    now[0] = 57.0
    care.look()
    assert told == [video] and is_ended(video) and check_recording(video).problems == ()
    sidecar.write_bytes(b"".join(lines[:-1]))
    foreign = video.with_name("lumitherm-000009-20261122T000000Z.mkv")
    foreign.write_bytes(b"somebody else writes this")
    for now[0] in range(500, 600, 20):
        care.look()
    assert told == [video] and not foreign.with_suffix(".jsonl").exists()


def test_what_cannot_be_mended_is_tried_three_times(tmp_path: Path) -> None:
    video = tmp_path / "lumitherm-000001-20261122T000000Z.mkv"
    video.write_bytes(b"no recording")
    told: list[Path] = []
    tries = tmp_path / "tries"
    script = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit('damaged')"
    command = [sys.executable, "-c", script, str(tries)]
    now = [0.0]
    care = RecordingRepair(tmp_path, "lumitherm", list, told.append, print, lambda: now[0], command)
    for now[0] in range(0, 600, 20):
        care.look()
    assert tries.read_text() == "xxx" and told == []


# ------------------------------------------------------------------ the whole process stands still


def test_a_stopped_process_is_not_pinged_for_and_the_next_goes_on_recording(tmp_path: Path) -> None:
    """SIGSTOP: no thread of it runs, so nothing in it can notice; the pings cease, and that is noticed outside."""
    file, control = tmp_path / "rig.yaml", tmp_path / "c.sock"
    size = {"height": 96, "width": 128, "thermal_height": 96, "thermal_width": 128}
    document: dict[str, Any] = {
        "rig": "rig",
        "visible": {"uri": "sim:visible"},
        "thermal": {"uri": "sim:thermal"},
        "engine": {"name": "average"},
        "simulation": {**size, "visible_fps": 10, "thermal_fps": 10},
        "recording": {"directory": str(tmp_path / "rec")},
        "logging": {"format": "json"},
        "service": {"state_directory": str(tmp_path / "state"), "control": {"socket": str(control)}},
    }
    file.write_text(json.dumps(document))
    command = [sys.executable, "-m", "app", "run", "--headless", "--service", "--config", str(file)]
    keeper = Keeper(command, tmp_path, dict(os.environ), watchdog_s=4.0)
    try:
        wait_until(lambda: keeper.stays and keeper.stays[0].ready_s)
        ask(control, "start", {"label": "night"})
        wait_until(lambda: ask(control, "status", {})["stats"]["frames"]["recorded"] > 5)
        keeper.signal(signal.SIGSTOP)
        time.sleep(0.5)  # what was said before has arrived
        said = len(keeper.messages)
        wait_until(lambda: keeper.stays[0].ended_s is not None)
        assert len(keeper.messages) == said, "a stopped process cannot speak"
        assert keeper.stays[0].why == "no ping in time" and keeper.stays[0].exit_code == -signal.SIGABRT
        wait_until(lambda: len(keeper.stays) >= 2 and keeper.stays[-1].ready_s)
        wait_until(lambda: ask(control, "status", {})["stats"]["frames"]["recorded"] > 5)
        assert ask(control, "status", {})["restarts"] >= 1  # more on a machine that is too busy for pings
    finally:
        keeper.stop()
    videos = list_recordings(tmp_path / "rec")
    assert len(videos) >= 2 and all("night" in video.name for video in videos)
