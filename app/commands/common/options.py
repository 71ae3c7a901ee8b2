"""The one command line: what options are called, the unit each carries, and what every command has beside its own.

A number with a unit says so in its name (`--duration-s`, `--search-px`). What `-o` names is not replaced without
`--overwrite` (a training set never); reports beside it (`--csv`, `--plot`, ...) are. `-o -` is standard output, for
commands that write one file; text goes to standard error then.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from app.commands.common.examples import EXAMPLES
from app.commands.common.output import refuse_unwritable, speaking, system_errors, to_standard_output

if TYPE_CHECKING:
    from typer.models import CommandFunctionType

    from fusion_core.errors import LumithermError

__all__ = [
    "FORMER",
    "SHARED",
    "TO_STDOUT",
    "UNITS",
    "WITHOUT_UNIT",
    "WRITTEN",
    "AgcName",
    "Cli",
    "ConfigFile",
    "DurationS",
    "Overrides",
    "Overwrite",
    "Simulated",
    "ViewName",
]

UNITS = ("-s", "-ms", "-px", "-m", "-deg", "-fps", "-mb", "-c")
"""Endings of the names of numbers that have a unit: seconds, pixels, metres, degrees, frames/s, 10^6 bytes, Celsius."""

WITHOUT_UNIT = ("--speed", "--strength", "--generic-share", "--min-distance", "--confidence")
"""Numbers with a fraction that are ratios."""

TO_STDOUT: dict[str, str] = {
    "calibrate board": ".pdf",
    "calibrate points": ".yaml",
    "calibrate refine": ".yaml",
    "config init": "",
    "fuse": "",
    "models card": ".md",
    "models export": ".onnx",
    "recording export": "",
    "train registration": ".png",
}
"""Commands that write one file, by the words after `lumitherm`: they take `-o -`, and its ending says what comes.

