"""Training sets from simulated footage whose displacement is known, and from recordings with faults in them."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

import app.__main__ as command_line
from app.dataset.advice import NO_AGREEMENT, advice
from app.dataset.builder import (
    BuildSettings,
    PairRecord,
    build_dataset,
    largest_rectangle,
    thermal_pitch_px,
)
from app.dataset.choice import distance, signature
from app.dataset.pixel_alignment import PixelAlignment, linear_levels
from app.dataset.report import write_dataset_report
from app.dataset.sources import UNRECORDED, Candidate, RecordingSource, session_name
from app.media.writer import VideoFormat, VideoWriter
from app.recording.config import RecordingConfig
from app.recording.writing.recorder import Recorder
from calibration.rig import CameraSide, PlaneCalibration, plain_scaling, save_calibration
from fusion_core.colour import luminance
from fusion_core.errors import BadInputError, UsageError
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.pair_folder import find_pairs, read_thermal, read_visible
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.training.dataset import load_pairs
from fusion_core.training.registration import gradient_plane

HEIGHT, WIDTH = 360, 480


def rig_of(seed: int, **changes: object) -> SimulatedRig:
    values: dict[str, object] = {
        "height": HEIGHT, "width": WIDTH, "thermal_height": HEIGHT, "thermal_width": WIDTH, "seed": seed,
        "residual_shift_px": (3.0, -2.0), "residual_rotation_deg": 0.2, "pan_deg_per_s": 6.0,
    }  # fmt: skip
    return SimulatedRig(SimulatedRigConfig.model_validate(values | changes))


class RigSource:
    """Footage of the simulated rig as a source; remembers where each frame came from."""

    def __init__(self, session: str, rig: SimulatedRig, times_s: list[float]) -> None:
        self.session, self.path, self.offered = session, Path(f"{session}.mkv"), 0
        self.rig, self.times_s = rig, times_s

    def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
        for index, time_s in enumerate(self.times_s):
            self.offered += 1
            yield Candidate(index, time_s, 0.0, self.rig.visible(time_s), self.rig.thermal(time_s))


def test_kept_pairs_are_aligned_to_the_pixel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against the truth, wherever both pictures show structure: 0.7 px median, 1.5 px for 95 %."""
    found: dict[str, np.ndarray] = {}

    def keep(record: PairRecord, field_px: np.ndarray) -> None:
        found[record.stem] = field_px

    times_s = [1.0, 5.0]
    sources = [RigSource(f"rig{seed}", rig_of(seed), times_s) for seed in (21, 22)]
    summary = build_dataset(sources, tmp_path / "set", BuildSettings(), on_field=keep)
    assert len(summary.kept) >= 3
    assert {record.part for record in summary.kept} == {"training", "validation"}
    before, after = [], []
    for record in summary.kept:
        number = [source.session for source in sources].index(record.session)
        rig = sources[number].rig
        truth = rig.truth(times_s[record.index])
        top, left, height, width = record.crop
        window = (slice(top, top + height), slice(left, left + width))
        visible, thermal = read_pair(tmp_path / "set", record)
        assert thermal.shape == (height, width)
        np.testing.assert_array_equal(visible, rig.visible(times_s[record.index])[window])
        seen = (gradient_plane(luminance(visible)) > 0.5) & (gradient_plane(thermal) > 0.5)
        displacement_px = truth.displacement_px[window]
        after.append(np.linalg.norm(found[record.stem] - displacement_px, axis=-1)[seen])
        before.append(np.linalg.norm(displacement_px, axis=-1)[seen])
    left_px, before_px = np.concatenate(after), np.concatenate(before)
    with capsys.disabled():
        print(
            f"\n  displacement {np.median(before_px):.2f} px (95 % {np.percentile(before_px, 95):.2f}), then "
            f"{np.median(left_px):.2f} px (95 % {np.percentile(left_px, 95):.2f}), {len(summary.kept)} of 4 pairs kept"
        )
    assert np.median(before_px) > 2.5
    assert np.median(left_px) <= 0.7
    assert np.percentile(left_px, 95) <= 1.5


