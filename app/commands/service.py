"""`lumitherm service ...`: the systemd unit, and the secrets of the status page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.commands.common.options import Cli, ConfigFile
from app.commands.common.output import say, tell

__all__ = ["register"]

_UNIT = "lumitherm.service"
_User = Annotated[bool, typer.Option("--user", help="For this user's systemd instead of the computer's.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    service = Cli(help="Run a rig unattended, by systemd.")
    service.command("install")(_install)
    service.command("status")(_status)
    service.command("uninstall")(_uninstall)
    service.command("password")(_password)
    service.command("token")(_token)
    cli.add_typer(service, name="service")


def _folder(user: bool) -> Path:
    if not user:
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "systemd" / "user"


def _install(
    config: ConfigFile,
    user: _User = False,
    account: Annotated[str, typer.Option("--account", help="Unprivileged account that it runs as.")] = "lumitherm",
    memory: Annotated[str, typer.Option("--memory", help="Most memory, as systemd writes it.")] = "4G",
    credential: Annotated[
        list[str] | None, typer.Option("--credential", metavar="NAME=FILE", help="Secret for credential:NAME.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where units are; default: systemd's folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the unit and change nothing.")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Enable and start it.")] = True,
) -> None:
    """Write the unit, then enable and start it. The configuration is checked first."""
    from app.configuration.config import load_config
    from app.service.systemd import UnitSettings, unit_text
    from fusion_core.errors import RunError, UsageError

    settings = load_config(config, (), os.environ)
    groups = _device_groups()
    if start and not user and folder is None and not dry_run:
        _check_account(account, groups)
    credentials = []
    for entry in credential or ():
        name, equals, file = entry.partition("=")
        if not equals or not name or not Path(file).is_file():
            raise UsageError(f"--credential {name}: wanted NAME=FILE with a file that is there")
        credentials.append((name, Path(file).resolve()))
    directory = settings.recording.directory
    text = unit_text(
        UnitSettings(
            settings.rig,
            config.resolve(),
            account,
            Path(sys.executable),
            (directory.resolve(),) if directory.is_absolute() else (),
            tuple(credentials),
            memory,
            user,
            groups,
        )
    )
    if dry_run:
        tell(unit=text)
        say(text)
        return
    target = (folder if folder is not None else _folder(user)) / _UNIT
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{target} cannot be written ({error.strerror or error}); do it as root, or choose --user"
        ) from error
    tell(unit=str(target))
    say(f"wrote {target}")
    if start and not user and folder is None and directory.is_absolute():
        _make_recordings(directory, account)
    if start and folder is None:
        _systemctl(user, "daemon-reload")
        _systemctl(user, "enable", "--now", _UNIT)
        who = " --user" if user else ""
        say(f"started; `lumitherm service status{who}` and `journalctl{who} -u lumitherm` tell how it is")


def _status(user: _User = False) -> None:
    """Show what systemd says. Exit code 1 when it does not run."""
    done = subprocess.run(
        _command(user, "status", "--no-pager", _UNIT), check=False, stdout=subprocess.PIPE, text=True, errors="replace"
    )
    tell(running=done.returncode == 0)
    say(done.stdout.rstrip())
    if done.returncode != 0:
        raise typer.Exit(1)


def _uninstall(
    user: _User = False,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where units are; default: systemd's folder.")] = None,
) -> None:
    """Stop it and remove the unit; recordings and configuration stay."""
    from fusion_core.errors import RunError

    target = (folder if folder is not None else _folder(user)) / _UNIT
    tell(unit=str(target), removed=target.exists())
    if not target.exists():
        say(f"{target} is not there")
        return
    if folder is None:
        _systemctl(user, "disable", "--now", _UNIT)
    try:
        target.unlink()
    except OSError as error:
        raise RunError(f"{target} cannot be removed ({error.strerror or error}); do it as root") from error
    if folder is None:
        _systemctl(user, "daemon-reload")
    say(f"removed {target}")


def _password(
    file: Annotated[Path, typer.Argument(help="File for the hash: service.web.password_file.")],
) -> None:
    """Ask for a password and write its argon2 hash."""
    from app.service.web.auth import hash_password

    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    _write_secret(file, hash_password(password))


def _token(file: Annotated[Path, typer.Argument(help="File for the token: service.web.token_file.")]) -> None:
    """Write a new random token."""
    from app.service.web.auth import new_token

    _write_secret(file, new_token())


def _device_groups() -> tuple[str, ...]:
    """The groups that own cameras and GPUs, of those that exist here."""
    import grp

    known = {entry.gr_name for entry in grp.getgrall()}
    return tuple(name for name in ("video", "render") if name in known)


def _check_account(account: str, groups: tuple[str, ...]) -> None:
    """Raises RunError when systemd could not start the service as this account."""
    import pwd

    from fusion_core.errors import RunError

    try:
        pwd.getpwnam(account)
    except KeyError:
        more = f" --groups {','.join(groups)}" if groups else ""
        raise RunError(
            f"there is no account {account} to run as; make it with `useradd --system{more} {account}`, or choose"
            " another with --account"
        ) from None


def _make_recordings(directory: Path, account: str) -> None:
    """Make the folder for this account, if it is missing; say so if it is somebody else's. Raises RunError."""
    import pwd

    from fusion_core.errors import RunError

    owner = pwd.getpwnam(account)
    try:
        if directory.exists():
            if directory.stat().st_uid != owner.pw_uid:
                say(f"{directory} does not belong to {account}, who has to write there: chown {account} it")
            return
        directory.mkdir(parents=True, mode=0o750)
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    except OSError as error:
        raise RunError(
            f"recording.directory: {directory} cannot be made for {account} ({error.strerror or error})"
        ) from error
    say(f"made {directory} for {account}")


def _write_secret(file: Path, secret: str) -> None:
    from fusion_core.errors import RunError
    from fusion_core.files import replacing

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
                stream.write(secret + "\n")
    except OSError as error:
        raise RunError(f"{file} cannot be written ({error.strerror or error}); choose a folder of yours") from error
    tell(output=str(file))
    say(f"wrote {file}, readable by you alone")


def _command(user: bool, *words: str) -> list[str]:
    return ["systemctl", *(["--user"] if user else []), *words]


def _systemctl(user: bool, *words: str) -> None:
    from fusion_core.errors import RunError

    command = _command(user, *words)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"`{' '.join(command)}` failed: {error}; is systemd here?") from error
    if done.returncode != 0:
        raise RunError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
