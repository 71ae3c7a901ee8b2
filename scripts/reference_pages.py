"""Writes the manual's reference from the program itself: docs/reference/commands.md, configuration.md and options.md.

    python scripts/reference_pages.py

`make docs` calls it; the pages are not kept in the repository, so they cannot be out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"


def commands() -> str:
    """Every command: what it does, its arguments and options, examples."""
    from app.__main__ import build_cli

    root: Any = typer.main.get_command(build_cli())
    parts = ["# Commands\n", "Made from the command line itself; `lumitherm COMMAND --help` says the same.\n"]
    for name, each in root.commands.items():
        if not each.hidden:
            parts += _command(root.load(name), name, 2)
    return "\n".join(parts) + "\n"


def _command(command: Any, path: str, level: int) -> list[str]:
    from app.commands.common.answers import ANSWERS
    from app.commands.common.examples import EXAMPLES

    parts = [f"{'#' * level} {path}\n", _paragraphs(command.help or "")]
    below = {name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden}
    if not below or path in EXAMPLES:
        with command.make_context(path, [], resilient_parsing=True) as context:
            rows = [each.get_help_record(context) for each in command.get_params(context)]
        parts += ["| argument, option | |", "|---|---|"]
        parts += [f"| {_code(head)} | {_cell(text)} |" for head, text in filter(None, rows)]
    if ANSWERS.get(path):
        fields = [f"{text}" if name == "*" else f"`{name}`: {text}" for name, text in ANSWERS[path].items()]
        parts += ["", f"`--json` tells {_cell('; '.join(fields))}."]
    if path in EXAMPLES:
        parts += ["", "```sh", *(f"lumitherm {line}" for line in EXAMPLES[path]), "```"]
    parts.append("")
    for name, each in below.items():
        parts += _command(each, f"{path} {name}", level + 1)
    return parts


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n")) + "\n"


def _cell(text: str) -> str:
    """Plain text in a table."""
    plain = " ".join(text.split()).replace("<", "&lt;")
    return re.sub(r"([|*\[\]])", r"\\\1", plain)


def _code(text: str) -> str:
    """A code span in a table."""
    plain = " ".join(text.split())
    if "|" not in plain:
        return f"`{plain}`"
    return "<code>" + plain.replace("<", "&lt;").replace("|", "&#124;") + "</code>"


def options() -> str:
    """Names that commands share, units, former names."""
    from app.commands.common.answers import EVERYWHERE
    from app.commands.common.options import FORMER, SHARED, TO_STDOUT

    lines = ["# Options\n", "Numbers with a unit say so. What `-o` names stays unless `--overwrite` is there.",
             "Every command has `--json`, `-q`, `-v` and `-h`.\n",
             f"`-o -` is standard output where one file is written: {', '.join(f'`{name}`' for name in TO_STDOUT)}.",
             "Text goes to standard error then. Everywhere else `-` is refused.\n",
             "Exit codes: 0 done, 1 failed at run time, 2 bad usage, configuration or input, 130 interrupted.\n",
             "| option | means |", "|---|---|"]  # fmt: skip
    lines += [f"| `{name}` | {text} |" for name, text in SHARED.items()]
    lines += ["", "`--json` prints one object, with the fields that [Commands](commands.md) lists for each, and\n"]
    lines += [*(f"- `{name}`: {text}" for name, text in EVERYWHERE.items()), ""]
    lines += ["What is no number is `null`. `-q` says errors alone; with `--json`, text for reading is in `lines`.", ""]
    lines += ["", "Names of before still work:\n", "| before | now |", "|---|---|"]
    lines += [f"| `{old}` | `{new}` |" for old, new in FORMER.items() if old != "--json"]
    return "\n".join([*lines, "| `--json FILE` | `--report FILE` |"]) + "\n"


def configuration() -> str:
    """Every key of a rig's configuration."""
    from app.configuration.config import AppConfig

    schema = AppConfig.model_json_schema()
    parts = ["# Configuration\n",
             "Every key of a rig's file, made from the program. `lumitherm config init` writes a file to begin with;",
             "`lumitherm config schema` prints this as JSON schema. `--set section.key=value` and the variable",
             "`LUMITHERM__SECTION__KEY` override a file.\n"]  # fmt: skip
    _section(schema, schema, "", parts, 2)
    return "\n".join(parts) + "\n"


def _section(schema: Any, part: Any, path: str, lines: list[str], level: int) -> None:
    """A table of the plain keys, then the sections below."""
    plain, below = [], []
    for name, entry in part.get("properties", {}).items():
        inner = _inner(schema, entry)
        (below if inner else plain).append((name, entry, inner))
    if plain:
        lines += ["| key | default | |", "|---|---|---|"]
        for name, entry, _ in plain:
            default = entry.get("default", "")
            shown = "" if default == "" else _code(str(default))
            lines.append(f"| `{path}{name}` | {shown} | {_cell(entry.get('description', ''))} |")
        lines.append("")
    for name, entry, inner in below:
        lines += [f"{'#' * min(level, 5)} {path}{name}\n", f"{entry.get('description', '')}\n"]
        _section(schema, inner, f"{path}{name}.", lines, level + 1)


def _inner(schema: Any, entry: Any) -> Any:
    """The section that an entry is, or a list of; None for plain values."""
    found = [entry, *entry.get("allOf", ()), *entry.get("anyOf", ()), entry.get("items", {})]
    for each in found:
        target = each.get("$ref", "").rpartition("/")[2]
        if target and "properties" in schema["$defs"][target]:
            return schema["$defs"][target]
    return None


def main() -> int:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in (("commands", commands()), ("options", options()), ("configuration", configuration())):
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
