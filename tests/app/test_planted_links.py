"""A link that another user has laid where the program writes: it is told, and nothing is written behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.configuration.config import LoggingConfig
from app.logging_setup import configure_logging
from app.media.snapshot import save_snapshot
from app.recording.disk_file import DiskFile
from app.recording.writing.disk import require_writable
from app.service.start import RequestedRecordingFile
from app.service.systemd import StartLedger
from app.service.web.control import _listen
from fusion_core.engines.cache import EngineCache
from fusion_core.errors import LumithermError
from fusion_core.files import make_folder, write_atomic
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.model_store import ModelStore

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have owners there")
_OTHER = 12_345


def _snapshot(folder: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    frame = Frame(Stream.VISIBLE, pixels, 0, 0, TimestampSource.ARRIVAL)
    save_snapshot(FusedFrame(pixels, FramePair(frame, None), 0.0, "average"), folder, {})


def _locked(folder: Path) -> None:
    with ModelStore(folder)._locked():
        pass


WRITERS: dict[str, Callable[[Path], object]] = {
    "snapshots": _snapshot,
    "recordings": require_writable,
    "a file of a recording": lambda folder: DiskFile(folder / "a.mkv").close(),
    "log": lambda folder: configure_logging(LoggingConfig(file=folder / "log.txt")),
    "what is to be recorded": lambda folder: RequestedRecordingFile(folder / "rec.json").note(True, None),
    "starts": lambda folder: StartLedger(folder / "starts.json", 60).begin(),
    "models": _locked,
    "engines": EngineCache,
    "socket": lambda folder: _listen(folder / "rig.sock").close(),
    "any file": lambda folder: write_atomic(folder / "x.json", "{}"),
}


def _plant(link: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link.symlink_to(target)
    if os.getuid() == 0:
        os.lchown(link, _OTHER, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: _OTHER)  # what we made belongs to somebody else


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("below", ["", "deeper"])
def test_nothing_is_written_through_a_link_of_another_user(
    tmp_path: Path, what: str, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    _plant(tmp_path / "link", target, monkeypatch)
    try:
        WRITERS[what](tmp_path / "link" / below)
    except (LumithermError, OSError) as error:
        assert "symbolic link that another user made" in str(error)
    else:
        assert what == "what is to be recorded"  # which is told in the log, and goes on
    finally:
        configure_logging(LoggingConfig())
    assert not list(target.iterdir())


@pytest.mark.parametrize("what", WRITERS)
def test_a_link_of_ones_own_is_followed(tmp_path: Path, what: str) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(target)
    try:
        WRITERS[what](tmp_path / "link")
    finally:
        configure_logging(LoggingConfig())
    assert list(target.iterdir()) or what in ("recordings", "engines")  # which leave nothing behind


def test_a_log_that_is_a_link_of_another_user_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("mine")
    _plant(tmp_path / "log.txt", tmp_path / "victim", monkeypatch)
    with pytest.raises(LumithermError, match="symbolic link that another user made"):
        configure_logging(LoggingConfig(file=tmp_path / "log.txt"))
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_in_ours_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    os.chown(tmp_path / "snapshots", _OTHER, -1)
    with pytest.raises(LumithermError, match="belongs to another user"):
        _snapshot(tmp_path / "snapshots")
    assert not list((tmp_path / "snapshots").iterdir())
    os.chown(tmp_path, _OTHER, -1)  # a mounted share: all of it has one owner
    _snapshot(tmp_path / "snapshots")


def test_folders_that_are_not_there_are_made_with_their_mode(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", 0o700, ours=True)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        (tmp_path / "file").touch()
        make_folder(tmp_path / "file")
