"""The manual and the README: links lead somewhere, and what they tell people to type or to write is understood."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.__main__ import COMMANDS, build_cli
from app.configuration.config import AppConfig, load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "reference" / "python.md"]
EVIDENCE = sorted((ROOT / "docs" / "evidence").glob("*.md"))
SECTIONS = set(AppConfig.model_fields)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of fenced blocks, those within lists too; ("", ...) for indented ones."""
    for _, language, content in re.findall(r"(?m)^( *)```(\w*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield language, content
    plain = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    for content in re.findall(r"(?m)(?:^    .*\n)+", plain):
        yield "", content


def commands(path: Path) -> Iterator[str]:
    for language, content in blocks(path.read_text()):
        if language in ("", "sh"):
            for line in re.sub(r"\\\n\s*", " ", content).splitlines():
                line = re.sub(r"^\s*(\$ )?(\.venv/bin/)?", "", line)
                if line.startswith("lumitherm ") and " | " not in line and "NAME |" not in line:
                    yield line


@pytest.mark.parametrize("path", [*PAGES, *EVIDENCE], ids=lambda path: path.stem)
def test_every_command_is_understood(path: Path) -> None:
    root: Any = typer.main.get_command(build_cli())
    for line in commands(path):
        words = shlex.split(re.split(r"\s+[#>]\s", line)[0])[1:]
        words = [word for word in words if word not in ("...", "&", "…")]
        if words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, line
        command, words = root.load(words[0]), words[1:]
        while getattr(command, "commands", None) and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        with command.make_context("x", [], resilient_parsing=True) as context:
            context.resilient_parsing = False
            known = command.former(words) if hasattr(command, "former") else words
            try:
                command.make_parser(context).parse_args(known)
            except Exception as error:
                pytest.fail(f"{path.name}: {line}\n{error}")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_configurations_are_valid_and_python_can_be_imported(path: Path, tmp_path: Path) -> None:
    for language, content in blocks(path.read_text()):
        if language == "python":
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, each.name) for each in node.names), content
        elif language == "yaml" or (language == "" and re.match(r"\s*(service|recording|engine|detect):", content)):
            text = textwrap.dedent(content)
            named = set(re.findall(r"(?m)^(\w+):", text))
            assert named <= SECTIONS, f"{path.name}: {sorted(named - SECTIONS)}"
            rig = {"rig": "x", "visible": "{uri: 'sim:visible'}", "thermal": "{uri: 'sim:thermal'}"}
            file = tmp_path / "rig.yaml"
            file.write_text("".join(f"{key}: {value}\n" for key, value in rig.items() if key not in named) + text)
            load_config(file)


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_links_of_pages_outside_the_site_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), f"{path.name} links to {target}"
    for target in re.findall(r"docs/[\w/-]+\.md", text):
        assert (ROOT / target).exists(), f"{path.name} names {target}"


def test_every_key_of_a_configuration_is_explained() -> None:
    """In the reference, and in what `lumitherm config schema` tells an editor."""
    schema = AppConfig.model_json_schema()
    sections = {"": schema, **schema["$defs"]}
    bare = [
        f"{section}.{key}"
        for section, part in sections.items()
        for key, entry in part.get("properties", {}).items()
        if len(entry.get("description", "")) < 8
    ]
    assert not bare, bare


def test_the_readme_is_short_and_its_animation_small() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
    assert (ROOT / "docs" / "images" / "window.webp").stat().st_size < 1.5e6


def test_troubleshooting_quotes_what_the_program_says() -> None:
    """The first column of its tables, where it is code: every part of it stands in the source."""
    source = "".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text()) for folder in ("app", "fusion_core", "calibration")
        for path in (ROOT / folder).rglob("*.py")
    )  # fmt: skip
    table = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = [part for row in re.findall(r"(?m)^\| (`.*?) \|", table) for part in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) >= 15
    for text in quoted:
        for part in filter(None, (each.strip() for each in text.split("…"))):
            assert part in source, f"nothing says {part!r} any more"


def test_compose_names_files_that_are_there() -> None:
    deploy = ROOT / "deploy"
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./rig.yaml":
                assert (deploy / source).is_file(), source
    assert (deploy / services["lumitherm"]["build"]["context"] / "deploy" / "Dockerfile").is_file()
    for name in ("mediamtx-compose.yml", "frigate-compose.yml"):
        assert isinstance(yaml.safe_load((deploy / name).read_text()), dict)
