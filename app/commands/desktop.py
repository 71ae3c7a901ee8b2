"""`lumitherm desktop install|uninstall`: the menu entry with its icon, and the manual pages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer

from app.commands.common.options import Cli
from app.commands.common.output import say, tell

__all__ = ["man_pages", "register"]

_ENTRY = """[Desktop Entry]
Type=Application
Name=Lumitherm
GenericName=Visible and thermal camera
Comment=One live picture from a visible and a thermal camera
Exec={program} gui %F
Icon=lumitherm
Terminal=false
Categories=AudioVideo;Video;Graphics;
MimeType=video/x-matroska;
Keywords=thermal;infrared;fusion;camera;
StartupWMClass=lumitherm
"""


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = Cli(help="Put Lumitherm into the desktop's menu, and its manual pages where `man` finds them.")
    group.command("install")(_install)
    group.command("uninstall")(_uninstall)
    cli.add_typer(group, name="desktop")


def _share() -> Path:
    home = os.environ.get("XDG_DATA_HOME")
    return Path(home) if home else Path.home() / ".local" / "share"


def _install(context: typer.Context) -> None:
    """Write menu entry, icon and manual pages for this user. They start this very installation."""
    from fusion_core.errors import RunError

    files = _files(context)
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{error.filename} cannot be written ({error.strerror}); is the home folder yours?") from error
    tell(files=[str(path) for path in files])
    entry, *_, last = files
    say(f"wrote {entry}, its icon, and {sum('man1' in path.parts for path in files)} manual pages in {last.parent}")


def _uninstall(context: typer.Context) -> None:
    """Remove what `desktop install` wrote."""
    gone = [path for path in _files(context) if path.is_file()]
    for path in gone:
        path.unlink()
    tell(files=[str(path) for path in gone])
    say(f"removed {len(gone)} files")


def _files(context: typer.Context) -> dict[Path, str]:
    """What belongs into the user's data folder, by path."""
    share = _share()
    icon = Path(__file__).resolve().parents[1] / "gui" / "icons" / "lumitherm.svg"
    program = f'"{sys.executable}" -P -m app'
    files = {
        share / "applications" / "lumitherm.desktop": _ENTRY.format(program=program),
        share / "icons" / "hicolor" / "scalable" / "apps" / "lumitherm.svg": icon.read_text(encoding="utf-8"),
    }
    return files | {
        share / "man" / "man1" / f"{name}.1": text for name, text in man_pages(context.find_root().command).items()
    }


def man_pages(root: Any) -> dict[str, str]:
    """Manual pages in man(7) macros by name, made from the root of the command line: one for each command."""
    pages: dict[str, str] = {}
    lines = {name: each.help for name, each in root.commands.items() if not each.hidden}
    for name in lines:
        _add(pages, root.load(name), f"lumitherm {name}")
    pages["lumitherm"] = _page("lumitherm", root, lines)
    return pages


def _add(pages: dict[str, str], command: Any, path: str) -> None:
    """The page of a command, and those of its own."""
    below = {name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden}
    for name, each in below.items():
        _add(pages, each, f"{path} {name}")
    lines = {name: (each.help or "").split("\n")[0] for name, each in below.items()}
    pages[path.replace(" ", "-")] = _page(path, command, lines)


def _page(path: str, command: Any, commands: dict[str, str]) -> str:
    from importlib.metadata import version

    from app.commands.common.examples import EXAMPLES

    with command.make_context(path, [], resilient_parsing=True) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        rows = {kind: _rows(command, context, kind) for kind in ("argument", "option")}
    first, _, more = (command.help or "").partition("\n")
    name = path.replace(" ", "-")
    lines = [f'.TH {_roff(name.upper())} 1 "" "Lumitherm {version("lumitherm")}"', ".SH NAME"]
    lines += [f"{_roff(name)} \\- {_roff(first.rstrip('.'))}", ".SH SYNOPSIS", f".B {_roff(path)}", _roff(usage)]
    lines += [".SH DESCRIPTION", _roff(first)]
    for paragraph in filter(str.strip, more.split("\n\n")):
        lines += [".PP", _roff(paragraph)]
    titled = {"COMMANDS": list(commands.items()), "ARGUMENTS": rows["argument"], "OPTIONS": rows["option"]}
    for title, entries in titled.items():
        lines += [f".SH {title}"] if entries else []
        for head, text in entries:
            lines += [".TP", f".B {_roff(head)}", _roff(text)]
    examples = EXAMPLES.get(path.removeprefix("lumitherm "), ())
    lines += [".SH EXAMPLES", ".nf", *(_roff(f"lumitherm {each}") for each in examples), ".fi"] if examples else []
    lines += [".SH EXIT STATUS", "0: done. 1: failed at run time. 2: bad usage, configuration or input."]
    return "\n".join(lines) + "\n"


def _rows(command: Any, context: Any, kind: str) -> list[tuple[str, str]]:
    """Names and help of its arguments or options, as the help prints them."""
    records = [each.get_help_record(context) for each in command.get_params(context) if each.param_type_name == kind]
    return [(head, text) for head, text in filter(None, records)]


def _roff(text: str) -> str:
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
