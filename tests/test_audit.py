"""The audit of what is installed: it finds what it is for, and this environment passes it."""

from __future__ import annotations

import json
from pathlib import Path

import audit

ROOT = Path(__file__).parents[1]


def test_each_kind_of_finding() -> None:
    pinned = audit.pins("A_b==1.2  # why\nstarlette==0.40 ; python_version > '3'\nclosed==1\n")
    assert pinned == {"a-b": "1.2", "starlette": "0.40", "closed": "1"}
    sound = [("a-b", "1.2+cpu", "MIT License")]
    assert audit.findings(sound, pinned) == []
    packages = [*sound, ("stranger", "1", "MIT"), ("starlette", "0.40", "BSD-3-Clause"), ("closed", "1", "Commercial")]
    told = audit.findings(packages, pinned)
    assert len(told) == 3
    assert "stranger 1 is installed and not pinned" in told[0]
    assert "Commercial" in told[1] and "CVE-2025-62727" in told[2]
    assert "constraints.txt says 1.2" in audit.findings([("a-b", "1.3", "MIT")], pinned)[0]


def test_every_pin_is_exact() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(audit.pins("\n".join(named))) == len(named)


def test_no_known_bad_version_is_pinned() -> None:
    pinned = audit.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    packages = [(name, version, "MIT") for name, version in pinned.items()]
    assert [told for told in audit.findings(packages, pinned) if "CVE" in told] == []


def test_a_pip_audit_that_knew_nothing_is_no_clean_bill() -> None:
    skipped = {"name": "a", "skip_reason": "Dependency not found on PyPI"}
    sound = {"name": "b", "version": "2", "vulns": []}
    bad = {"name": "c", "version": "3", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"]}]}
    assert audit.read_pip_audit("") == ("pip-audit did not reach its database", [])
    for packages, knew, faults in (
        ([skipped], "knew 0 of the 1", []),
        ([skipped, sound, bad], "knew 2 of the 3", ["c 3 has PYSEC-1; mended in 3.1"]),
    ):
        note, wrong = audit.read_pip_audit(json.dumps({"dependencies": packages, "fixes": []}))
        assert knew in note and wrong == faults


def test_the_verdict_says_plainly_when_nothing_was_judged() -> None:
    for note in ("pip-audit is not installed", "pip-audit's database knew 0 of the 111 that are installed"):
        said = audit.verdict(note)
        assert "NO database" in said and audit.KNOWN_BAD_DATED in said
    assert "for 100 of 111 packages" in audit.verdict("pip-audit's database knew 100 of the 111 that are installed")
