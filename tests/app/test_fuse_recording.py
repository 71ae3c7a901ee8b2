"""`lumitherm fuse RECORDING`: frame-accurate, from the raw tracks, with another AGC, view, engine or calibration."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from support import recording as support
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.recording.config import RecordingConfig
from app.recording.reader import RecordingReader
from app.recording.sidecar import sidecar_path
from app.recording.writing.recorder import Recorder
from calibration.rig import plain_scaling, save_calibration
from fusion_core.colour import luminance
from fusion_core.engines.pyramid_engine import AverageEngine
from fusion_core.errors import BadInputError, LumithermError, UsageError
from fusion_core.thermal.agc import Agc, AgcConfig, AgcMode

PAIRS = 20


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("to fuse")
    recorder = Recorder(RecordingConfig(directory=folder, reserve_mb=1))
    recorder.start()
    for index in range(PAIRS):
        support.feed(recorder, support.frame_at(index))
    recorder.close()
    (video,) = folder.glob("*.mkv")
    return video


def fuse(*arguments: str) -> str:
    """The output; errors are raised."""
    result = CliRunner().invoke(build_cli(), ["fuse", *arguments])
    if isinstance(result.exception, LumithermError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def decoded(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [float(frame.time or 0.0) for frame in frames]


def test_every_pair_comes_out_at_its_own_time_and_fused_from_the_raw_tracks(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.mkv"
    text = fuse(str(recording), "-o", str(out), "--engine", "average", "--agc", "linear", "--crf", "0")
    assert f"{PAIRS} frames" in text
    pictures, times_s = decoded(out)
    agc, engine = Agc(AgcConfig(mode=AgcMode.LINEAR)), AverageEngine()
    with RecordingReader(recording) as reader:
        assert len(pictures) == len(reader) == PAIRS
        start_ns, before_ns = reader.line(0).t_ns, None
        for index, picture in enumerate(pictures):
            pair = reader.pair(index)
            assert pair.visible is not None and pair.thermal is not None
            assert times_s[index] == pytest.approx((pair.timestamp_ns - start_ns) / 1e9, abs=0.0011)
            since_s = None if before_ns is None else (pair.thermal.timestamp_ns - before_ns) / 1e9
            before_ns = pair.thermal.timestamp_ns
            wanted = engine.fuse(pair.visible.pixels, agc.apply(pair.thermal.pixels, since_s))
            # the lossless encoder loses colour to 4:2:0; luminance stays to a level or two, but for clipped colours
            assert np.median(np.abs(luminance(picture).astype(int) - luminance(wanted))) <= 1


def test_another_agc_another_view_and_a_limit(recording: Path, tmp_path: Path) -> None:
    manual = tmp_path / "manual.mkv"
    fuse(str(recording), "-o", str(manual), "--engine", "average", "--agc-range", "0:65535", "--limit", "3")
    linear = tmp_path / "linear.mkv"
    fuse(str(recording), "-o", str(linear), "--engine", "average", "--agc", "linear", "--limit", "3")
    assert len(decoded(manual)[0]) == 3
    assert np.abs(decoded(manual)[0][2].astype(int) - decoded(linear)[0][2]).mean() > 1.0
    side = tmp_path / "side.mkv"
    fuse(str(recording), "-o", str(side), "--view", "side-by-side", "--engine", "average", "--limit", "2")
    assert decoded(side)[0][0].shape[1] == 3 * decoded(linear)[0][0].shape[1]  # visible, thermal, fused


def test_a_calibration_moves_thermal_and_a_foreign_one_is_refused(recording: Path, tmp_path: Path) -> None:
    shape = support.HEIGHT, support.WIDTH
    shifted = np.array([[1.0, 0, 12], [0, 1, 0], [0, 0, 1]])
    good = tmp_path / "rig.yaml"
    save_calibration(plain_scaling(shape, shape).with_correction(shifted), good)
    outputs = []
    for name, extra in (("plain", ()), ("moved", ("--calibration", str(good)))):
        outputs.append(tmp_path / f"{name}.mkv")
        fuse(str(recording), "-o", str(outputs[-1]), "--view", "thermal", "--limit", "2", *extra)
    plain, moved = (decoded(path)[0][1].astype(int) for path in outputs)
    assert np.abs(moved[:, 16:] - plain[:, 4:-12]).mean() < np.abs(moved - plain).mean() / 3
    foreign = tmp_path / "foreign.yaml"
    save_calibration(plain_scaling((300, 1000), shape), foreign)
    with pytest.raises(BadInputError, match="proportions"):
        fuse(str(recording), "-o", str(tmp_path / "no.mkv"), "--calibration", str(foreign))


def test_what_is_no_recording_needs_its_thermal_partner(recording: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.mkv"
    bare.write_bytes(recording.read_bytes())
    with pytest.raises(UsageError, match="thermal picture, folder or video must be given"):
        fuse(str(bare), "-o", str(tmp_path / "x.mkv"))
    with pytest.raises(UsageError, match="also an input"):
        fuse(str(recording), "-o", str(recording), "--overwrite")


def test_damage_in_the_middle_is_left_out_and_told(recording: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    data = recording.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 5])
    sidecar_path(cut).write_bytes(sidecar_path(recording).read_bytes())
    out = tmp_path / "part.mkv"
    try:
        fuse(str(cut), "-o", str(out), "--engine", "average")
    except BadInputError as error:
        assert "could not be decoded and were left out" in str(error)
    assert 0 < len(decoded(out)[0]) < PAIRS
