"""What came out of a fault soak: the table, the plot of memory, and whether all is well."""

from __future__ import annotations

import csv
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.recording.recover import recover
from app.recording.segments import list_recordings
from app.recording.self_check import check_recording
from app.recording.sidecar import RawLine, read_sidecar, sidecar_path
from fusion_core.errors import LumithermError
from fusion_core.frames import FrameFlag

if TYPE_CHECKING:
    from benchmarks.soak.fault_keeper import Stay

__all__ = ["Fault", "Outcome", "Picture", "Sample", "write_report"]

_DISTURBED = FrameFlag.HELD | FrameFlag.FFC | FrameFlag.VISIBLE_ONLY | FrameFlag.THERMAL_ONLY | FrameFlag.STALE


@dataclass
class Fault:
    """One fault as it went; s since the start of the soak.

    noticed_s: from its beginning until the service said so (log line, or a gap marked on a picture). back_s: from its
    end until it was over for the service. missing: pictures that did not come out between this fault and the next.
    alone: pictures of one camera, or with a held one.
    """

    name: str
    began_s: float
    ended_s: float = 0.0
    noticed_s: float | None = None
    back_s: float | None = None
    missing: int = 0
    alone: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture that came out."""

    at_s: float
    flags: FrameFlag

    @property
    def sound(self) -> bool:
        """Whether it was made of two fresh pictures."""
        return not self.flags & _DISTURBED


@dataclass(frozen=True, slots=True)
class Sample:
    """The service's process at one moment."""

    at_s: float
    pid: int
    rss_mb: float
    threads: int
    handles: int
    cpu_s: float


@dataclass
class Outcome:
    """The whole soak."""

    began_s: float
    fps: int
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    pings: int = 0
    scrapes_s: list[float] = field(default_factory=list)
    scrape_bytes: int = 0
    scrape_failures: int = 0
    safe_mode: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    exit_code: int | None = None
    files: int = 0
    cut_files: int = 0  # ended by a kill; they are recovered before they are checked
    file_problems: list[str] = field(default_factory=list)
    raw_frames: dict[str, list[int]] = field(default_factory=dict)  # by track: recorded, and left out between them

    @property
    def sound(self) -> bool:
        """Whether everything came back, nothing restarted unasked, and the files are whole."""
        unasked = len([stay for stay in self.stays if stay.ended_s is not None]) - 1 - self._hangs
        return not (
            unasked > 0
            or self.errors
            or self.file_problems
            or any(fault.back_s is None for fault in self.faults)
            or (self._hangs and not self.safe_mode.get("safe_mode"))
        )

    @property
    def _hangs(self) -> int:
        return sum(fault.name == "engine hangs" for fault in self.faults)

    def growth_mb(self) -> float | None:
        """Resident memory of the first process: its last tenth against its second tenth, medians."""
        first = [sample.rss_mb for sample in self.samples if sample.pid == self.samples[0].pid]
        tenth = len(first) // 10
        if tenth < 3:
            return None
        return statistics.median(first[-tenth:]) - statistics.median(first[tenth : 2 * tenth])

    def cpu_share(self) -> float | None:
        """Processor time of the first process for each second."""
        first = [sample for sample in self.samples if sample.pid == self.samples[0].pid] if self.samples else []
        if len(first) < 2:
            return None
        return (first[-1].cpu_s - first[0].cpu_s) / (first[-1].at_s - first[0].at_s)


def write_report(outcome: Outcome, disk: Path, out: Path) -> None:
    """faults.csv, samples.csv, report.md and soak.png in `out`; checks the recordings in `disk`."""
    _check_files(outcome, disk)
    _write_csv(out / "faults.csv", outcome.faults, Fault("", 0))
    _write_csv(out / "samples.csv", outcome.samples, Sample(0, 0, 0, 0, 0, 0))
    (out / "report.md").write_text("\n".join(_lines(outcome)) + "\n", encoding="utf-8")
    _plot(outcome, out / "soak.png")


def _check_files(outcome: Outcome, disk: Path) -> None:
    before = 0.0
    for path in list_recordings(disk):
        outcome.files += 1
        try:
            problems = list(check_recording(path, time.monotonic() + 20.0).problems)
        except LumithermError as error:
            problems = [str(error)]
        if any("not closed" in problem for problem in problems):
            outcome.cut_files += 1
            recover(path)
            problems = list(check_recording(path, time.monotonic() + 20.0).problems)
        outcome.file_problems += [f"{path.name}: {problem}" for problem in problems]
        _count_raw(outcome, path)
        if path.stat().st_mtime < before:
            outcome.file_problems.append(f"{path.name}: older than the file with the number before")
        before = path.stat().st_mtime


