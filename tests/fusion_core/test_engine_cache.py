"""Engines on disk: found again by key, made once, replaced when damaged, refused from where others may write."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from filelock import FileLock

from fusion_core.engines.cache import EngineCache
from fusion_core.engines.openvino_runtime import load_openvino
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


def _named(weights: str) -> dict[str, object]:
    return {**KEY, "weights": weights}


def _use(cache: EngineCache, weights: str, at_s: float) -> None:
    """Make or read the entry, and pretend that it was at that time."""
    assert cache.get_or_make(_named(weights), Maker.load, Maker().make) == "sound"
    os.utime(cache.path_of(_named(weights)), (at_s, at_s))


def _kept(cache: EngineCache) -> str:
    return "".join(sorted(str(entry.key["weights"]) for entry in cache.entries()))


@pytest.mark.parametrize("in_bytes", [False, True])
def test_what_was_not_used_for_longest_goes_when_there_is_too_much(tmp_path: Path, in_bytes: bool) -> None:
    unbounded = EngineCache(tmp_path / "engines")
    for at_s, weights in enumerate("abc", start=1000):
        _use(unbounded, weights, at_s)
    size = unbounded.entries()[0].size_bytes
    cache = EngineCache(unbounded.folder, **({"limit_bytes": 2 * size} if in_bytes else {"limit_entries": 3}))
    _use(cache, "a", 1003)  # b is now the one that was not used for longest
    assert _kept(cache) == "abc"  # nothing goes by reading
    _use(cache, "d", 1004)
    assert _kept(cache) == "acd"
    with FileLock(f"{cache.path_of(_named('c'))}.lock"):  # another process has it in hand
        _use(cache, "e", 1005)
    assert _kept(cache) == "cde"


@pytest.mark.parametrize("change", [{"weights": "abd"}, {"height": 720}, {"gpu": "another"}])
def test_anything_in_the_key_makes_another_engine(cache: EngineCache, change: dict[str, object]) -> None:
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)
    cache.get_or_make({**KEY, **change}, maker.load, maker.make)
    assert maker.made == 2


def _replace_by_another(entry: Path) -> None:
    """A sound entry, but of something else, under this one's name."""
    shutil.rmtree(entry)
    other = EngineCache(entry.parent)
    other.get_or_make({**KEY, "weights": "foreign"}, Maker.load, Maker().make)
    other.path_of({**KEY, "weights": "foreign"}).rename(entry)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda entry: (entry / "engine").write_text("so"),
    "one byte differs": lambda entry: (entry / "engine").write_text("sounD"),
    "missing": lambda entry: (entry / "engine").unlink(),
    "no list of files": lambda entry: (entry / "files.json").unlink(),
    "the list names a file elsewhere": lambda entry: (entry / "files.json").write_text('{"../x": "0"}'),
    "the key cannot be read": lambda entry: (entry / "key.json").write_text("{"),
    "another engine in its place": _replace_by_another,
    "others may write": lambda entry: entry.chmod(0o777),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_engine_is_set_aside_unread_and_made_anew(cache: EngineCache, damage: str) -> None:
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)
    DAMAGES[damage](cache.path_of(KEY))
    read: list[str] = []

    def load(folder: Path) -> str:
        read.append((folder / "engine").read_text())
        return Maker.load(folder)

    assert cache.get_or_make(KEY, load, maker.make) == "sound"
    assert read == ["sound"]  # a parser never sees the damaged file
    assert maker.made == 2
    assert len(list(cache.folder.glob("*.bad"))) == 1
    assert [entry.key for entry in cache.entries() if entry.name.endswith(".bad")] == [{}]
    cache.clean()
    assert not list(cache.folder.glob("*.bad"))
    assert cache.get_or_make(KEY, maker.load, maker.make) == "sound"
    assert maker.made == 2


def test_a_link_in_an_entrys_place_is_not_followed(cache: EngineCache, tmp_path: Path) -> None:
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)
    cache.path_of(KEY).rename(tmp_path / "elsewhere")
    cache.path_of(KEY).symlink_to(tmp_path / "elsewhere")
    assert cache.get_or_make(KEY, maker.load, maker.make) == "sound"
    assert maker.made == 2
    assert (tmp_path / "elsewhere" / "engine").exists()


def test_an_engine_that_does_not_fit_now_is_kept(cache: EngineCache) -> None:
    """No memory on the GPU is no damage: building anew for minutes would end the same way."""
    maker = Maker()
    cache.get_or_make(KEY, maker.load, maker.make)

    def no_memory(folder: Path) -> str:
        raise EngineError("TensorRT has no memory")

    with pytest.raises(EngineError, match="no memory"):
        cache.get_or_make(KEY, no_memory, maker.make)
    assert cache.get_or_make(KEY, maker.load, maker.make) == "sound"
    assert maker.made == 1


def test_an_engine_whose_parser_refuses_what_was_just_built_is_an_error(cache: EngineCache) -> None:
    def refuse(folder: Path) -> str:
        raise ValueError("wrong version")

    with pytest.raises(EngineError, match=r"just built cannot be read: wrong version"):
        cache.get_or_make(KEY, refuse, Maker().make)
    assert not cache.path_of(KEY).exists()


def test_a_full_disk_is_told(cache: EngineCache) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(EngineError, match=r"No space left on device.*Make room"):
        cache.get_or_make(KEY, Maker.load, full)
    assert [path for path in cache.folder.iterdir() if path.is_dir()] == []


def test_cleaning_leaves_what_is_being_built(cache: EngineCache) -> None:
    building, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        (folder / "engine").write_text("sound")
        building.set()
        assert go_on.wait(30)

    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(cache.get_or_make(KEY, Maker.load, slow)))
    thread.start()
    assert building.wait(30)
    abandoned = cache.folder / ".new-test-0123-abcdefgh"
    abandoned.mkdir()
    (abandoned / "engine").write_text("half")
    assert cache.clean(everything=True) == 4
    assert not abandoned.exists()
    go_on.set()
    thread.join(30)
    assert results == ["sound"]


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_engine_error(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    cache = EngineCache(folder)
    folder.chmod(0o500)
    try:
        with pytest.raises(EngineError, match="cannot be written"):
            cache.get_or_make(KEY, Maker.load, Maker().make)
    finally:
        folder.chmod(0o700)


def test_a_network_that_cannot_be_kept_is_used_all_the_same(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = load_openvino()

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(openvino, "save_model", full)
    model = object()
    with structlog.testing.capture_logs() as logs:
        assert cache.openvino_model(KEY, lambda: model) is model
    assert [entry["log_level"] for entry in logs] == ["warning"]

    def unconvertible() -> object:
        raise EngineError("no such operator")

    with pytest.raises(EngineError, match="no such operator"):
        cache.openvino_model(KEY, unconvertible)


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
    folder.chmod(0o700)
    EngineCache(folder)
    with pytest.raises(EngineError, match="written by others"):
        tmp_path.chmod(0o777)  # others could put a folder of theirs in its place
        try:
            EngineCache(folder)
        finally:
            tmp_path.chmod(0o700)


def test_without_a_cache_engines_are_built_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion_core.engines import cache as engine_cache
    from fusion_core.engines import engine

    def refused(folder: Path | None = None) -> None:
        raise EngineError("the engine cache may be written by others")

    monkeypatch.setattr(engine_cache, "EngineCache", refused)
    with structlog.testing.capture_logs() as logs:
        assert engine._cache() is None
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "engines are not kept: each start builds them")
    ]
