"""The unit file, and the command that installs it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from app.commands import ctl
from app.commands import service as command
from app.service.systemd import UnitSettings, unit_text
from fusion_core.errors import ConfigError, RunError


def test_the_unit_is_hardened_and_no_word_breaks_out_of_it(tmp_path: Path) -> None:
    unit = unit_text(UnitSettings("roof", Path("/etc/lumi therm/50%.yaml"), credentials=(("web", Path("/etc/t")),)))
    for line in (
        "Type=notify",
        "WatchdogSec=10",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "DevicePolicy=closed",
        "DeviceAllow=char-video4linux rw",
        "User=lumitherm",
        "MemoryMax=4G",
        "LimitCORE=0",
        "RestartPreventExitStatus=2",
        "LoadCredential=web:/etc/t",
    ):
        assert line in unit.splitlines()
    assert '--config "/etc/lumi therm/50%%.yaml"' in unit
    assert 'ExecReload=/bin/sh -c "kill -HUP $$MAINPID"' in unit.splitlines()
    bare = unit_text(UnitSettings("roof", Path("/x"), writable=(Path("/mnt/a disk"),), groups=("video",)))
    assert {'ReadWritePaths="-/mnt/a disk"', "SupplementaryGroups=video"} <= set(bare.splitlines())
    with pytest.raises(ConfigError):
        unit_text(UnitSettings("roof", Path("/x"), groups=("a\nUser=root",)))
    with pytest.raises(ConfigError):
        unit_text(UnitSettings("a\nExecStart=/bin/sh", Path("x")))
    with pytest.raises(ConfigError):
        unit_text(UnitSettings("a", Path("x\nUser=root")))
    user = unit_text(UnitSettings("roof", Path("/x"), user_unit=True))
    assert "User=" not in user and "DeviceAllow" not in user


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "lumitherm.service"
    unit.write_text(unit_text(UnitSettings("roof", Path("/etc/hostname"), user="root")))
    try:
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed; it checks the unit file")
    ours = [line for line in done.stderr.splitlines() if "lumitherm" in line]
    assert ours == []
    unit.write_text(unit_text(UnitSettings("roof", Path("/etc/hostname"))))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]  # exposure of 2.5 at the most: "OK"


def test_install_writes_the_unit_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command with a `systemctl` that writes down what it is asked."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(command, "_systemctl", lambda user, *words: asked.append(words))
    monkeypatch.setattr(command, "_folder", lambda user: tmp_path / "units")
    config, disk = tmp_path / "rig.yaml", tmp_path / "disk" / "recordings"
    config.write_text(
        f'rig: roof\nvisible: {{uri: "sim:visible"}}\nthermal: {{uri: "sim:thermal"}}\n'
        f"recording: {{directory: {disk}}}\n"
    )
    with pytest.raises(RunError, match="useradd --system"):
        command._install(config, account="nobody-of-this-name")
    assert not (tmp_path / "units").exists() and not asked
    account = pwd.getpwuid(os.getuid()).pw_name
    command._install(config, account=account)
    unit = (tmp_path / "units" / "lumitherm.service").read_text()
    assert f"User={account}" in unit and f"ReadWritePaths=-{disk}" in unit
    assert asked == [("daemon-reload",), ("enable", "--now", "lumitherm.service")]
    assert disk.is_dir() and stat.S_IMODE(disk.stat().st_mode) == 0o750
    known = {entry.gr_name for entry in grp.getgrall()}
    (groups,) = [line for line in unit.splitlines() if line.startswith("SupplementaryGroups=")]
    assert set(groups.partition("=")[2].split()) == known & {"video", "render"}
    command._uninstall()
    assert not (tmp_path / "units" / "lumitherm.service").exists() and asked[2][0] == "disable"
    command._uninstall()
    assert "is not there" in capsys.readouterr().out


def test_a_rig_of_another_account_is_named_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "roof.sock").touch()
    assert ctl._sockets(folder) == [folder / "roof.sock"] and ctl._sockets(tmp_path / "none") == []

    def closed(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ctl.os, "scandir", closed)
    with pytest.raises(RunError, match="closed to you"):
        ctl._sockets(folder)
