"""A short soak with every kind of fault: it mends itself, leaks nothing, and leaves sound recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import live as support

from benchmarks.soak import pipeline as soak


@pytest.mark.slow
@pytest.mark.alone
def test_faults_one_after_the_other(tmp_path: Path) -> None:
    with soak.small_disk(tmp_path / "recordings") as mounted:
        config = support.settings(tmp_path / "recordings", recording={"reserve_mb": 4, "split_s": 20})
        run = soak.Soak(config, tmp_path, 2.0, 0.2, support.camera_factory())
        expected = 8 if mounted else 7
        report = run.run(2.0 + expected * 3.0)
    assert report.failure is None
    assert len({fault.name for fault in report.faults}) >= expected - 1
    for fault in report.faults:
        assert fault.recovery_s is not None, f"{fault.name}: no sound picture after it"
        assert fault.frames_to_normal is not None, f"{fault.name}: latency did not come back"
    assert report.file_problems == [] and report.files >= 1
    assert report.growth_mb < 60.0  # a leak of frames would be hundreds
    threads = [sample["threads"] for sample in run.samples]
    assert max(threads[len(threads) // 2 :]) <= max(threads[: len(threads) // 2]) + 4
    assert (tmp_path / "report.md").exists() and (tmp_path / "soak.png").stat().st_size > 1000
