"""Engines on disk: found again by key, made once, replaced when damaged, refused from where others may write."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fusion_core.engine_cache import EngineCache
from fusion_core.errors import EngineError

KEY = {"kind": "test", "weights": "abc", "height": 480}


class Maker:
    def __init__(self) -> None:
        self.made = 0

    def make(self, folder: Path) -> None:
        self.made += 1
        (folder / "engine").write_text("sound")

    @staticmethod
    def load(folder: Path) -> str:
        text = (folder / "engine").read_text()
        if text != "sound":
            raise ValueError("cannot be parsed")
        return text


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_made_once_and_then_read(cache: EngineCache) -> None:
    maker = Maker()
    assert cache.get_or_make(KEY, maker.load, maker.make) == "sound"
    assert cache.get_or_make(dict(reversed(KEY.items())), maker.load, maker.make) == "sound"
    assert maker.made == 1
    assert [entry.key for entry in cache.entries()] == [KEY]
    assert cache.entries()[0].size_bytes > 5


@pytest.mark.parametrize("change", [{"weights": "abd"}, {"height": 720}, {"gpu": "another"}])
def test_anything_in_the_key_makes_another_engine(cache: EngineCache, change: dict[str, object]) -> None:
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)
    cache.get_or_make({**KEY, **change}, maker.load, maker.make)
    assert maker.made == 2


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_engine_is_set_aside_and_made_anew(cache: EngineCache, damage: str) -> None:
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)
    file = cache.path_of(KEY) / "engine"
    if damage == "truncated":
        file.write_text("so")
    else:
        file.unlink()
    assert cache.get_or_make(KEY, maker.load, maker.make) == "sound"
    assert maker.made == 2
    assert len(list(cache.folder.glob("*.bad"))) == 1
    assert cache.clean() >= 0
    assert not list(cache.folder.glob("*.bad"))
    assert cache.get_or_make(KEY, maker.load, maker.make) == "sound"
    assert maker.made == 2


def test_a_build_that_fails_leaves_nothing_behind(cache: EngineCache) -> None:
    def fail(folder: Path) -> None:
        (folder / "engine").write_text("half")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get_or_make(KEY, Maker.load, fail)
    assert [path for path in cache.folder.iterdir() if path.is_dir()] == []


def test_two_threads_make_it_once(cache: EngineCache) -> None:
    maker = Maker()
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(cache.get_or_make(KEY, maker.load, maker.make)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == ["sound"] * 4
    assert maker.made == 1


def test_clean_everything(cache: EngineCache) -> None:
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)
    assert cache.clean(everything=True) > 0
    assert cache.entries() == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(EngineError, match="written by others"):
        EngineCache(folder)