def read_pair(root: Path, record: PairRecord) -> tuple[np.ndarray, np.ndarray]:
    folder = root / "validation" if record.part == "validation" else root
    return read_visible(folder / "vi" / f"{record.stem}.png"), read_thermal(folder / "ir" / f"{record.stem}.png")


# ---- made-up footage: blurred noise, and its counts displaced by a known amount

SHIFT = (3, -2)


def scene(number: int, size: tuple[int, int] = (160, 208)) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 and (H, W) uint16, thermal content SHIFT away from where it belongs."""
    rng = np.random.default_rng(number)
    height, width = size
    large = np.zeros((height + 32, width + 32), np.float32)
    for _ in range(90):  # overlapping boxes: edges everywhere, in both spectra
        y, x = rng.integers(0, height + 16), rng.integers(0, width + 16)
        large[y : y + rng.integers(8, 40), x : x + rng.integers(8, 40)] = rng.uniform(0, 1)
    large = cv2.GaussianBlur(large, (0, 0), 0.8)
    visible = large[16 : 16 + height, 16 : 16 + width]
    dx, dy = SHIFT
    thermal = large[16 - dy : 16 - dy + height, 16 - dx : 16 - dx + width]
    grey = np.clip(30 + 190 * visible + rng.normal(0, 1, visible.shape), 0, 255).astype(np.uint8)
    counts = np.clip(26000 - 3000 * thermal + rng.normal(0, 8, thermal.shape), 0, 65535).astype(np.uint16)
    return np.repeat(grey[..., None], 3, axis=2), counts


class MadeSource:
    """Made-up scenes as a source."""

    def __init__(self, session: str, numbers: list[int]) -> None:
        self.session, self.path, self.offered, self._numbers = session, Path("made.mkv"), 0, numbers

    def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
        for index, number in enumerate(self._numbers):
            self.offered += 1
            yield Candidate(index, index * 1.0, 0.0, *scene(number))


def test_displacement_is_undone_and_sessions_are_kept_apart(tmp_path: Path) -> None:
    sources = [MadeSource("monday", [1, 2, 3, 1]), MadeSource("tuesday", [4, 5])]
    summary = build_dataset(sources, tmp_path / "set", BuildSettings())
    assert summary.count("training") == 3 and summary.count("validation") == 2
    assert {record.session for record in summary.kept if record.part == "validation"} == {"tuesday"}
    assert summary.frames_left_out["too much like another frame"] == 1
    for record in summary.kept:
        assert record.residual_median_px <= 0.3
        assert abs(record.displacement_px - np.hypot(*SHIFT)) < 0.6
        visible, thermal = read_pair(tmp_path / "set", record)
        flat = np.corrcoef(luminance(visible).ravel(), thermal.ravel())[0, 1]
        assert flat < -0.8  # thermal is the inverse of visible, once it lies where it belongs
    assert [pair.stem for pair in find_pairs(tmp_path / "set")] == [
        r.stem for r in summary.kept if r.part == "training"
    ]
    assert len(load_pairs(tmp_path / "set")) == 3  # what the trainer reads
    assert len(load_pairs(tmp_path / "set" / "validation")) == 2
    manifest = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert manifest["agc_contract"]["mode"] == "plateau" and len(manifest["kept"]) == 5


def test_where_few_frames_differ_more_alike_ones_are_taken_and_said(tmp_path: Path) -> None:
    class Slow(MadeSource):
        """A scene that gives way to another one in four seconds, looked at as often as asked for."""

        def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
            (first, heat), (second, later_heat) = scene(1), scene(2)
            for index, time_s in enumerate(np.arange(0.0, 2.0, interval_s)):
                self.offered += 1
                share = int(time_s / 4.0 * first.shape[1])
                visible, thermal = first.copy(), heat.copy()
                visible[:, :share], thermal[:, :share] = second[:, :share], later_heat[:, :share]
                yield Candidate(index, float(time_s), 0.0, visible, thermal)

    plain = build_dataset([Slow("slow", [])], tmp_path / "plain", BuildSettings(min_distance=0.15, wanted_pairs=0))
    more = build_dataset([Slow("slow", [])], tmp_path / "more", BuildSettings(min_distance=0.15))
    assert len(more.kept) + len(more.rejected) > len(plain.kept) + len(plain.rejected)
    assert not any("more alike" in warning for warning in plain.warnings)
    assert any("more alike" in warning for warning in more.warnings)


def test_unequal_lenses_are_aligned_from_the_footage(tmp_path: Path) -> None:
    changes = {"hfov_visible_deg": 66.0, "hfov_thermal_deg": 48.0, "baseline_m": 0.03, "residual_shift_px": (0.0, 0.0)}
    source = RigSource("roof", rig_of(23, **changes), [1.0, 2.5, 4.0, 5.5])
    summary = build_dataset([source], tmp_path / "set", BuildSettings())
    assert len(summary.kept) >= 3
    assert any("aligned from the footage itself" in warning for warning in summary.warnings)


def test_what_cannot_be_aligned_is_rejected_with_a_reason(tmp_path: Path) -> None:
    class Unrelated(MadeSource):
        def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
            for candidate in super().candidates(interval_s, max_skew_ms, left_out):
                strange = scene(candidate.index + 100)[1] if candidate.index % 2 else candidate.thermal
                yield Candidate(candidate.index, candidate.time_s, 0.0, candidate.visible, strange)

    summary = build_dataset([Unrelated("mixed", [1, 2, 3, 4, 5])], tmp_path / "set", BuildSettings())
    assert [record.index for record in summary.kept] == [0, 2, 4]
    assert all(record.reason for record in summary.rejected) and len(summary.rejected) == 2
    with pytest.raises(BadInputError, match=r"only 2 pairs were kept, at least 3 .* Film some minutes more"):
        build_dataset([Unrelated("mixed", [1, 2, 3, 4])], tmp_path / "few", BuildSettings())
    assert any("one session" in warning for warning in summary.warnings)
    write_dataset_report(summary, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "mixed_000001" in page and "data:image/jpeg" in page and summary.rejected[0].reason in page
    with pytest.raises(BadInputError, match="no pair was kept"):
        build_dataset([Unrelated("other", [1])], tmp_path / "none", BuildSettings(min_correlation=0.99))


def test_where_hardly_a_pair_is_good_enough_somewhat_worse_ones_are_taken_and_said(tmp_path: Path) -> None:
    good = build_dataset([MadeSource("roof", [1, 2, 3, 4, 5])], tmp_path / "good", BuildSettings())
    assert not any("hardly a pair" in warning for warning in good.warnings)
    wanted_px = 0.95 * min(record.expected_p95_px for record in good.kept)
    tight = BuildSettings(max_expected_p95_px=wanted_px)
    summary = build_dataset([MadeSource("roof", [1, 2, 3, 4, 5])], tmp_path / "set", tight)
    assert any("hardly a pair" in warning for warning in summary.warnings)
    assert all(wanted_px < record.expected_p95_px <= 1.75 * 1.1 * wanted_px for record in summary.kept)
    assert len(summary.kept) >= 3 and len(summary.kept) + len(summary.rejected) == 5
    assert len({record.stem for record in summary.kept + summary.rejected}) == 5


def test_calibration_warps_and_cuts_to_what_both_see(tmp_path: Path) -> None:
    height, width = scene(1)[1].shape
    # thermal pixels lie 24 px further right in the visible picture than plain laying over says, less the known shift
    H = np.array([[1.0, 0, 24 - SHIFT[0]], [0, 1, -SHIFT[1]], [0, 0, 1]])
    side = CameraSide("", height, width, "")
    save_calibration(PlaneCalibration(side, side, H, 0.1), tmp_path / "rig.yaml")

    class Moved(MadeSource):
        def candidates(self, interval_s: float, max_skew_ms: float, left_out: Counter[str]) -> Iterator[Candidate]:
            for c in super().candidates(interval_s, max_skew_ms, left_out):
                yield Candidate(c.index, c.time_s, 0.0, c.visible, np.roll(c.thermal, -24, axis=1))

    summary = build_dataset(
        [Moved("rig", [1, 2, 3])], tmp_path / "set", BuildSettings(), calibration=tmp_path / "rig.yaml"
    )
    assert summary.kept
    for record in summary.kept:
        assert record.displacement_px < 0.6
        assert record.crop[1] >= 16  # the left border is not seen by the thermal camera


def test_existing_folder_and_unknown_sessions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        build_dataset([MadeSource("a", [1])], tmp_path / "full", BuildSettings())
    with pytest.raises(UsageError, match="no session b"):
        build_dataset([MadeSource("a", [1])], tmp_path / "new", BuildSettings(), validation_sessions=["b"])


def test_distance_tells_scenes_from_noise() -> None:
    rng = np.random.default_rng(1)
    (visible, counts), (other, other_counts) = scene(1), scene(2)
    levels, other_levels = (counts >> 8).astype(np.uint8), (other_counts >> 8).astype(np.uint8)
    noisy = np.clip(visible[..., 0] + rng.normal(0, 3, levels.shape), 0, 255).astype(np.uint8)
    same = distance(signature(visible[..., 0], levels), signature(noisy, levels))
    different = distance(signature(visible[..., 0], levels), signature(other[..., 0], other_levels))
    assert same < 0.03 < 0.2 < different


def test_largest_rectangle() -> None:
    mask = np.zeros((200, 240), bool)
    mask[10:190, 30:] = True
    assert largest_rectangle(mask) == (slice(10, 190), slice(30, 240))
    with pytest.raises(BadInputError, match="hardly see the same"):
        largest_rectangle(np.zeros((200, 240), bool))


def test_session_names_end_at_the_underscore() -> None:
    assert session_name("2026-03-01_12-00 rig") == "2026-03-01-12-00-rig"


# ---- recordings


def make_recording(folder: Path) -> Path:
    """24 pairs at 10 Hz with a shutter correction, a held frame, a skewed pair and a frozen camera among them."""
    recorder = Recorder(RecordingConfig(directory=folder, reserve_mb=1))
    recorder.start("yard")
    for index in range(24):
        t_ns = 1_000_000_000 + index * 100_000_000
        visible, counts = scene(index // 4)
        if index in (9, 10):
            counts = scene(1)[1]  # frozen: the same bytes as before
        flags = {3: FrameFlag.FFC, 4: FrameFlag.HELD, 5: FrameFlag.STALE}.get(index, FrameFlag.NONE)
        skew_ns = 60_000_000 if index == 6 else 2_000_000
        pair = FramePair(
            Frame(Stream.VISIBLE, visible, index, t_ns + skew_ns, TimestampSource.SIMULATED),
            Frame(Stream.THERMAL, counts, index, t_ns, TimestampSource.SIMULATED, flags),
            flags,
        )
        fused = FusedFrame(visible.copy(), pair, 1.0, "average", fused_ns=t_ns)
        while recorder.status.queue_depth >= 8:
            threading.Event().wait(0.002)
        assert all(recorder.offer(picture) for picture in (pair.visible, pair.thermal, fused))
    summary = recorder.stop(60.0)
    recorder.close()
    return summary.segments[0].path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("recording"))


def test_faulty_frames_of_a_recording_are_left_out(recording: Path) -> None:
    left_out: Counter[str] = Counter()
    source = RecordingSource(recording)
    taken = [candidate.index for candidate in source.candidates(0.0, 20.0, left_out)]
    assert not {3, 4, 5, 6, 10} & set(taken)
    assert left_out["thermal shutter closed"] == 1 and left_out["stale"] == 1
    assert left_out["thermal picture held from before"] == 1
    assert left_out["the two times are too far apart"] == 1
    assert left_out["thermal picture frozen"] >= 1
    again: Counter[str] = Counter()
    spaced = list(RecordingSource(recording).candidates(0.5, 20.0, again))
    assert all(b.time_s - a.time_s >= 0.49 for a, b in itertools.pairwise(spaced))


def test_command_builds_from_a_recording(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lumitherm", "dataset", "build", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(command_line.run())
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    code, out, err = run(recording, "-o", tmp_path / "set", "--interval-s", "0.3")
    assert code == 0, err
    assert "pairs kept" in out and "lumitherm train --from small --data" in out
    assert (tmp_path / "set" / "report.html").stat().st_size > 10_000
    assert 4 <= len(json.loads((tmp_path / "set" / "dataset.json").read_text())["kept"]) <= 6  # six scenes
    assert run(recording, "-o", tmp_path / "set")[0] == 2  # not empty
    assert run("-o", tmp_path / "other")[0] == 2
    assert run("--visible", recording, "-o", tmp_path / "other")[0] == 2
    assert run(tmp_path / "nowhere.mkv", "-o", tmp_path / "other")[0] == 2


def test_command_builds_from_two_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = [scene(number) for number in (1, 2, 3)]
    rate = Fraction(5)
    for name, pixel_format, codec in (("vi.mkv", "yuv420p", "libx264"), ("ir.mkv", "gray16le", "ffv1")):
        height, width = ready[0][1].shape
        writer = VideoWriter(
            tmp_path / name, height, width, Fraction(1, 1000), rate, VideoFormat(codec, pixel_format, crf=10)
        )
        for index, (visible, counts) in enumerate(ready):
            writer.write(visible if codec == "libx264" else counts, index * 200, 200)
        writer.close()
    arguments = ["--visible", tmp_path / "vi.mkv", "--thermal", tmp_path / "ir.mkv", "-o", tmp_path / "set"]
    monkeypatch.setattr(sys, "argv", ["lumitherm", "dataset", "build", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        sys.exit(command_line.run())
    assert not ended.value.code, capsys.readouterr().err
    assert len(json.loads((tmp_path / "set" / "dataset.json").read_text())["kept"]) == 3


def test_coarse_pixels_need_less_agreement_but_no_less_accuracy() -> None:
    assert thermal_pitch_px(None, (240, 320), (480, 640)) == 2.0
    assert thermal_pitch_px(None, (512, 640), (480, 640)) == 1.0
    rig = plain_scaling((480, 640), (120, 160))
    assert thermal_pitch_px(rig, (120, 160), (480, 640)) == pytest.approx(4.0)
    assert thermal_pitch_px(rig, (120, 160), (240, 320)) == pytest.approx(2.0)
    settings = BuildSettings()
    assert settings.for_pitch(1.0) == settings
    coarse, coarser = settings.for_pitch(2.0), settings.for_pitch(4.0)
    assert coarse.max_median_px == coarser.max_median_px == settings.max_median_px  # pixels stay pixels
    assert coarse.max_expected_p95_px == settings.max_expected_p95_px
    assert coarser.max_expected_p95_px == pytest.approx(1.25 * coarse.max_expected_p95_px)
    assert 0.1 < coarser.min_correlation < coarse.min_correlation < settings.min_correlation


def test_advice_names_what_cost_most() -> None:
    left_out = Counter({"between two candidates": 900, UNRECORDED: 30, "stale": 2})
    assert "recording.tracks" in advice([], left_out)
    assert "lumitherm calibrate check" in advice([NO_AGREEMENT] * 40, left_out)
    assert "--max-skew-ms" in advice([], Counter({"the two times are too far apart": 3}))
    assert "Record more" in advice([], Counter({"between two candidates": 900}))
    assert "Record more" in advice([], Counter({"thermal shutter closed": 3}))


def test_expected_residual_takes_in_outlines_and_the_pitch() -> None:
    flat = np.full((6, 8), 0.4, np.float32)
    field = np.zeros((48, 64, 2), np.float32)
    left = flat.copy()
    left[:3] = np.nan  # cannot be judged
    even = PixelAlignment(field, 0.5, left, flat, np.zeros_like(flat), 1.0)
    outlines = PixelAlignment(field, 0.5, left, flat, np.full_like(flat, 3.0), 1.0)
    coarse = PixelAlignment(field, 0.5, left, flat, np.full_like(flat, 3.0), 4.0)
    assert even.residuals().median_px == even.residuals().p95_px == pytest.approx(0.4)
    expected = [found.residuals().expected_p95_px for found in (even, outlines, coarse)]
    assert expected == sorted(expected) and expected[0] < 0.5 and expected[1] > 1.0
    assert np.isnan(even.residuals((slice(0, 24), slice(0, 64))).median_px)


def test_linear_levels_keep_proportions() -> None:
    counts = np.linspace(23000, 23600, 200 * 200).reshape(200, 200).astype(np.uint16)
    levels = linear_levels(counts)
    assert levels.dtype == np.uint16 and levels.min() == 0 and levels.max() == 65280
    assert abs(int(levels[100, 100]) - 32640) < 700
    assert not linear_levels(np.full((8, 8), 5, np.uint8)).any()
