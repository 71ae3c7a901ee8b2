"""`lumitherm config init|check|show|schema`: a file to begin with, whether one can be used, and what it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common.options import Cli, Overrides, Overwrite, Simulated
from app.commands.common.output import claim, output, say, tell

if TYPE_CHECKING:
    from fusion_core.yaml_config import ConfigTree, KeyPath

__all__ = ["register"]

ConfigArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Configuration, e.g. rig.yaml.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = Cli(name="config", help="Make, check, show and explain configuration files.")
    group.command("init")(_init)
    group.command("check")(_check)
    group.command("show")(_show)
    group.command("schema")(_schema)
    cli.add_typer(group)


def _init(
    simulated: Simulated = False,
    usb: Annotated[bool, typer.Option("--usb", help="Two USB cameras.")] = False,
    rtsp: Annotated[bool, typer.Option("--rtsp", help="A network camera of two channels.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="A recording in place of cameras.")] = False,
    train: Annotated[bool, typer.Option("--train", help="A training run, for `lumitherm train`.")] = False,
    file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write; - for standard output.")
    ] = Path("rig.yaml"),
    overwrite: Overwrite = False,
) -> None:
    """Write a configuration to begin with: every key with its unit and reason. Without a kind: the simulated rig."""
    from app.configuration.examples import example
    from fusion_core.errors import RunError, UsageError
    from fusion_core.files import replacing

    kinds = {"usb_pair": usb, "rtsp_pair": rtsp, "replay": replay, "train": train, "simulated": simulated}
    chosen = [name for name, wanted in kinds.items() if wanted] or ["simulated"]
    if len(chosen) > 1:
        raise UsageError("give one of --simulated, --usb, --rtsp, --replay and --train")
    claim(file, overwrite)
    text = example(chosen[0]).read_text(encoding="utf-8")
    if str(file) == "-":
        output().results_elsewhere = True
        typer.echo(text, nl=False)
        return
    try:
        with replacing(file) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{file} cannot be written ({error.strerror or error}); name a file in a folder of yours"
        ) from error
    tell(output=str(file))
    say(f"wrote {file}; `lumitherm config check {file}` says whether it can be used")


def _check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Configuration files.")],
    overrides: Overrides = None,
) -> None:
    """Say whether configuration files can be used; otherwise name every fault by file, line and key (exit code 2)."""
    from app.configuration.config import load_config
    from fusion_core.errors import ConfigError

    sound, faults = list[str](), dict[str, str]()
    for file in files:
        try:
            config = load_config(file, overrides or (), os.environ)
        except ConfigError as error:
            faults[str(file)] = str(error)
            typer.echo(str(error), err=True)
        else:
            sound.append(str(file))
            say(f"{file}: sound; rig {config.rig!r}, {config.visible.shown_uri} + {config.thermal.shown_uri}")
    tell(sound=sound, faults=faults)
    if faults:
        raise typer.Exit(2)


def _show(
    file: ConfigArgument,
    effective: Annotated[bool, typer.Option("--effective", help="Every setting, defaults included.")] = False,
    overrides: Overrides = None,
) -> None:
    """Print the settings as YAML, each with the place it comes from. Passwords in addresses are hidden."""
    from app.configuration.config import AppConfig
    from fusion_core.redaction import redacted
    from fusion_core.yaml_config import load_tree, validate_tree

    tree = load_tree(file, overrides or (), os.environ)
    config = validate_tree(AppConfig, tree)
    values = config.model_dump(mode="json", exclude_unset=not effective)
    output().document = redacted(values)
    for line in _lines(values, (), tree):
        say(line)


def _schema() -> None:
    """Print the JSON schema of the configuration: every key with its type, limits and meaning."""
    from app.configuration.config import AppConfig

    output().document = AppConfig.model_json_schema()
    say(json.dumps(output().document, indent=2))


def _lines(values: dict[str, Any], prefix: KeyPath, tree: ConfigTree) -> list[str]:
    """YAML lines of one section, each value with its origin as a comment."""
    from fusion_core.redaction import redacted

    lines: list[str] = []
    for key, value in values.items():
        path = (*prefix, key)
        indent = "  " * len(prefix)
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{_word(key)}:")
            lines += _lines(value, path, tree)
            continue
        text = json.dumps(redacted(value), ensure_ascii=False)  # JSON is YAML
        lines.append(f"{indent}{_word(key)}: {text}  # {tree.origins.get(path, 'default')}")
    return lines


def _word(key: str) -> str:
    return key if key.isidentifier() else json.dumps(key, ensure_ascii=False)
