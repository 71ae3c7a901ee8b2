"""Makes a validated pydantic model of YAML text, environment and command line, and names every fault by its place.

The YAML is read as version 1.2 core scalars (`off` is a word, `1e-3` is a number), nothing is ever executed, and each
value keeps the line it came from. All faults of a file are reported together, one line each:
`file:line: key.path: what is wrong; did you mean ...?`
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fusion_core.config_faults import KeyPath, dotted, explain, path_faults, real_path, short
from fusion_core.errors import BadInputError, ConfigError
from fusion_core.files import NoPlainFileError, read_bounded

__all__ = [
    "ENV_PREFIX",
    "MAX_BYTES",
    "ConfigTree",
    "KeyPath",
    "apply_override",
    "compose_yaml",
    "load_model",
    "load_tree",
    "parse_tree",
    "read_yaml",
    "validate_tree",
]

ENV_PREFIX = "LUMITHERM__"
MAX_BYTES = 1_000_000
MAX_DEPTH = 30
MAX_VALUES = 20_000
_SAVE = "save it anew with the encoding UTF-8 (editors ask for it in `Save as`)"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(slots=True)
class ConfigTree:
    """Plain values of a configuration, where each came from, and the faults met so far.

    origins: key path -> "file:line", "--set" or "environment NAME". problems: (sort key, text), one a fault.
    faulty: the keys that have one.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    faulty: set[KeyPath] = field(default_factory=set)

    def add_problem(self, path: KeyPath, text: str) -> None:
        """Record a fault at the place where `path`, or the nearest thing around it, was given; the first one counts."""
        if path in self.faulty:
            return
        if path:
            self.faulty.add(path)
        origin = self.origin(path)
        line = origin.rsplit(":", 1)[-1]
        rank = (0, int(line)) if line.isdigit() else (1, 0)
        self.problems.append((rank, f"{origin}: {dotted(path)}: {text}" if path else f"{origin}: {text}"))

    def origin(self, path: KeyPath) -> str:
        """Where `path` was given; for a value that was not given, where its section was."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.name

    def raise_problems(self) -> None:
        """Raise ConfigError with every fault, in the order of the file; nothing if there is none."""
        if not self.problems:
            return
        lines = list(dict.fromkeys(text for _, text in sorted(self.problems, key=lambda item: item[0])))
        if len(lines) == 1:
            raise ConfigError(lines[0])
        raise ConfigError("\n".join([f"{self.name}: {len(lines)} problems", *(f"  {line}" for line in lines)]))


def load_model(
    model: type[Model], path: Path | str, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Model:
    """Read, override and validate. See `load_tree` and `validate_tree`; raises ConfigError with all faults at once."""
    return validate_tree(model, load_tree(path, overrides, env))


def load_tree(
    path: Path | str,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    wanted: str = "YAML, as `lumitherm config init` writes",
) -> ConfigTree:
    """Read the values of a YAML file, replaced by those of the environment, and these by those of the command line.

    Args:
        wanted: what a file that cannot be read should have been.
        overrides: "a.b=value", the value in YAML.
        env: variables; those named LUMITHERM__A__B set a.b.

    Raises:
        ConfigError: the file cannot be read or is no YAML at all. Other faults stay in the tree for `validate_tree`.
    """
    file = Path(path)
    try:
        raw = read_bounded(file, MAX_BYTES, "YAML file")
    except NoPlainFileError as error:
        raise ConfigError(f"{error}; give {wanted}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error}); wanted {wanted}") from error
    except BadInputError as error:
        raise ConfigError(str(error)) from error
    tree = parse_tree(_text_of(raw, file), str(file))
    for variable, value in sorted((env or {}).items()):
        if variable.upper().startswith(ENV_PREFIX):
            keys = variable[len(ENV_PREFIX) :].lower().split("__")
            _override(tree, keys, value, f"environment {variable}")
    for override in overrides:
        apply_override(tree, override)
    return tree


def _text_of(raw: bytes, file: Path) -> str:
    """What the bytes of a file say. Raises ConfigError: not in UTF-8, with what it seems to be and what to do."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in raw[:4]:  # text has no byte 0 in UTF-8
        raise ConfigError(f"{file}: looks like UTF-16 or UTF-32, wanted UTF-8; {_SAVE}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{file}:{line}: byte {error.start} (0x{raw[error.start]:02x}) is not UTF-8 text; {_SAVE}"
        ) from error


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The plain values of a YAML file with `key: value` lines at its top, for files that no model describes.

    Raises:
        ConfigError: it cannot be read, is no such file, or exceeds MAX_BYTES, MAX_DEPTH or MAX_VALUES.
    """
    tree = load_tree(path, wanted="a YAML file")  # a calibration, a board, a run: `config init` writes none of them
    tree.raise_problems()
    return tree.values


def apply_override(tree: ConfigTree, override: str) -> None:
    """Apply one `--set key.path=value`, the value in YAML. Raises ConfigError without a key or a value."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: wanted key.path=value, e.g. --set run.seed=2")
    _override(tree, key.strip().split("."), value, "--set")


def parse_tree(text: str, name: str) -> ConfigTree:
    """Parse YAML text into plain values with their lines.

    Raises:
        ConfigError: not YAML, not one document, or no mapping at the top. Duplicate keys, tags and values that JSON
            does not know are recorded in the tree.
    """
    root = compose_yaml(text, name)
    tree = ConfigTree(name)
    if root is None:
        tree.origins[()] = f"{name}:1"
        return tree
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{name}:{root.start_mark.line + 1}: wanted `key: value` lines at the top, got {_kind(root)}")
    reader = _Reader(tree)
    values = reader.read(root, (), 0)
    tree.values = values if isinstance(values, dict) else {}
    return tree


