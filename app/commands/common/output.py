"""What every command says and how: text, nothing (`-q`), more (`-v`), or one JSON object (`--json`)."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from app.commands.common.answers import ANSWERS

if TYPE_CHECKING:
    from rich.console import Console

    from app.configuration.config import LoggingConfig

__all__ = [
    "Output",
    "claim",
    "output",
    "progress_console",
    "refuse_unwritable",
    "result_console",
    "say",
    "stop_on_signals",
    "system_errors",
    "tell",
    "to_standard_output",
]


@dataclass
class Output:
    """What one call of a command has to say. Results go to standard output; progress, warnings, errors to the other.

    Attributes:
        results_elsewhere: `-o -`: standard output carries the result itself, so text goes to standard error.
        stand_in: path of the file that becomes standard output, which no text is to name.
        facts: of the JSON object, beside `lines` and `exit_code`.
        document: takes the place of the whole object, for commands whose answer is one already.
    """

    command: str = ""
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    results_elsewhere: bool = False
    stand_in: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def level(self) -> str:
        """Of log lines that this call shows."""
        return "error" if self.quiet else "debug" if self.verbose else "warning"

    def logging(self, config: LoggingConfig) -> LoggingConfig:
        """The logging of a configuration, with what `-q` and `-v` change of it."""
        if not (self.quiet or self.verbose):
            return config
        return config.model_copy(update={"level": type(config.level)(self.level)})

    def end(self, exit_code: int, error: str = "") -> None:
        """Print the JSON object, if it was asked for. Call it once."""
        if not self.as_json:
            return
        document = self.document
        if document is None or error:
            document = {"command": self.command, "exit_code": exit_code, **self.facts}
            if error:
                document["error"] = error
            if self.lines:
                document["lines"] = self.lines
        text = json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)
        typer.echo(self.named(text), err=self.results_elsewhere)

    def named(self, text: str) -> str:
        """The text as users are to read it."""
        return text.replace(self.stand_in, "standard output") if self.stand_in else text


def _plain(value: Any) -> Any:
    """The same in what JSON has: null for what is no number, text for what is nothing else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # numpy
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


_current: ContextVar[Output] = ContextVar("lumitherm_output", default=Output())  # noqa: B039


def output() -> Output:
    """That of the command which runs; outside of one, plain text."""
    return _current.get()


@contextlib.contextmanager
def speaking(as_json: bool, quiet: bool, verbose: bool, command: str) -> Iterator[Output]:
    """Make `output()` this one, and show log lines of its level on standard error, until a command sets up its own."""
    import structlog

    made = Output(command, as_json, quiet, verbose)
    token = _current.set(made)
    before = structlog.get_config()
    number = {"debug": 10, "warning": 30, "error": 40}[made.level]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    ours = structlog.get_config()["logger_factory"]
    try:
        yield made
    finally:
        _current.reset(token)
        if structlog.get_config()["logger_factory"] is ours:
            structlog.configure(**before)


def tell(**facts: Any) -> None:
    """Fields of the JSON object; each is one of `ANSWERS`."""
    now = output()
    unknown = set(facts) - set(ANSWERS.get(now.command, ()))
    assert not (unknown and now.command), f"{now.command} tells {sorted(unknown)}, which ANSWERS does not explain"
    now.facts |= facts


def say(text: str = "", *, nl: bool = True) -> None:
    """A result, or what was done: a line on standard output."""
    now = output()
    text = now.named(text)
    if now.as_json:
        now.lines += text.splitlines()
    elif not now.quiet:
        typer.echo(text, nl=nl, err=now.results_elsewhere)


def result_console() -> Console:
    """For results as tables; says nothing with `--json` and `-q`."""
    from rich.console import Console

    now = output()
    return Console(stderr=now.results_elsewhere, quiet=now.as_json or now.quiet)


def progress_console() -> Console:
    """For progress, on standard error; says nothing with `-q`."""
    from rich.console import Console

    return Console(file=sys.stderr, quiet=output().quiet)


@contextlib.contextmanager
def to_standard_output(suffix: str) -> Iterator[Path]:
    """Give a path to write one file to; at the end it becomes standard output. After an error nothing does."""
    from tempfile import TemporaryDirectory

    now = output()
    now.results_elsewhere = True
    with TemporaryDirectory(prefix="lumitherm-") as folder:
        file = Path(folder) / f"output{suffix}"
        now.stand_in = str(file)
        yield file
        with file.open("rb") as made:
            shutil.copyfileobj(made, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def claim(path: Path, overwrite: bool) -> None:
    """The one rule for what `-o` names: a file, or a folder that holds something, stays unless `--overwrite` is given.

    Raises:
        UsageError: it is there.
    """
    from fusion_core.errors import UsageError

    if overwrite or str(path) == "-":
        return
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"the folder {path} holds files already. Give another, or --overwrite to replace them.")
    if path.is_file():
        raise UsageError(f"{path} already exists. Give another name, or --overwrite to replace it.")


def refuse_unwritable(path: Path) -> None:
    """Raise RunError where nothing can be written under this name: found before the work, not after it."""
    from fusion_core.errors import RunError

    try:
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no name of a file: the command says so
            return
        raise
    if there != path and not there.is_dir():
        raise RunError(f"{path} cannot be written: {there} is a file, wanted a folder; give another place")
    folder = there if there.is_dir() else path.absolute().parent
    if not (os.access(folder, os.W_OK | os.X_OK) or (there == path != folder and os.access(path, os.W_OK))):
        raise RunError(f"{path} cannot be written: {folder} is not yours to write in; give another place")


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Raise RunError for what the system refuses and no command has words of its own for: a file, a disk, a port."""
    from fusion_core.errors import LumithermError, RunError

    try:
        yield
    except OSError as error:
        if isinstance(error, LumithermError | BrokenPipeError):
            raise
        reason = error.strerror or str(error)
        where = f"{error.filename}: {reason}" if error.filename else reason
        raise RunError(f"{where}; check that it is there and yours, and the disk's room (-v tells more)") from error


@contextlib.contextmanager
def stop_on_signals() -> Iterator[tuple[threading.Event, list[int]]]:
    """Turn the first Ctrl-C, SIGTERM or hang-up into a request to stop in order; a second Ctrl-C or SIGTERM interrupts.

    A hang-up (SIGHUP) is a closed terminal or a lost connection: it often comes twice, from the kernel and from the
    shell, and `nohup` has it ignored. Outside the main thread, where Python allows no handlers, the event is never set
    by a signal.
    """
    stop, received = threading.Event(), list[int]()
    if threading.current_thread() is not threading.main_thread():
        yield stop, received
        return
    hang_up = getattr(signal, "SIGHUP", None)
    wanted: list[int] = [signal.SIGINT, signal.SIGTERM]
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        wanted.append(hang_up)

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if stop.is_set() and number != hang_up:
            # Not before: Python tells of a signal that came while its handler was taken away with a traceback.
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        stop.set()

    previous = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield stop, received
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
