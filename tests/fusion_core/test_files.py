"""Replacing a file: the new contents or the old ones, nothing left over, and all of it on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusion_core.files import plain_name, replacing, write_atomic


def test_the_new_contents_take_the_place_of_the_old(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.yaml", "grün\n")
    assert (tmp_path / "a.yaml").read_bytes() == "grün\n".encode()
    write_atomic(tmp_path / "a.yaml", b"\x00\xff")
    assert (tmp_path / "a.yaml").read_bytes() == b"\x00\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_an_error_leaves_the_old_contents_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("old")
    with pytest.raises(ValueError, match="no good"), replacing(path) as part:
        assert part.suffix == ".yaml" and part.parent == tmp_path
        part.write_text("half")
        raise ValueError("no good")
    assert path.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_contents_are_on_the_disk_before_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), (tmp_path / "a").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomic(tmp_path / "a", b"new")
    (file, named), (folder, there) = synced
    assert file.parent == folder == tmp_path and (named, there) == (False, True)


def test_a_plain_name_has_nothing_that_leads_elsewhere() -> None:
    assert plain_name("../rig 1/ä-b") == "___rig_1_ä-b"


def test_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + "a.png")
    assert len(path.name.encode()) == 255
    write_atomic(path, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
