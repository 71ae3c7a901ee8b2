"""Changes one value in a configuration file and leaves everything else, comments included, as it is."""

from __future__ import annotations

from pathlib import Path

import yaml

from app.configuration.config import load_config
from fusion_core.errors import ConfigError
from fusion_core.files import read_bounded, replacing
from fusion_core.yaml_config import MAX_BYTES, compose_yaml

__all__ = ["set_value", "with_value"]


def with_value(text: str, section: str, key: str, value: str) -> str:
    """The text of a YAML file with `section.key` set to `value` (a string), in place or added.

    Raises:
        ConfigError: the text is no YAML, or the section is not written as indented `key: value` lines.
    """
    root = compose_yaml(text, "the configuration")
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError("wanted `key: value` lines at the top")
    shown = _quoted(value)
    found = _entry(root, section)
    if found is None or (isinstance(found, yaml.ScalarNode) and found.value in ("", "null", "~")):
        if found is not None:
            raise ConfigError(f"{section} is empty; delete that line, so that it can be written anew")
        lines = text if text.endswith("\n") or not text else text + "\n"
        return f"{lines}\n{section}:\n  {key}: {shown}\n"
    if not isinstance(found, yaml.MappingNode):
        raise ConfigError(f"{section} holds no `key: value` lines")
    present = _entry(found, key)
    if present is not None:
        return text[: present.start_mark.index] + shown + text[present.end_mark.index :]
    first = found.value[0][0].start_mark
    if found.flow_style:
        return text[: first.index] + f"{key}: {shown}, " + text[first.index :]
    return text[: first.index] + f"{key}: {shown}\n{' ' * first.column}" + text[first.index :]


def set_value(path: Path, section: str, key: str, value: str) -> None:
    """Set `section.key` in a configuration file; the file is replaced only if the new one can be loaded.

    Raises:
        ConfigError: it cannot be read or written, or would not be a configuration any more (then it is as before).
    """
    try:
        text = with_value(read_bounded(path, MAX_BYTES, "YAML file").decode("utf-8"), section, key, value)
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
            load_config(part)
    except OSError as error:
        raise ConfigError(f"{path} cannot be changed: {error.strerror or error}") from error


def _entry(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return value if isinstance(value, yaml.Node) else None
    return None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
