"""Archives: resume, errors of single files, processes that die, Ray's driver, the command."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import recording as support

import app.__main__ as command_line
from app.jobs.archive import ArchiveJob, local_runner, plan, run_archive
from app.jobs.archive_item import ItemResult, ItemTask, fuse_item
from app.jobs.archive_ray import ray_runner
from app.media.reader import open_reader
from app.recording.config import RecordingConfig
from app.recording.writing.recorder import Recorder
from app.view.views import FileView
from fusion_core.errors import BadInputError, RunError, UsageError
from fusion_core.frames import Stream


def record(folder: Path, name: str, frames: int) -> Path:
    recorder = Recorder(RecordingConfig(directory=folder, reserve_mb=1))
    recorder.start(name)
    for index in range(frames):
        support.feed(recorder, support.frame_at(index))
    path = recorder.stop(60.0).segments[0].path
    recorder.close()
    path.with_suffix(".jsonl").rename(folder / f"{name}.jsonl")
    return path.rename(folder / f"{name}.mkv")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound recordings and one that is cut to pieces."""
    folder = tmp_path_factory.mktemp("archive")
    record(folder, "first", 8)
    record(folder, "second", 5)
    (folder / "torn.mkv").write_bytes(b"not a video")
    (folder / "torn.jsonl").write_text("nonsense\n")
    return folder


def inline(tasks: Sequence[ItemTask], take: Callable[[ItemResult], None], stop: threading.Event) -> None:
    """A runner in this process."""
    for task in tasks:
        if stop.is_set():
            return
        take(fuse_item(task, stop))


def job_of(recordings: Path, output: Path, **changes: Any) -> ArchiveJob:
    values = {"recordings": [recordings], "output": output, "engine": "average", "threads": 1}
    return ArchiveJob.model_validate(values | changes)


def test_one_bad_file_does_not_stop_the_others(recordings: Path, tmp_path: Path) -> None:
    report = run_archive(job_of(recordings, tmp_path / "out"), runner=inline)
    assert {result.name: result.frames for result in report.done} == {"first": 8, "second": 5}
    assert [result.name for result in report.failed] == ["torn"] and report.failed[0].error
    reader = open_reader(tmp_path / "out" / "first_fused.mkv", Stream.VISIBLE)
    stamps = [frame.frame.timestamp_ns for frame in reader.frames()]
    reader.close()
    assert len(stamps) == 8 and stamps[1] - stamps[0] == pytest.approx(33e6, abs=1e6)  # the recorded times
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["failed"][0]["name"] == "torn"
    assert not list((tmp_path / "out").glob(".*part*"))


def test_resume_does_only_what_is_left(recordings: Path, tmp_path: Path) -> None:
    job = job_of(recordings, tmp_path / "out")
    stop = threading.Event()
    report = run_archive(job, runner=inline, stop=stop, on_result=lambda result, count, total: stop.set())
    assert [result.name for result in report.done] == ["first"] and report.left == ["second", "torn"]
    with (tmp_path / "out" / "archive.jsonl").open("ab") as file:
        file.write(b'{"name": "second", "state": "do')  # the power went while this was written
    report = run_archive(job, runner=inline)
    assert report.skipped == ["first"] and [result.name for result in report.done] == ["second"]
    report = run_archive(job, runner=inline)
    assert report.skipped == ["first", "second"]
    assert [result.name for result in report.failed] == ["torn"]  # failures are tried again
    (tmp_path / "out" / "second_fused.mkv").write_bytes(b"cut")
    assert [r.name for r in run_archive(job, runner=inline).done] == ["second"]
    assert run_archive(job_of(recordings, tmp_path / "out", crf=30), runner=inline).skipped == []  # other settings
    assert run_archive(job, runner=inline, again=True).skipped == []


