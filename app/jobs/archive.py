"""Fuse many recordings anew: side by side in processes, on this machine or through Ray, with resume.

    OUT/NAME_fused.mkv    one a recording
    OUT/archive.jsonl     a line for each run as it begins, and for each result as it comes: what a resume reads
    OUT/report.json       the whole job when it has ended, with every error

A recording is done when its output lies there as it was written, made with the same settings from the same input.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from app.jobs.archive_item import ItemResult, ItemTask, fuse_item
from app.jobs.fuse_loop import StopFlag
from app.media.writer import VIDEO_SUFFIXES
from app.view.views import FileView
from fusion_core.errors import BadInputError, RunError, UsageError
from fusion_core.files import make_folder, open_plain, read_bounded, refuse_planted

__all__ = ["ArchiveJob", "ArchiveReport", "plan", "run_archive"]

Runner = Callable[[Sequence[ItemTask], Callable[[ItemResult], None], threading.Event], None]

_DIED = "the process that fused it died twice, also alone (out of memory, or killed)"
_WAIT_S = 0.2
_MOST_LOG_BYTES = 256_000_000


class ArchiveJob(BaseModel):
    """A job as a YAML file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recordings: tuple[Path, ...] = Field(min_length=1, description="recordings, or folders of them (*.mkv inside)")
    output: Path = Field(description="folder for the fused videos")
    engine: str = Field(default="auto", description="as in `lumitherm fuse --engine`")
    preset: str = Field(default="tiny", description="network size, where no weights are given")
    weights: Path | None = Field(default=None, description="weights file, or a model's name")
    calibration: Path | None = Field(default=None, description="of the rig; null = plain resize")
    view: FileView = Field(default=FileView.FUSED, description="what the videos show")
    crf: int = Field(default=18, ge=0, le=51, description="H.264 quality: 0 lossless, 51 worst")
    workers: int | None = Field(default=None, ge=1, description="processes; null = one for every two cores")
    threads: int | None = Field(default=None, ge=1, description="threads of each process; null = cores / processes")


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What a job did. skipped: done before, with the same settings."""

    done: list[ItemResult]
    failed: list[ItemResult]
    skipped: list[str]
    left: list[str]  # not reached: the job was stopped

    @property
    def interrupted(self) -> bool:
        """Whether something was not reached."""
        return bool(self.left)


def plan(job: ArchiveJob) -> list[ItemTask]:
    """The tasks of a job, by name.

    Raises:
        BadInputError: an input is missing, or a folder holds no recording. UsageError: the output is an input's folder
        and a name would collide.
    """
    files: list[Path] = []
    for path in job.recordings:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and _is_recording(p))
            if not found:
                raise BadInputError(f"{path} holds no recording (NAME.mkv with NAME.jsonl beside it)")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise BadInputError(f"{path} does not exist, expected a recording or a folder of them; check the path")
    files = list(dict.fromkeys(file.resolve() for file in files))
    workers = worker_count(job, len(files))
    threads = job.threads or max(1, (os.cpu_count() or 1) // workers)
    settings = job.model_dump(mode="json", exclude={"recordings", "output", "workers", "threads"})
    settings["weights"] = _weights_hash(job)
    settings["calibration"] = None if job.calibration is None else _file_hash(job.calibration)
    tasks: dict[str, ItemTask] = {}
    for file in files:
        name, number = file.stem, 2
        while name in tasks:
            name, number = f"{file.stem}-{number}", number + 1
        status = file.stat()
        what = settings | {"input": str(file), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}
        tasks[name] = ItemTask(
            name=name,
            recording=file,
            output=job.output / f"{name}_fused.mkv",
            key=hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24],
            engine=job.engine,
            preset=job.preset,
            weights=job.weights,
            calibration=job.calibration,
            view=job.view,
            crf=job.crf,
            threads=threads,
        )
    return list(tasks.values())


def run_archive(
    job: ArchiveJob,
    *,
    runner: Runner | None = None,
    again: bool = False,
    on_result: Callable[[ItemResult, int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> ArchiveReport:
    """Carry out a job, leaving out what is done already.

    Args:
        runner: how tasks are run; processes of this machine by default, see `local_runner` and `archive_ray`.
        again: fuse everything anew.
        on_result: called with each result, how many are there, and how many there will be.
        stop: set it to end early; what is under way is given up and started anew by the next run.

    Raises:
        BadInputError, UsageError: inputs or settings. RunError: the output folder cannot be written, or another job
        works in it.
    """
    tasks = plan(job)
    try:
        make_folder(job.output)
    except OSError as error:
        raise RunError(f"{job.output} cannot be made: {error.strerror}") from error
    stop = stop or threading.Event()
    with _alone(job.output):
        log = job.output / "archive.jsonl"
        before = {} if again else _finished(log)
        open_tasks = [task for task in tasks if not _is_done(task, before.get(task.name))]
        open_names = {task.name for task in open_tasks}
        skipped = [task.name for task in tasks if task.name not in open_names]
        results: dict[str, ItemResult] = {}

        def take(result: ItemResult) -> None:
            if result.state == "stopped":
                return
            results[result.name] = result
            _append(log, asdict(result))
            if on_result is not None:
                on_result(result, len(results), len(open_tasks))

        if open_tasks:
            _append(log, {"begun": datetime.now(UTC).isoformat(timespec="seconds"), "open": len(open_tasks)})
            (runner or local_runner(worker_count(job, len(open_tasks))))(open_tasks, take, stop)
        report = ArchiveReport(
            done=[r for r in results.values() if r.state == "done"],
            failed=[r for r in results.values() if r.state == "failed"],
            skipped=skipped,
            left=[task.name for task in open_tasks if task.name not in results],
        )
        try:
            (job.output / "report.json").write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{job.output / 'report.json'} cannot be written: {error.strerror}") from error
    return report


def worker_count(job: ArchiveJob, tasks: int) -> int:
    """Processes of a job: as asked, or one for every two cores; never more than there are tasks."""
    wanted = job.workers or max(1, (os.cpu_count() or 1) // 2)
    return max(1, min(wanted, tasks))


# ---- the local runner


def local_runner(workers: int) -> Runner:
    """Tasks side by side in processes of this machine. One that dies takes no other task with it for good: those under
    way are tried again, each alone."""

    def run(tasks: Sequence[ItemTask], take: Callable[[ItemResult], None], stop: threading.Event) -> None:
        suspects = _run_pool(tasks, take, stop, workers)
        for task in suspects:
            if stop.is_set():
                return
            if _run_pool([task], take, stop, 1):
                take(ItemResult(task.name, task.key, "failed", error=_DIED))

    return run


def _run_pool(
    tasks: Sequence[ItemTask], take: Callable[[ItemResult], None], stop: threading.Event, workers: int
) -> list[ItemTask]:
    """Run tasks; returns those that were under way, or waited, when a process died."""
    context = multiprocessing.get_context("spawn")  # forking with the threads of torch and OpenVINO can hang
    told = context.Event()
    waiting = iter(tasks)
    running: dict[Future[ItemResult], ItemTask] = {}
    finished: set[str] = set()
    broken = False
    with (
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(told,)) as pool,
        ExitStack() as at_end,
    ):
        at_end.callback(told.set)  # also where a result cannot be noted: the pool waits for what is under way
        while not broken:
            while len(running) < workers and not stop.is_set() and (task := next(waiting, None)) is not None:
                try:
                    running[pool.submit(_work, task)] = task
                except BrokenProcessPool:
                    broken = True
                    break
            if not running:
                break
            if stop.is_set():
                told.set()
            for future in wait(running, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    take(future.result())
                    finished.add(task.name)
                except BrokenProcessPool:
                    broken = True
    return [task for task in tasks if task.name not in finished] if broken and not stop.is_set() else []


_told: StopFlag | None = None  # of a worker process; set once by its initializer


def _begin_worker(told: StopFlag) -> None:
    global _told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent tells the workers
    _told = told
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process once its parent is gone (kill -9, out of memory): nobody takes its results any more, and the
    run that goes on with the job writes the same files."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: ItemTask) -> ItemResult:
    return fuse_item(task, _told)


# ---- what was done before


def _finished(log: Path) -> dict[str, dict[str, Any]]:
    """The last result of each name. A line that was cut off by a crash is passed over."""
    found: dict[str, dict[str, Any]] = {}
    for line in _lines(log):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            found[entry["name"]] = entry
    return found


def _lines(path: Path) -> Iterable[str]:
    try:
        return read_bounded(path, _MOST_LOG_BYTES, "log of an archive").decode().splitlines()
    except FileNotFoundError:
        return []
    except (BadInputError, OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read ({error}); delete it to begin anew") from error


def _is_done(task: ItemTask, entry: dict[str, Any] | None) -> bool:
    if entry is None or entry.get("state") != "done" or entry.get("key") != task.key:
        return False
    return task.output.is_file() and task.output.stat().st_size == entry.get("bytes")


def _append(log: Path, entry: dict[str, Any]) -> None:
    try:
        refuse_planted(log)
        whole = True
        if log.exists():
            with open_plain(log) as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1))
                whole = stream.read(1) in (b"", b"\n")
        with log.open("ab") as file:
            file.write((b"" if whole else b"\n") + msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{log} cannot be written: {error.strerror}; is the disk full?") from error


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(output / ".archive.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(f"another job works in {output}; wait for it, or give another folder") from error
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}; give another folder by -o") from error
    try:
        yield
    finally:
        lock.release()


def _is_recording(path: Path) -> bool:
    return path.with_suffix(".jsonl").is_file() and not path.name.startswith(".")


def _weights_hash(job: ArchiveJob) -> str | None:
    if job.engine not in ("auto", "openvino", "torch"):
        return None
    from fusion_core.model_store import resolve_weights

    return _file_hash(resolve_weights(job.weights if job.weights is not None else job.preset))


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check the path") from error
