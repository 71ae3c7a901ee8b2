"""The model store: what may enter, what is in use, and the way back."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusion_core.checkpoint import load_checkpoint, save_checkpoint
from fusion_core.errors import BadInputError, CheckpointError, UsageError
from fusion_core.model_store import ACTIVE, DEFAULT_MODEL, ModelStore, resolve_weights
from fusion_core.rfvif import Rfvif, preset_config


def make_weights(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network = Rfvif(preset_config("tiny"))
    save_checkpoint(path, network, {"preset": "tiny", "steps": 7, "agc": {"mode": "plateau"}})
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return make_weights(folder / "first.safetensors", 1), make_weights(folder / "second.safetensors", 2)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_added_model_is_listed_with_its_facts(store: ModelStore, weights: tuple[Path, Path]) -> None:
    added = store.add(weights[0], "rig-1")
    assert added.name == "rig-1" and added.origin == "added" and not added.in_use
    assert added.facts["steps"] == 7 and added.config["channels"] == 8
    assert added.sha256 == load_checkpoint(weights[0]).sha256
    assert added.parameters == sum(p.numel() for p in load_checkpoint(weights[0]).network.parameters())
    assert [m.name for m in store.models() if m.origin == "added"] == ["rig-1"]
    assert added.path.read_bytes() == weights[0].read_bytes()


def test_use_and_roll_back(store: ModelStore, weights: tuple[Path, Path]) -> None:
    assert store.active() == DEFAULT_MODEL
    store.add(weights[0])
    store.add(weights[1])
    assert store.use("first").in_use
    store.use("second")
    store.use("second")  # again: no second entry in the history
    assert [entry.name for entry in store.history()] == ["first", "second"]
    assert store.get(ACTIVE).name == "second"
    assert store.rollback().name == "first"
    assert store.active() == "first"
    if any(model.name == DEFAULT_MODEL for model in store.models()):
        assert store.rollback().name == DEFAULT_MODEL
        with pytest.raises(UsageError, match="nothing to roll back"):
            store.rollback()
    else:
        with pytest.raises(CheckpointError, match=DEFAULT_MODEL):
            store.rollback()
        assert store.active() == "first"  # a failed roll back changes nothing


def test_roll_back_without_history(store: ModelStore) -> None:
    with pytest.raises(UsageError, match="nothing to roll back"):
        store.rollback()


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evil.pt", pickle.dumps(_Attack()), "can run code"),
        ("renamed.safetensors", pickle.dumps(_Attack()), "not a safetensors file"),
        ("empty.safetensors", b"", "damaged"),
        ("huge-header.safetensors", (1 << 40).to_bytes(8, "little") + b"{}", "damaged"),
        ("foreign.safetensors", (2).to_bytes(8, "little") + b"{}", "no Lumitherm weights"),
    ],
)
def test_foreign_files_are_refused(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        store.add(tmp_path / name)
    assert capsys.readouterr().out == ""
    assert not list(store.folder.glob("*.safetensors")) if store.folder.exists() else True


@pytest.mark.parametrize("name", ["tiny", "active", "store", "../up", "", "a b", "x" * 65, ".hidden"])
def test_unusable_names_are_refused(store: ModelStore, weights: tuple[Path, Path], name: str) -> None:
    with pytest.raises(UsageError):
        store.add(weights[0], name)


def test_taken_name_needs_replace(store: ModelStore, weights: tuple[Path, Path]) -> None:
    store.add(weights[0], "mine")
    with pytest.raises(UsageError, match="--overwrite"):
        store.add(weights[1], "mine")
    assert store.add(weights[1], "mine", replace=True).sha256 == load_checkpoint(weights[1]).sha256


def test_file_changed_behind_our_back_is_not_used(store: ModelStore, weights: tuple[Path, Path]) -> None:
    model = store.add(weights[0], "mine")
    model.path.write_bytes(weights[1].read_bytes())
    with pytest.raises(CheckpointError, match="not the file that was added"):
        store.use("mine")
    assert store.active() == DEFAULT_MODEL


def test_file_without_entry_is_listed_as_a_problem(store: ModelStore, weights: tuple[Path, Path]) -> None:
    model = store.add(weights[0], "mine")
    model.path.with_suffix(".json").unlink()
    assert "add the file again" in store.get("mine").problem
    with pytest.raises(CheckpointError, match="cannot be used"):
        store.use("mine")


def test_damaged_state_says_what_to_do(store: ModelStore, weights: tuple[Path, Path]) -> None:
    store.add(weights[0])
    (store.folder / "store.json").write_text('{"format": 1, "active": 3}')
    with pytest.raises(BadInputError, match="delete it"):
        store.active()


def test_remove(store: ModelStore, weights: tuple[Path, Path]) -> None:
    store.add(weights[0], "mine")
    store.use("mine")
    with pytest.raises(UsageError, match="in use"):
        store.remove("mine")
    store.add(weights[1], "other")
    store.use("other")
    store.remove("mine")
    assert [m.name for m in store.models() if m.origin == "added"] == ["other"]
    assert not (store.folder / "mine.json").exists()


def test_weights_resolve_through_the_store(
    store: ModelStore, weights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUMITHERM_MODELS", str(store.folder))
    model = store.add(weights[0], "mine")
    assert resolve_weights("mine") == model.path
    assert resolve_weights(Path("mine")) == model.path
    assert resolve_weights(weights[1]) == weights[1]
    store.use("mine")
    assert resolve_weights("active") == model.path
    with pytest.raises(CheckpointError, match="the models are"):
        resolve_weights("nowhere")
    with pytest.raises(CheckpointError, match="weights file that exists"):
        resolve_weights("nowhere.safetensors")


def test_listing_needs_no_torch(store: ModelStore, weights: tuple[Path, Path]) -> None:
    store.add(weights[0], "mine")
    code = (
        "import sys; from pathlib import Path; from fusion_core.model_store import ModelStore;"
        "print([m.name for m in ModelStore(Path(sys.argv[1])).models()], 'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(store.folder)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[2],
    ).stdout  # fmt: skip
    assert "'mine'" in out and out.strip().endswith("False")


def test_entry_holds_plain_json(store: ModelStore, weights: tuple[Path, Path]) -> None:
    entry = json.loads(store.add(weights[0]).path.with_suffix(".json").read_text())
    assert entry["source"] == str(weights[0].resolve()) and entry["format"] == 1