def test_stop_gives_up_what_is_under_way(recordings: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    task = plan(job_of(recordings, tmp_path))[0]
    assert fuse_item(task, stop).state == "stopped"
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_checked_before_the_work(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="holds no recording"):
        plan(job_of(tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(BadInputError, match="does not exist"):
        plan(job_of(tmp_path / "nowhere", tmp_path / "out"))
    twice = ArchiveJob(recordings=(recordings, recordings / "first.mkv"), output=tmp_path / "out", engine="average")
    assert [task.name for task in plan(twice)] == ["first", "second", "torn"]


def test_two_jobs_in_one_folder_are_refused(recordings: Path, tmp_path: Path) -> None:
    job = job_of(recordings / "first.mkv", tmp_path / "out")
    refused: list[str] = []

    def second(tasks: Sequence[ItemTask], take: Callable[[ItemResult], None], stop: threading.Event) -> None:
        with pytest.raises(RunError, match="another job works"):
            run_archive(job, runner=inline)
        refused.append("yes")

    run_archive(job, runner=second)
    assert refused


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk: also for root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_that_cannot_be_written_is_found_before_the_work(recordings: Path, tmp_path: Path) -> None:
    with files_of_at_most(0), pytest.raises(RunError, match=r"archive\.jsonl cannot be written: .*is the disk full"):
        run_archive(job_of(recordings, tmp_path / "out"), runner=lambda *_: pytest.fail("it began"))


def test_what_is_under_way_is_given_up_where_a_result_cannot_be_noted(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    gave_up: list[bool] = []

    def pool(workers: int, *, initargs: tuple[Any, ...], **_: object) -> ThreadPoolExecutor:
        told.extend(initargs)
        return ThreadPoolExecutor(workers)

    def work(task: ItemTask) -> ItemResult:
        if task.name != "first":
            gave_up.append(told[0].wait(20))
        return ItemResult(task.name, task.key, "failed")

    def full(*_: object) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr("app.jobs.archive.ProcessPoolExecutor", pool)
    monkeypatch.setattr("app.jobs.archive._work", work)
    with pytest.raises(RunError, match="the disk is full"):
        run_archive(job_of(recordings, tmp_path / "out", workers=2), on_result=full)
    assert gave_up == [True]


def test_a_full_disk_promises_nothing_of_a_file_that_is_removed(tmp_path: Path) -> None:
    task = plan(job_of(record(tmp_path, "long", 90), tmp_path))[0]
    size = fuse_item(task).bytes
    with files_of_at_most(size * 4 // 5):
        result = fuse_item(task)
    assert result.state == "failed" and not list(tmp_path.glob(".*part*"))
    assert result.error == (
        f"no room left to write {task.output}: the disk, quota or size limit is full. Free some space. "
        "Nothing of this file is kept."
    )


def test_processes_side_by_side(recordings: Path, tmp_path: Path) -> None:
    report = run_archive(job_of(recordings, tmp_path / "out", workers=2))
    assert {result.name for result in report.done} == {"first", "second"}
    assert [result.name for result in report.failed] == ["torn"]
    assert multiprocessing.active_children() == []


def test_process_that_is_killed_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stuck.mkv")  # reading it never ends
    os.mkfifo(tmp_path / "stuck.jsonl")
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.2):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    reports: list[ItemResult] = []
    try:
        stuck = tmp_path / "stuck.mkv"
        task = ItemTask("stuck", stuck, tmp_path / "x.mkv", "k", "average", "tiny", None, None, FileView.FUSED, 18, 1)
        local_runner(1)([task], reports.append, threading.Event())
    finally:
        over.set()
        killer.join()
    assert [result.state for result in reports] == ["failed"] and "died" in reports[0].error


def test_ray_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"lumitherm\[ray\]"):
        ray_runner()


class FakeRay(ModuleType):
    """As much of Ray's interface as the driver uses, in this process: checks the order of calls, not Ray."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=ValueError)
        self.up = False
        self.calls: list[str] = []

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **options: object) -> None:
        self.up = True
        self.calls.append(f"init {options['address']}")

    def shutdown(self) -> None:
        self.up = False
        self.calls.append("shutdown")

    def remote(self, **options: object) -> Any:
        def wrap(function: Callable[[ItemTask], ItemResult]) -> Any:
            def run(task: ItemTask) -> tuple[str, ItemTask, Callable[[ItemTask], ItemResult]]:
                return (task.name, task, function)

            return SimpleNamespace(options=lambda **chosen: SimpleNamespace(remote=run))

        return wrap

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> ItemResult:
        name, task, function = reference
        if name == "second":
            raise ValueError("the node went away")
        return function(task)


def test_ray_driver_takes_results_and_errors(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    report = run_archive(job_of(recordings, tmp_path / "out"), runner=ray_runner("auto"))
    assert [result.name for result in report.done] == ["first"]
    errors = {result.name: result.error for result in report.failed}
    assert "node went away" in errors["second"] and set(errors) == {"second", "torn"}
    assert fake.calls == ["init auto", "shutdown"]


def test_command_with_a_job_file(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lumitherm", "archive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(command_line.run())
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    file = tmp_path / "job.yaml"
    file.write_text(f"recordings: [{recordings}/first.mkv]\noutput: {tmp_path / 'out'}\nengine: average\nworkers: 1\n")
    code, out, err = run(file)
    assert code == 0, err
    assert "1 fused" in out
    code, out, _ = run(file, "--view", "visible")
    assert code == 0 and "1 fused" in out  # other settings: again
    code, out, _ = run(recordings / "torn.mkv", "-o", tmp_path / "out", "--engine", "average")
    assert code == 1 and "torn:" in out
    file.write_text("recordings: []\nfolder: x\n")
    code, _, err = run(file)
    assert code == 2 and "folder" in err
    assert run(recordings)[0] == 2


_PARENT = """
import multiprocessing, os, threading
from concurrent.futures import ProcessPoolExecutor
from app.jobs.archive import _begin_worker

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_begin_worker, initargs=(context.Event(),)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        threading.Event().wait(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the process in /proc")
def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Or they would write the same files as the run that goes on with the job."""
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(command_line.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = Path("/proc", parent.stdout.readline().strip())
        assert worker.name and worker.exists()
        parent.kill()
    started = time.monotonic()
    while worker.exists() and time.monotonic() - started < 30:
        threading.Event().wait(0.05)
    assert not worker.exists()
