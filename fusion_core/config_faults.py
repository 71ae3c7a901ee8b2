"""Puts the faults of a configuration into words: what is wrong, what was found, what is wanted, what may be meant."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from fusion_core.redaction import redacted

__all__ = ["KeyPath", "dotted", "explain", "path_faults", "real_path", "short"]

KeyPath = tuple[str | int, ...]
_MAX_DEPTH = 30


def explain(model: type[BaseModel], path: KeyPath, details: ErrorDetails) -> str:
    """Say one of pydantic's errors at a key in words for the user."""
    kind, got, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if kind == "missing":
        return "is missing" + _expectation(model, path)
    if kind in ("enum", "literal_error"):
        wanted = str(context.get("expected", ""))
        words = re.findall(r"'([^']*)'", wanted)
        return f"is {short(got)}, must be {wanted}{_did_you_mean(str(got), words)}"
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", details["msg"]))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"is {short(got)}, wanted a section with `key: value` lines beneath it"
    if kind.endswith(("_type", "_parsing")) or kind in ("int_from_float", "is_instance_of"):
        return f"is {_described(got)}, wanted {_wanted(kind)}{_quote_hint(kind, got)}"
    for limit, words_ in (
        ("gt", "greater than"), ("ge", "at least"), ("lt", "less than"), ("le", "at most"),
    ):  # fmt: skip
        if limit in context:
            return f"is {short(got)}, must be {words_} {context[limit]:g}"
    message = details["msg"]
    return f"is {short(got)}: {message[:1].lower()}{message[1:]}"


def _wanted(kind: str) -> str:
    names = {
        "string_type": "text",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "path_type": "a path",
        "list_type": "a list [a, b]",
        "tuple_type": "a list [a, b]",
    }
    return names.get(kind, kind.removesuffix("_type").removesuffix("_parsing").replace("_", " "))


def _quote_hint(kind: str, got: object) -> str:
    return f'; put it in quotes: "{got}"' if kind == "string_type" and isinstance(got, int | float) else ""


def _described(got: object) -> str:
    if isinstance(got, str):
        return f"the text {short(got)}"
    if isinstance(got, dict):
        return "a section"
    return short(got)


def short(value: object) -> str:
    """Cut a value for a message: at most 60 characters, without credentials."""
    if value is None:
        return "empty (null)"
    text = json.dumps(redacted(value), default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_key(model: type[BaseModel], path: KeyPath) -> str:
    owner = _model_at(model, path[:-1])
    known = list(owner.model_fields) if owner is not None else []
    key = str(path[-1])
    unseen = [f"U+{ord(character):04X}" for character in key if not character.isprintable()]
    if unseen:
        return f"unknown key, with the invisible {', '.join(unseen)} in it; type the line anew"
    hint = _did_you_mean(key, known)
    if not hint:
        elsewhere = [dotted(other) for other in _all_keys(model) if other[-1] == key]
        hint = f"; did you mean {' or '.join(elsewhere[:3])}?" if elsewhere else ""
    return f"unknown key{hint or '; known here: ' + ', '.join(known)}"


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _expectation(model: type[BaseModel], path: KeyPath) -> str:
    owner = _model_at(model, path[:-1])
    info = owner.model_fields.get(str(path[-1])) if owner is not None else None
    if info is None or not info.description:
        return "; it has no default"
    return f"; wanted {' '.join(info.description.split())}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in typing.get_args(annotation) for found in _models_in(part)]


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for key in path:
        if current is None:
            return None
        if isinstance(key, int):
            continue
        info = current.model_fields.get(key)
        current = next(iter(_models_in(info.annotation)), None) if info is not None else None
    return current


def _all_keys(model: type[BaseModel], prefix: KeyPath = ()) -> list[KeyPath]:
    found: list[KeyPath] = []
    for name, info in model.model_fields.items():
        found.append((*prefix, name))
        if len(prefix) < _MAX_DEPTH:
            for inner in _models_in(info.annotation):
                found += _all_keys(inner, (*prefix, name))
    return found


def real_path(model: type[BaseModel], values: dict[str, Any], location: tuple[str | int, ...]) -> KeyPath:
    """The error's location without pydantic's own labels (union members and the like)."""
    path: KeyPath = ()
    value: Any = values
    for key in location:
        inside = (isinstance(value, dict) and key in value) or (isinstance(value, list) and isinstance(key, int))
        owner = _model_at(model, path)
        declared = isinstance(key, str) and owner is not None and key in owner.model_fields
        if not inside and not declared:
            continue
        path = (*path, key)
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
    return path


def path_faults(model: type[BaseModel], values: dict[str, Any], section: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Where a path is blank, which would be the working directory, or cannot have been meant as it was read."""
    for name, info in model.model_fields.items():
        value, path = values.get(name), (*section, name)
        listed = value if isinstance(value, list) else [value]
        for number, item in enumerate(listed):
            here = (*path, number) if listed is value else path
            if isinstance(item, dict):
                for inner in _models_in(info.annotation):
                    yield from path_faults(inner, item, here)
            elif isinstance(item, str) and (_takes_path(info.annotation) or name.endswith("_file")):
                if not item.strip():
                    without = "" if info.is_required() else ", or leave the key out"
                    without = ", or null for none" if info.default is None else without
                    yield here, f"is {short(item)}, wanted a path; give one{without}"
                elif any(character < " " for character in item):
                    yield (
                        here,
                        f"is {short(item)}, wanted a path; within double quotes a \\ has a meaning of its own; "
                        "write / in its place, or take single quotes",
                    )


def _takes_path(annotation: Any) -> bool:
    return annotation is Path or any(_takes_path(part) for part in typing.get_args(annotation))


def dotted(path: KeyPath) -> str:
    """A key path as a user writes it: engine.threads, recording.tracks[1]."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text or "(top)"
