"""A real service process with faults: half a minute here, three minutes with LUMITHERM_SOAK=1, an hour by hand."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support.live import wait_until

from benchmarks.soak.fault_keeper import Keeper
from benchmarks.soak.fault_report import Fault, Outcome, Picture
from benchmarks.soak.pipeline import small_disk
from benchmarks.soak.service import FaultSoak, Plan
from fusion_core.errors import UsageError
from fusion_core.frames import FrameFlag

LONG = os.environ.get("LUMITHERM_SOAK") == "1"
SHORT = ("corrupt configuration, SIGHUP", "thermal camera killed (TCP)", "engine fails")


@pytest.mark.rtsp
@pytest.mark.slow
@pytest.mark.alone
def test_the_service_gets_over_every_fault(tmp_path: Path) -> None:
    plan = Plan(180, 12) if LONG else Plan(26, 6, hold=0.4, safe_mode=False, only=SHORT)
    disk = tmp_path / "recordings"
    with small_disk(disk) as small:
        try:
            soak = FaultSoak(plan, tmp_path, disk, small)
        except UsageError as missing:
            pytest.skip(str(missing))
        outcome = soak.run()
    print((tmp_path / "report.md").read_text())
    assert outcome.errors == [] and outcome.file_problems == []
    assert {fault.name for fault in outcome.faults} >= set(SHORT)
    assert outcome.sound, [fault for fault in outcome.faults if fault.back_s is None]
    for name in SHORT:
        assert all(fault.noticed_s is not None for fault in outcome.faults if fault.name == name)
    for track in ("visible", "thermal"):  # the raw tracks are whole, whatever happened
        recorded, left_out = outcome.raw_frames[track]
        assert recorded > 50 and left_out <= 0.005 * recorded
    assert outcome.pings > 3
    assert outcome.exit_code == 128 + signal.SIGTERM
    assert outcome.stays[0].ready_s is not None
    for name in ("report.md", "faults.csv", "samples.csv", "soak.png"):
        assert (tmp_path / name).stat().st_size > 50
    if LONG:
        assert outcome.safe_mode["safe_mode"] is True and outcome.safe_mode["recorded"] > 0


_PROGRAM = """
import os, signal, socket, sys, time
def tell(text):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
for word in sys.argv[1].split(","):
    time.sleep(float(word)) if word[0].isdigit() else tell(word)
"""


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("READY=1,WATCHDOG=1,60", "no ping in time"),
        ("READY=1,WATCHDOG_USEC=100000,60", "no ping in time"),
        ("READY=1,0.1", "ended by itself"),
    ],
)
def test_the_keeper_does_what_systemd_does(behaviour: str, why: str, tmp_path: Path) -> None:
    keeper = Keeper([sys.executable, "-c", _PROGRAM, behaviour], tmp_path, dict(os.environ), watchdog_s=0.5)
    try:
        wait_until(lambda: len(keeper.stays) == 2)
    finally:
        keeper.stop()
    assert keeper.stays[0].why == why and keeper.stays[0].ready_s is not None
    assert keeper.stays[0].exit_code == (0 if why == "ended by itself" else -signal.SIGABRT)


def test_the_report_counts_what_is_wrong() -> None:
    fault = Fault("x", 1.0, 2.0, 0.1, 0.2)
    sound = Outcome(time.monotonic(), 15, faults=[fault])
    assert sound.sound
    assert not Outcome(0, 15, faults=[Fault("x", 1.0)]).sound  # it never came back
    assert not Outcome(0, 15, faults=[fault], file_problems=["a"]).sound
    assert not Outcome(0, 15, faults=[Fault("engine hangs", 1.0, 2.0, 0.1, 0.2)]).sound  # and no safe mode
    assert Picture(0, FrameFlag.GAP_BEFORE).sound and not Picture(0, FrameFlag.VISIBLE_ONLY).sound