Without an ending the command streams by itself; the file of the others is made first, and nothing comes of a failure.
Everywhere else `-` is refused.
"""

SHARED: dict[str, str] = {
    "--output": "what is written; never replaced without --overwrite",
    "--overwrite": "replace what is there, or do again what is done",
    "--config": "a rig's configuration file",
    "--set": "one setting of the configuration, KEY=VALUE",
    "--simulated": "the simulated rig in place of cameras",
    "--duration-s": "how long, seconds",
    "--start-s": "begin so far in, seconds",
    "--timeout-s": "give up after so long, seconds",
    "--calibration": "a rig's calibration file",
    "--engine": "what fuses",
    "--preset": "size of the network",
    "--weights": "a weights file",
    "--size": "WIDTHxHEIGHT of pictures",
    "--threads": "of a processor",
    "--seed": "of what is random",
    "--limit": "at most so many",
    "--board": "the calibration board",
    "--accept-colour": "take the brightness of coloured thermal pictures",
    "--distance-m": "working distance, metres",
    "--roll-deg": "turn of the thermal camera, degrees",
    "--search-px": "largest displacement looked for, pixels",
    "--json": "one JSON object on standard output",
    "--quiet": "only errors",
    "--verbose": "log lines, and tracebacks of errors",
}
"""Names that several commands share. Wherever one occurs it means this, and takes the same kind of value."""

WRITTEN = frozenset({"--output", "--csv", "--plot", "--report", "--html"})
"""Options that name what is written at the end; that it can be is found at the beginning."""

FORMER: dict[str, str] = {
    "--duration": "--duration-s",
    "--seconds": "--duration-s",
    "--start": "--start-s",
    "--search": "--search-px",
    "--distance": "--distance-m",
    "--roll": "--roll-deg",
    "--force": "--overwrite",
    "-f": "--overwrite",
    "--replace": "--overwrite",
    "--again": "--overwrite",
    "--export": "--output",
    "--json": "--report",
}
"""Names of before that still work where the command has no option of that name (`--json` where a file follows)."""

ViewName = Literal["fused", "visible", "thermal", "side-by-side", "quad"]
"""`app.view.views.FileView`, without what that imports."""
AgcName = Literal["linear", "percentile", "plateau", "clahe", "manual"]
"""`fusion_core.thermal.agc.AgcMode`, likewise."""
ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration of the rig.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. engine.threads=2. Repeatable."),
]
Simulated = Annotated[bool, typer.Option("--simulated", help="The simulated rig in place of cameras.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
DurationS = Annotated[float | None, typer.Option("--duration-s", min=0.1, metavar="S", help="Only so many seconds.")]


@cache
def _everywhere() -> tuple[Any, ...]:
    """The options that every command has."""

    def shared(
        as_json: Annotated[bool, typer.Option("--json", help="Say it as one JSON object, for programs.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Show log lines too, and where an error comes from.")
        ] = False,
    ) -> None: ...

    cli = typer.Typer(add_completion=False)
    cli.command()(shared)
    return tuple(typer.main.get_command(cli).params)


def _takes_path(option: Any) -> bool:
    return "Path" in str(option.type_descriptor.annotation)


def _is_dash(context: typer.Context, option: Any) -> bool:
    return _takes_path(option) and str(context.params.get(option.name)) == "-"


def _not_empty(option: Any, convert: Callable[[Any, Any], Any], context: typer.Context, value: Any) -> Any:
    """Convert what was given for a path. Raises UsageError for an empty one: it would be the working directory."""
    from fusion_core.errors import UsageError

    if "" in (value if isinstance(value, list | tuple) else [value]):
        is_option = option.param_type_name == "option"
        name = max(option.opts, key=len) if is_option else option.metavar or option.name.upper()
        raise UsageError(f"{name} is empty, wanted a path; is a variable of the shell not set?")
    return convert(context, value)


def _no_number(option: Any, value: float) -> LumithermError:
    from fusion_core.errors import UsageError

    return UsageError(f"{max(option.opts, key=len)} is {value}, wanted a finite number")


class _Everywhere:
    """Adds the options that every command has, its examples, and the names that options had before."""

    params: list[Any]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for option in filter(_takes_path, self.params):
            option.process_value = partial(_not_empty, option, option.process_value)
        self.params = [*self.params, *_everywhere()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take former names too."""
        with self._reading():
            return super().parse_args(ctx, self.former(args))  # type: ignore[misc,no-any-return]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        lines = EXAMPLES.get(ctx.command_path.split(" ", 1)[-1], ())
        if lines:
            with formatter.section("Examples"):
                formatter.write("".join(f"{'':{formatter.current_indent}}lumitherm {line}\n" for line in lines))

    def former(self, args: list[str]) -> list[str]:
        """The words with the names of now."""
        known = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        own = {name for parameter in self.params[: -len(_everywhere())] for name in parameter.opts}
        renamed: list[str] = []
        for number, word in enumerate(args):
            if word == "--":
                return renamed + args[number:]
            name, equals, value = word.partition("=")
            new = FORMER.get(name, "")
            file_follows = bool(equals) or (number + 1 < len(args) and not args[number + 1].startswith("-"))
            if new in own and (name not in known or (name == "--json" and file_follows)):
                word = new + equals + value
            renamed.append(word)
        return renamed

    @contextlib.contextmanager
    def _standard_output(self, context: typer.Context, path: str) -> Iterator[None]:
        """The one place where `-` means standard output; see `TO_STDOUT`. Raises UsageError where it cannot."""
        from fusion_core.errors import UsageError

        dashes = [each for each in self.params if each.param_type_name == "option" and _is_dash(context, each)]
        for option in dashes:
            name = max(option.opts, key=len)
            if name != "--output" or path not in TO_STDOUT:
                raise UsageError(
                    f"{name} is -, and standard output takes one file: give a path. `-o -` is for"
                    f" {', '.join(sorted(TO_STDOUT))}; --json gives every command's answer there"
                )
        if not dashes or not TO_STDOUT[path]:
            yield
            return
        with to_standard_output(TO_STDOUT[path]) as file:
            context.params[dashes[0].name] = file
            yield

    def _refuse_no_numbers(self, context: typer.Context) -> None:
        """Raise UsageError for nan and inf: `float` reads both, and a range of one end does not refuse them."""
        for option in self.params:
            value = context.params.get(option.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise _no_number(option, value)

    def _refuse_unwritable(self, context: typer.Context) -> None:
        """Raise RunError for a result that could not be written when it is there."""
        for option in self.params:
            value = context.params.get(option.name)
            if isinstance(value, Path) and str(value) != "-" and WRITTEN.intersection(option.opts):
                refuse_unwritable(value)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise UsageError where a range refused nan or inf: its words name one of its ends."""
        try:
            yield
        except typer.BadParameter as error:
            option: Any = error.param
            faults: Any = getattr(error.__cause__, "errors", list)()
            with contextlib.suppress(TypeError, ValueError):
                value = float(faults[0]["input"] if faults else 0)
                if not math.isfinite(value) and "float" in str(option.type_descriptor.annotation):
                    raise _no_number(option, value) from error
            raise

    def speak(self, context: typer.Context, run: Callable[[typer.Context], Any]) -> Any:
        """Run it with what -q, -v and --json say, and end the JSON object."""
        from fusion_core.errors import LumithermError

        asked = {name: context.params.pop(name) for name in ("as_json", "quiet", "verbose")}
        path = context.command_path.split(" ", 1)[-1]
        path = f"recording {path}" if path in ("play", "recover") else path  # former names
        with speaking(**asked, command=path) as said:
            try:
                self._refuse_no_numbers(context)
                with system_errors():
                    self._refuse_unwritable(context)
                    with self._standard_output(context, path):
                        code = run(context)
            except LumithermError as error:
                said.end(error.exit_code, str(error))
                if said.verbose:
                    traceback.print_exc()
                raise
            except typer.Exit as ended:
                said.end(ended.exit_code)
                raise
            said.end(code if isinstance(code, int) else 0)
            return code


class Command(_Everywhere, TyperCommand):
    """A command with --json, -q, -v and examples."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; say the end as JSON."""
        return self.speak(ctx, super().invoke)


class CommandGroup(_Everywhere, TyperGroup):
    """A group whose bare name is a command as well."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; say the end as JSON. A command of the group speaks for itself."""
        if not ctx._protected_args:
            return self.speak(ctx, super().invoke)
        for name in ("as_json", "quiet", "verbose"):
            ctx.params.pop(name)
        return super().invoke(ctx)


class Cli(typer.Typer):
    """Commands that all have --json, -q and -v."""

    def __init__(self, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "no_args_is_help": True,
            "rich_markup_mode": None,  # plain text: it costs a third of the time, and brackets stay what they are
            "context_settings": {"help_option_names": ["-h", "--help"]},
        }
        super().__init__(**(defaults | settings))

    def command(self, name: str | None = None, **settings: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Register a command."""
        settings.setdefault("cls", Command)
        return super().command(name, **settings)