def validate_tree(model: type[Model], tree: ConfigTree) -> Model:
    """Make a frozen model of the tree. Raises ConfigError with all faults of the tree and of the model at once."""
    result: Model | None = None
    for path, fault in path_faults(model, tree.values):
        tree.add_problem(path, fault)
    try:
        # JSON rules: no silent "3" -> 3, but lists become tuples and words become enum members.
        result = model.model_validate_json(json.dumps(tree.values), strict=True)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = real_path(model, tree.values, details["loc"])
            tree.add_problem(path, explain(model, path, details))
    tree.raise_problems()
    assert result is not None  # without problems there is a result; for the type checker
    return result


# ---------------------------------------------------------------------------------------------- reading YAML


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema: no on/off/yes/no, no dates, no base-60 numbers.

    Counts as it reads, so that what is too large or too deep is refused before it has been built.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node and what is in it. Raises YAMLError above the limits."""
        self._nodes += 1
        self._depth += 1
        if self._depth > MAX_DEPTH + 2 or self._nodes > 2 * MAX_VALUES:  # keys are nodes, too
            line = int(self.line) + 1
            raise yaml.YAMLError(f"line {line}: more than {MAX_DEPTH} levels or {MAX_VALUES} values")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$|^0x[0-9a-fA-F]+$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def compose_yaml(text: str, name: str) -> yaml.Node | None:
    """The nodes of one document, for whoever needs their places. Raises ConfigError, see `parse_tree`."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        column = f" (column {mark.column + 1})" if mark else ""
        message = " ".join(part for part in (error.context, error.problem) if part)
        message += "; check indentation, colons and quotes"
        if "'\\t'" in message:
            message = "a tab, and YAML wants spaces: put spaces in place of every tab"
        raise ConfigError(f"{where}: not valid YAML{column}: {message}") from error
    except yaml.reader.ReaderError as error:
        where = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        raise ConfigError(
            f"{where}: not valid YAML: holds U+{error.character:04X}, which is no text; delete it"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply; wanted at most {MAX_DEPTH} levels") from error
    except ValueError as error:  # e.g. an escape beyond Unicode inside quotes
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    return node


class _Reader:
    """Turns nodes into plain values; bounded in depth and in number, so that aliases cannot blow up."""

    def __init__(self, tree: ConfigTree) -> None:
        self._tree = tree
        self._count = 0

    def read(self, node: yaml.Node, path: KeyPath, depth: int, origin: str | None = None) -> Any:
        self._count += 1
        here = origin or f"{self._tree.name}:{node.start_mark.line + 1}"
        if depth > MAX_DEPTH or self._count > MAX_VALUES:
            raise ConfigError(
                f"{here}: {dotted(path)}: more than {MAX_DEPTH} levels or {MAX_VALUES} values; is an alias in a loop?"
            )
        self._tree.origins.setdefault(path, here)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth, origin)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i), depth + 1, origin) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int, origin: str | None) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            here = origin or f"{self._tree.name}:{line}"
            if not isinstance(key_node, yaml.ScalarNode):
                self._tree.origins[(*path, "?")] = here
                self._tree.add_problem((*path, "?"), f"the key is {_kind(key_node)}, wanted a plain name")
                continue
            key = str(key_node.value)
            if key_node.tag == "tag:yaml.org,2002:merge" or not _is_text(key):
                self._tree.origins[(*path, "?")] = here
                self._tree.add_problem((*path, "?"), f"{key!r} cannot be a key here; write the settings out")
                continue
            if key in result:
                problem = f"given twice, first at {self._tree.origins[(*path, key)]}; keep one"
                self._tree.problems.append(((0, line), f"{here}: {dotted((*path, key))}: {problem}"))
                continue
            self._tree.origins[(*path, key)] = here
            result[key] = self.read(value_node, (*path, key), depth + 1, origin)
        return result

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in ("str", "merge"):
            if _is_text(text):
                return text
            self._tree.add_problem(path, "holds characters that are no text")
            return None
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                whole = int(text, 16 if text.lower().startswith("0x") else 10)
                if abs(whole) < 2**63:
                    return whole
            if kind == "float":
                number = float(text.replace(".inf", "inf").replace(".nan", "nan"))
                if math.isfinite(number):
                    return number
        except (ValueError, KeyError, OverflowError):
            pass  # told below, like every other value that means nothing here
        self._tree.add_problem(path, f"is {short(text)}, which is no finite number, word, true/false or null")
        return None


def _override(tree: ConfigTree, keys: list[str], text: str, origin: str) -> None:
    """Put one value into the tree, with the sections on the way; record faults under `origin`."""
    path: KeyPath = tuple(keys)
    target: Any = tree.values
    for depth, key in enumerate(keys[:-1], start=1):
        inner = target.get(key)
        if inner is None:
            inner = target[key] = {}
            tree.origins[path[:depth]] = origin
        if not isinstance(inner, dict):
            tree.origins[path] = origin
            tree.add_problem(path, f"{dotted(path[:depth])} is a single value and holds no settings")
            return
        target = inner
    for old in [known for known in tree.origins if known[: len(path)] == path]:
        del tree.origins[old]
    tree.origins[path] = origin
    node = compose_yaml(text, origin)
    if node is None:
        target[keys[-1]] = "" if text.strip() == "" else None
    else:
        target[keys[-1]] = _Reader(tree).read(node, path, len(path), origin)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.CollectionNode):
        return "a section" if isinstance(node, yaml.MappingNode) else "a list"
    return "a single value"


def _is_text(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)
