"""`lumitherm ctl ...`: ask a running rig through its local socket."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.common.options import Cli
from app.commands.common.output import output, say

__all__ = ["register"]

_FOLLOW_S = 0.5

_Socket = Annotated[Path | None, typer.Option("--socket", help="Socket of the rig; default: found by --rig.")]
_Rig = Annotated[str | None, typer.Option("--rig", help="Name of the rig; needed where several run.")]
_Label = Annotated[str, typer.Option("--label", help="Name of the recording or event.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    ctl = Cli(help="Control a rig that runs as a service on this computer.")
    ctl.command("status")(_status)
    ctl.command("start")(_start)
    ctl.command("stop")(_stop)
    ctl.command("event")(_event)
    ctl.command("snapshot")(_snapshot)
    ctl.command("engine")(_engine)
    ctl.command("recordings")(_recordings)
    ctl.command("protect")(_protect)
    ctl.command("log")(_log)
    ctl.command("reload")(_reload)
    cli.add_typer(ctl, name="ctl")


def _find(socket: Path | None, rig: str | None) -> Path:
    """The socket meant: the one named, that of the rig, or the only one there is."""
    from app.service.web.control import default_socket
    from fusion_core.errors import UsageError

    if socket is not None:
        return socket
    if rig is not None:
        return default_socket(rig)
    folders = [default_socket("x").parent, Path("/run/lumitherm")]
    found = sorted({path for folder in folders for path in _sockets(folder)})
    if len(found) > 1:
        raise UsageError(f"several rigs run: {', '.join(path.stem for path in found)}; name one with --rig")
    return found[0] if found else default_socket("lumitherm")


def _sockets(folder: Path) -> list[Path]:
    """The rigs' sockets in a folder. Raises RunError when this user may not look into it."""
    from fusion_core.errors import RunError

    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(".sock")]
    except PermissionError:
        raise RunError(
            f"a rig may run here, but only its own account and root may speak with it ({folder} is closed to you);"
            " use sudo, or name another socket with --socket"
        ) from None
    except OSError:
        return []


def _ask(socket: Path | None, rig: str | None, command: str, **arguments: Any) -> dict[str, Any]:
    from app.service.web.control import ask

    return ask(_find(socket, rig), command, arguments)


def _print(answer: dict[str, Any], text: str) -> None:
    output().document = answer
    say(text)


def _status(socket: _Socket = None, rig: _Rig = None) -> None:
    """Show what the rig does. Exit code 1 when it is not ready."""
    answer = _ask(socket, rig, "status")
    stats = answer["stats"]
    lines = [
        f"{answer['rig']}: {answer['state'].replace('_', ' ')}{' (safe mode)' if answer['safe_mode'] else ''}",
        f"engine {stats['engine']}" + (f", {stats['fallback_reason']}" if stats["fallback_reason"] else ""),
        "frames/s " + ", ".join(f"{name} {value:.1f}" for name, value in stats["fps"].items()),
        f"recording {stats['recording']}" + (f" {stats['recording_file']}" if stats["recording_file"] else ""),
        f"lost {sum(stats['drops'].values())}",
        *(f"stuck: {text}" for text in answer["stuck"]),
        *(f"warning: {text}" for text in stats["warnings"]),
    ]
    _print(answer, "\n".join(lines))
    if not answer["ready"]:
        raise typer.Exit(1)


def _start(label: _Label = "", socket: _Socket = None, rig: _Rig = None) -> None:
    """Begin a recording."""
    _print(_ask(socket, rig, "start", label=label), "recording")


def _stop(socket: _Socket = None, rig: _Rig = None) -> None:
    """End the recording, check it, and name its files."""
    answer = _ask(socket, rig, "stop")
    lines = [*answer["files"], *(f"problem: {problem}" for problem in answer["problems"])]
    _print(answer, "\n".join(lines) or "there was no recording")


def _event(label: _Label = "", socket: _Socket = None, rig: _Rig = None) -> None:
    """Mark this moment; begins a recording with the seconds before."""
    _print(_ask(socket, rig, "trigger", label=label), "marked")


def _snapshot(socket: _Socket = None, rig: _Rig = None) -> None:
    """Save the newest picture with both sources."""
    answer = _ask(socket, rig, "snapshot")
    _print(answer, answer["snapshot"])


def _engine(
    name: Annotated[str, typer.Argument(help="auto, openvino, torch, tensorrt, pyramid, average, edges, ...")],
    preset: Annotated[str, typer.Option("--preset", help="tiny, small or base.")] = "tiny",
    socket: _Socket = None,
    rig: _Rig = None,
) -> None:
    """Build another engine and swap it in between two pictures."""
    _print(_ask(socket, rig, "engine", name=name, preset=preset), f"building {name}")


def _recordings(socket: _Socket = None, rig: _Rig = None) -> None:
    """List recordings, newest first."""
    answer = _ask(socket, rig, "recordings")
    lines = [
        f"{entry['name']}  {entry['bytes'] / 1e6:.1f} MB"
        + ("  being written" if entry["being_written"] else "")
        + ("  kept" if entry["kept"] else "")
        for entry in answer["recordings"]
    ]
    _print(answer, "\n".join(lines) or "none")


def _protect(
    name: Annotated[str, typer.Argument(help="File name of the recording.")],
    socket: _Socket = None,
    rig: _Rig = None,
) -> None:
    """Keep a recording from being deleted."""
    answer = _ask(socket, rig, "protect", name=name)
    _print(answer, f"kept {answer['kept']}")


def _log(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new lines until Ctrl-C.")] = False,
    socket: _Socket = None,
    rig: _Rig = None,
) -> None:
    """Show the newest log lines."""
    since = 0
    while True:
        answer = _ask(socket, rig, "log", since=since)
        lines = answer["lines"]
        if lines or not follow:
            _print(answer, "\n".join(f"{line['when']} {line['level']} {line['text']}" for line in lines))
        if not follow:
            return
        since = max([since, *(line["number"] for line in lines)])
        time.sleep(_FOLLOW_S)


def _reload(socket: _Socket = None, rig: _Rig = None) -> None:
    """Read the configuration again; a bad file changes nothing."""
    answer = _ask(socket, rig, "reload")
    lines = [f"changed: {', '.join(answer['changed']) or 'nothing'}"]
    if answer["needs_restart"]:
        lines.append(f"needs a restart: {', '.join(answer['needs_restart'])}")
    _print(answer, "\n".join(lines))
