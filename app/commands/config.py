"""`lumitherm config check|show|schema`: what a configuration file says, and whether it can be used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fusion_core.yaml_config import ConfigTree, KeyPath

__all__ = ["register"]

ConfigArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Configuration, e.g. configs/simulated.yaml.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. --set engine.threads=2. Repeatable."),
]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(name="config", help="Check, show and explain configuration files.", no_args_is_help=True)
    group.command("check")(_check)
    group.command("show")(_show)
    group.command("schema")(_schema)
    cli.add_typer(group)


def _check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Configuration files.")],
    overrides: SetOption = None,
) -> None:
    """Say whether configuration files can be used; otherwise name every fault by file, line and key (exit code 2)."""
    from app.configuration.config import load_config
    from fusion_core.errors import ConfigError

    failed = False
    for file in files:
        try:
            config = load_config(file, overrides or (), os.environ)
        except ConfigError as error:
            failed = True
            typer.echo(str(error), err=True)
        else:
            typer.echo(f"{file}: sound; rig {config.rig!r}, {config.visible.shown_uri} + {config.thermal.shown_uri}")
    if failed:
        raise typer.Exit(2)


def _show(
    file: ConfigArgument,
    effective: Annotated[bool, typer.Option("--effective", help="Every setting, defaults included.")] = False,
    overrides: SetOption = None,
) -> None:
    """Print the settings as YAML, each with the place it comes from. Passwords in addresses are hidden."""
    from app.configuration.config import AppConfig
    from fusion_core.yaml_config import load_tree, validate_tree

    tree = load_tree(file, overrides or (), os.environ)
    config = validate_tree(AppConfig, tree)
    values = config.model_dump(mode="json", exclude_unset=not effective)
    for line in _lines(values, (), tree):
        typer.echo(line)


def _schema() -> None:
    """Print the JSON schema of the configuration: every key with its type, limits and meaning."""
    from app.configuration.config import AppConfig

    typer.echo(json.dumps(AppConfig.model_json_schema(), indent=2))


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