def _count_raw(outcome: Outcome, path: Path) -> None:
    """Frames of each camera that are in a file, and those between its first and last that came and are not.

    Those that a camera lost itself are marked on the next one.
    """
    newest: dict[str, int] = {}
    for line in read_sidecar(sidecar_path(path)).pictures:
        if isinstance(line, RawLine):
            whole = outcome.raw_frames.setdefault(str(line.track), [0, 0])
            whole[0] += 1
            if not line.flags & FrameFlag.GAP_BEFORE:
                whole[1] += max(0, line.i - newest.get(str(line.track), line.i) - 1)
            newest[str(line.track)] = line.i


def _write_csv(path: Path, rows: list[Any], empty: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(empty)))
        writer.writeheader()
        writer.writerows({k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(r).items()} for r in rows)


def _lines(outcome: Outcome) -> list[str]:
    growth, share = outcome.growth_mb() if outcome.samples else None, outcome.cpu_share()
    scrapes = sorted(outcome.scrapes_s)
    restarts = sum(stay.why != "stopped" for stay in outcome.stays)
    lines = [
        f"{outcome.seconds:.0f} s, {len(outcome.faults)} faults, {len(outcome.pictures)} pictures at {outcome.fps} a"
        f" second, {outcome.pings} watchdog pings, {restarts} restarts, exit code {outcome.exit_code}.",
        f"Resident memory of the first process {_shown(growth, '+.1f')} MB from its second tenth to its last;"
        f" {_shown(share, '.2f')} s of CPU time a second.",
        f"{len(scrapes)} scrapes, {outcome.scrape_failures} unanswered, median"
        f" {_shown(1e3 * statistics.median(scrapes) if scrapes else None, '.1f')} ms, p95"
        f" {_shown(1e3 * scrapes[int(0.95 * (len(scrapes) - 1))] if scrapes else None, '.1f')} ms,"
        f" {outcome.scrape_bytes} bytes.",
        f"{outcome.files} recordings on the disk at the end, {outcome.cut_files} of them cut by a kill,"
        f" {len(outcome.file_problems)} problems. Frames in them: "
        + ", ".join(f"{name} {kept}, {missing} left out" for name, (kept, missing) in outcome.raw_frames.items())
        + f". After five hangs: {outcome.safe_mode or 'not tried'}.",
        "",
        "| fault | times | noticed after s: median, worst | over after s: median, worst | pictures missing: median,"
        " worst | of one camera: median |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(fault.name for fault in outcome.faults):
        same = [fault for fault in outcome.faults if fault.name == name]
        missing = [fault.missing for fault in same]
        alone = statistics.median(fault.alone for fault in same)
        lines.append(
            f"| {name} | {len(same)} | {_pair([f.noticed_s for f in same])} | {_pair([f.back_s for f in same])} |"
            f" {statistics.median(missing):.0f}, {max(missing)} | {alone:.0f} |"
        )
    lines += ["", *(f"Left out: {text}" for text in outcome.left_out)]
    for stay in outcome.stays:
        ready = _shown(None if stay.ready_s is None else stay.ready_s - stay.started_s, ".1f")
        lines.append(f"- process {stay.pid}: ready after {ready} s, ended: {stay.why}, exit code {stay.exit_code}")
    return [*lines, "", *outcome.file_problems, *outcome.errors]


def _pair(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    missing = f" ({len(values) - len(known)} of {len(values)} not)" if len(known) < len(values) else ""
    return f"{statistics.median(known):.2f}, {max(known):.2f}{missing}"


def _shown(value: float | None, form: str) -> str:
    return format(value, form) if value is not None else "-"


def _plot(outcome: Outcome, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(9, 4.5), layout="constrained")
    for pid in dict.fromkeys(sample.pid for sample in outcome.samples):
        own = [sample for sample in outcome.samples if sample.pid == pid]
        axes[0].plot([s.at_s / 60 for s in own], [s.rss_mb for s in own], linewidth=1.0)
    axes[0].set_ylabel("resident MB")
    axes[0].set_ylim(bottom=0)
    seconds = range(int(outcome.seconds) + 1)
    counts = dict.fromkeys(seconds, 0)
    for picture in outcome.pictures:
        if int(picture.at_s) in counts:
            counts[int(picture.at_s)] += 1
    axes[1].plot([second / 60 for second in seconds], list(counts.values()), linewidth=0.7)
    axes[1].set_ylabel("pictures/s")
    axes[1].set_xlabel("min; red: a fault")
    for axis in axes:
        for fault in outcome.faults:
            end_s = max(fault.ended_s, fault.began_s + 0.5)
            axis.axvspan(fault.began_s / 60, end_s / 60, alpha=0.25, color="tab:red", linewidth=0)
    figure.savefig(path, dpi=100)
    plt.close(figure)
