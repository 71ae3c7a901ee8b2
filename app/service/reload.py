"""Reading the configuration again: safe keys are taken over, others are named, a bad file changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

if TYPE_CHECKING:
    from app.configuration.config import AppConfig

__all__ = ["SAFE_KEYS", "changed_keys", "split_changes", "taken_over"]

SAFE_KEYS: Final = (
    "agc",
    "calibration.file",
    "engine.name",
    "engine.preset",
    "engine.weights",
    "engine.strength",
    "logging.level",
    "service.triggers",
    "service.hooks",
    "service.retention",
)
"""Keys, or whole sections, that take effect without a restart."""


def changed_keys(old: BaseModel, new: BaseModel) -> list[str]:
    """Dotted keys whose values differ, in the order of the models."""
    return list(_differences(old.model_dump(), new.model_dump(), ""))


def split_changes(keys: list[str]) -> tuple[list[str], list[str]]:
    """(keys that take effect at once, keys that need a restart)."""
    safe = [key for key in keys if any(key == known or key.startswith(f"{known}.") for known in SAFE_KEYS)]
    return safe, [key for key in keys if key not in safe]


def taken_over(old: AppConfig, new: AppConfig) -> AppConfig:
    """The configuration in force: what was taken over from the new one, and the old one for the rest."""
    service = old.service.model_copy(
        update={
            "triggers": new.service.triggers,
            "hooks": new.service.hooks,
            "retention": new.service.retention,
        }
    )
    engine = old.engine.model_copy(
        update={name: getattr(new.engine, name) for name in ("name", "preset", "weights", "strength")}
    )
    return old.model_copy(
        update={
            "agc": new.agc,
            "engine": engine,
            "calibration": old.calibration.model_copy(update={"file": new.calibration.file}),
            "logging": old.logging.model_copy(update={"level": new.logging.level}),
            "service": service,
        }
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in old:
        before, after = old[key], new.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and before and after:
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}"
