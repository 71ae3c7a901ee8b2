"""`lumitherm devices` and `lumitherm doctor`: what is connected, and whether it does what it should."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.options import Overrides
from app.commands.common.output import output, say, tell

if TYPE_CHECKING:
    from app.capture.cameras.v4l2_formats import V4l2Mode
    from app.capture.doctor import Finding
    from app.configuration.config import AppConfig

__all__ = ["register"]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command("devices")(_devices)
    cli.command("doctor")(_doctor)


def _devices() -> None:
    """List the connected cameras: how to name each in a configuration and why so, its formats, sizes and rates."""
    from app.capture.cameras.identity import identify, list_devices
    from app.capture.cameras.profiles import load_profiles

    records = list_devices()
    if not records:
        say(
            "no USB camera is connected (or this system does not show it as a video device). Network cameras are not"
            " listed: name them by rtsp://..., and try `lumitherm doctor --config FILE`."
        )
    cameras: list[dict[str, str]] = []
    tell(cameras=cameras)
    for record in records:
        identity = identify(record, records)
        cameras.append({"name": record.name, "usb_id": record.usb_id, "node": record.node, "uri": identity.uri})
        say(f"{record.name}  {record.usb_id}  {record.node}".rstrip())
        say(f"  uri: {identity.uri or '-'}\n       {identity.reason}")
        for line in _modes(record.node, record.usb_id, identity.uri):
            say(f"  {line}")
    say("network cameras of two channels (put its address for HOST; the password goes into credentials_env):")
    for network in load_profiles().network:
        say(f"  {network.name}: visible {network.visible}  thermal {network.thermal}")
    say("always there: sim:visible and sim:thermal, the simulated rig")


def _profile_lines(usb_id: str, modes: list[V4l2Mode], uri: str) -> list[str]:
    """What the profile of a camera says of it, if there is one."""
    from app.capture.cameras.profiles import doubles, load_profiles, profile_of

    lines = [f"{other.name} {other.why}" for other in load_profiles().unsupported if usb_id in other.usb]
    profile = profile_of(usb_id, modes)
    if profile is None:
        if doubles(modes):
            lines.append(f"a picture above raw counts: thermal.uri: {uri} takes the counts by itself")
        return lines
    layout = ", split into picture and counts by itself" if profile.double else ""
    mode = profile.mode
    tested = "tested" if profile.tested else "not tested on a device yet"
    lines.append(f"known as {profile.name} ({profile.also}); {tested}")
    lines.append(f"thermal.uri: {uri}  ({mode.pixel_format} {mode.width}x{mode.height}{layout})")
    if profile.kelvin_per_count:
        lines.append(f"thermal.kelvin_per_count: {profile.kelvin_per_count:g}  (for degrees)")
    lines.append(f"expect {mode.fps:g} frames/s; its shutter stops the picture for {profile.freeze_s:g} s now and then")
    return lines


def _modes(node: str, usb_id: str, uri: str) -> list[str]:
    """The modes of a device, one line a format and size; or why they cannot be read."""
    from app.capture.cameras.v4l2_camera import LinuxpyPort
    from app.capture.cameras.v4l2_formats import explain_os_error

    try:
        port = LinuxpyPort(node)
        try:
            modes = port.modes()
        finally:
            port.close()
    except OSError as error:
        return [str(explain_os_error(error, node, node))]
    profile_lines = _profile_lines(usb_id, modes, uri)
    rates: dict[str, list[float]] = {}
    for mode in modes:
        rates.setdefault(f"{mode.pixel_format} {mode.width}x{mode.height}", []).append(mode.fps)
    return profile_lines + [
        f"{size}: {', '.join(f'{fps:g}' for fps in sorted(every, reverse=True))} fps" for size, every in rates.items()
    ]


def _doctor(
    config_file: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Also measure the cameras of this one."),
    ] = None,
    duration_s: Annotated[float, typer.Option(min=1, max=600, metavar="S", help="How long to measure.")] = 10.0,
    overrides: Overrides = None,
) -> None:
    """Check cameras, time stamps, offset, engine, disk and permissions; each fault with its remedy (exit code 1)."""
    from app.capture.cameras.identity import list_devices
    from app.capture.doctor import check_disk, check_video_group

    config = None
    if config_file is not None:
        from app.configuration.config import load_config

        config = load_config(config_file, overrides or [], os.environ)
    has_usb = bool(list_devices())
    if config is not None:
        has_usb |= any(camera.uri.startswith("v4l2:") for camera in (config.visible, config.thermal))
    findings = [check_video_group(has_usb)]
    directory = Path("recordings") if config is None else config.recording.directory
    findings.append(check_disk(directory))
    for finding in findings:
        _show(finding)
    if config is None:
        say("      cameras are not measured without --config FILE")
    else:
        findings += _measured(config, duration_s)
        engine = _check_engine(config)
        _show(engine)
        findings.append(engine)
    bad = sum(not finding.ok for finding in findings)
    say(f"{bad} of {len(findings)} checks failed" if bad else f"all {len(findings)} checks passed")
    if bad:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    found = {"name": finding.name, "ok": finding.ok, "text": finding.text, "fix": finding.fix}
    tell(findings=[*output().facts.get("findings", ()), found])
    say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.text}")
    if finding.fix:
        say(f"      -> {finding.fix}")


def _measured(config: AppConfig, seconds: float) -> list[Finding]:
    from app.capture.cameras.factory import create_cameras
    from app.capture.doctor import judge, measure
    from app.capture.offsets import resolve_offsets
    from app.pipeline.thermal_grid import ThermalGrid

    grid = ThermalGrid(config.calibration.file)
    configs, _ = resolve_offsets(config.visible, config.thermal, grid.visible_minus_thermal_ms)
    cameras = create_cameras(config.visible, config.thermal, simulation=config.simulation)
    say(f"      measuring both cameras for {seconds:g} s; let something warm move through both pictures")
    findings = judge(measure(cameras, configs, config.sync, seconds), configs, config.sync)
    for finding in findings:
        _show(finding)
    return findings


def _check_engine(config: AppConfig) -> Finding:
    from app.capture.doctor import Finding
    from fusion_core.engines.engine import create_engine
    from fusion_core.errors import LumithermError

    wanted = config.engine
    try:
        engine = create_engine(wanted.name.value, wanted.preset.fixed, wanted.weights, wanted.threads)
    except LumithermError as error:
        return Finding("engine", f"{wanted.name.value} does not start", f"{error}; {wanted.fallback.value} would run")
    name = engine.name
    engine.close()
    return Finding("engine", name)
