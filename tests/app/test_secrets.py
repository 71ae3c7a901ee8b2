"""No credential of an address comes out: planted in 10,000 addresses of every form, searched for in every output."""

from __future__ import annotations

import io
import json
import logging
import random
import string
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
import structlog
import typer
from typer.testing import CliRunner

from app.capture.cameras.uri import parse_camera_uri
from app.capture.config import CameraConfig
from app.commands import config as config_command
from app.configuration.config import LogFormat, LoggingConfig, load_config
from app.configuration.service import HookConfig, PushConfig
from app.logging_setup import configure_logging
from app.service.state.log_ring import LogRing
from fusion_core.errors import ConfigError, LumithermError
from fusion_core.redaction import Address, redact, redact_address

SCHEMES = ("rtsp", "rtsps", "http", "https", "rstp", "rtmp", "rtp", "RTSP", "srt", "mqtt", "ftp", "onvif+rtsp")
LOGIN_MARKS = "#@/?&=:;%_.,~!$*+()[]'"
VALUE_MARKS = "@/:;_.,~!$*+()[]%=|"
QUERY_NAMES = (
    "access_token", "api_key", "apikey", "key", "auth", "authkey", "sig", "token", "pwd", "password", "passwd",
    "X-Amz-Signature", "streamKey", "loginpas", "sessionid", "passphrase", "client_secret", "sas", "user_pw",
)  # fmt: skip
HOSTS = ("192.0.2.7", "cam.example:554", "[2001:db8::1]:8554")


def fragment(source: random.Random) -> str:
    return "Zq" + "".join(source.choices(string.ascii_letters + string.digits, k=6))


def plant(source: random.Random) -> tuple[str, list[str], bool]:
    """An address, the pieces of its secrets between reserved characters, and whether it stands well in free text."""
    pieces = [fragment(source) for _ in range(source.randint(1, 3))]

    def joined(marks: str) -> str:
        secret = pieces[0]
        for piece in pieces[1:]:
            secret += source.choice(marks) + piece
        return secret

    scheme, host, kind = source.choice(SCHEMES), source.choice(HOSTS), source.randrange(7)
    if kind == 0:
        return f"{scheme}://operator:{joined(LOGIN_MARKS)}@{host}/live?channel=1", pieces, True
    if kind == 1:
        return f"{scheme}://{host}/live?channel=1&{source.choice(QUERY_NAMES)}={joined(VALUE_MARKS)}", pieces, True
    if kind == 2:
        name = source.choice(("password", "pass", "pwd", "passwd"))
        return f"{scheme}://{host}/user=admin_{name}={joined('!$.~')}_channel=1_stream=0.sdp", pieces, True
    if kind == 3:
        return f"{source.choice(('rtsp:', 'rtsp:/', 'rtsp//:', ''))}me:{joined('!$.~#@')}@{host}/x", pieces, True
    if kind == 4:
        return (
            f"{scheme}://{host}/x?{source.choice(QUERY_NAMES)}={joined(VALUE_MARKS)}&channel=2#half=left",
            pieces,
            True,
        )
    if kind == 5:
        return f"{scheme}://me:{joined(' ')}@{host}/x", pieces, len(pieces) == 1  # a blank ends an address in a text
    return f"{scheme}://{host}:7447/{''.join(fragment(source) for _ in range(3))}0", [], True


def outputs(address: str, in_text: bool) -> Iterator[tuple[str, str]]:
    """Everything that may be made of one address without a camera."""
    typed = Address(address)
    yield "printed", f"{typed} {typed!r} {[typed]} {typed!s} {redact_address(address)}"
    try:
        config = CameraConfig(uri=address)
        yield "model", f"{config} {config.shown_uri} {config.model_dump_json()} {config.model_dump(mode='json')}"
        yield "parsed", repr(parse_camera_uri(address))
    except pydantic.ValidationError as error:
        yield "refused", " ".join(str(details.get("ctx", {}).get("error", "")) for details in error.errors())
    for make in (
        lambda: PushConfig.model_validate({"url": address}),
        lambda: HookConfig.model_validate({"name": "x", "webhook": address}),
        lambda: HookConfig.model_validate({"name": "x", "mqtt": address}),
    ):
        try:
            made = make()
            yield "service", f"{made} {made.model_dump_json()}"
        except pydantic.ValidationError as error:
            yield "service refused", " ".join(str(d.get("ctx", {}).get("error", "")) for d in error.errors())
    if in_text:
        yield "error", str(LumithermError(f"cannot open {address}: no route (see '{address}')"))
        yield "quoted", redact(f"{json.dumps({'uri': address})} {[address]!r}") if '"' not in address else ""
        yield "text", redact(f"{address} and then {address}, expected a stream")


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_secrets_of_ten_thousand_addresses_stay_inside(count: int) -> None:
    source = random.Random("addresses")
    leaks = []
    for _ in range(count):
        address, pieces, in_text = plant(source)
        for where, text in outputs(address, in_text):
            leaks += [(where, address, text) for piece in pieces if piece in text]
    assert not leaks, f"{len(leaks)} leaks, e.g. {leaks[0]}"


ODD = (
    "rtsp://h/p?%70assword=Zq", "rtsp://h/p?user=admin&p=Zq", "rtsp://h/p?password:Zq", "rtsp://admin:Zq%40h/x",
    "rtsp://h/cam/admin:Zq/x", "rtmp://h/live/Zqkey", "rtmps://h:443/live2/Zqkey?x=1", "http://h/hook?code=Zq",
    "rtsp://h/p?token[]=Zq", "rtsp://h/p?пароль=Zq", "rtsp://h/p?mot_de_passe=Zq", "rtsp://h/p?hash=Zq",
    "rtsp://h/p?access=Zq", "rtsp://admin:Zq", "rtsp://[admin:Zq]/x", "srt://h:9?mode=caller&streamid=publish:a:me:Zq",
    "rtsp://h/p?Zq12", "rtsp://h:Zq/x", "rtsp://h/p?channel=1?nonce=Zq", "rtsp://h/p?a;b=Zq",
)  # fmt: skip


@pytest.mark.parametrize("address", ODD)
def test_secrets_in_odd_places_stay_inside(address: str) -> None:
    for text in (redact_address(address), redact(f"cannot open {address} now"), f"{Address(address)}"):
        assert "Zq" not in text
        assert text.rpartition("open ")[2].startswith(address.partition("//")[0])


@pytest.mark.parametrize("text", ["password: Zq1", "password = 'Zq 1'", 'camera_secret: "Zq1"', "x.passphrase: Zq"])
def test_secrets_as_configurations_write_them_stay_inside(text: str) -> None:
    assert "Zq" not in redact(f"line 3: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://h:8554/cam?channel=1&subtype=0", "see http://h:80/docs, (http://h) and http://h.", "C:\\me\\a.yaml",
        "rtsp://192.0.2.1/x: Connection refused", "the user name or password: see credentials_env", "http://[::1]:80/x",
        "srt://h:9000?mode=caller&latency=200000", "service.web.password_file: x", "sim:visible?counts=4000",
    ],
)  # fmt: skip
def test_what_is_no_secret_can_be_read(text: str) -> None:
    assert redact(text) == text


def test_logs_and_the_log_of_the_status_page_hide_them() -> None:
    source, stream = random.Random("logs"), io.StringIO()
    configure_logging(LoggingConfig.model_validate({"format": LogFormat.JSON, "repeat_interval_s": 0}), stream)
    ring = LogRing(5000)
    logging.getLogger().addHandler(ring)
    planted: list[str] = []
    try:
        for _ in range(1000):
            address, pieces, in_text = plant(source)
            planted += pieces
            structlog.get_logger("camera").warning("lost", uri=Address(address), more={"tried": [Address(address)]})
            if in_text:
                logging.getLogger("av").error("no answer from %s", address)
                structlog.get_logger("camera").error(f"{address} is lost", server=address, at=Path(address))
    finally:
        logging.getLogger().removeHandler(ring)
        configure_logging(LoggingConfig.model_validate({}))
    seen = stream.getvalue() + json.dumps([line.text for line in ring.newer(0, 5000)])
    assert seen.count("no answer from") > 1000
    lines = seen.splitlines()
    leaks = [piece for piece in planted if piece in seen]
    assert not leaks, next(line for line in lines if leaks[0] in line)[:1000]


def test_config_show_check_and_errors_of_files_hide_them(tmp_path: Path) -> None:
    source = random.Random("files")
    cli, runner = typer.Typer(), CliRunner()
    config_command.register(cli)
    shown = refused = 0
    for number in range(300):
        address, pieces, _ = plant(source)
        file = tmp_path / f"rig{number % 3}.yaml"
        text = json.dumps(address)
        file.write_text(
            f"rig: a\nvisible: {{uri: {text}}}\nthermal: {{uri: sim:thermal}}\n"
            f"service: {{push: [{{name: one, url: {text}}}]}}\n"
            if number % 2
            else f"rig: a\nvisible: {{uri: {text}}}\nthermal: {{uri: sim:thermal}}\n"
        )
        try:
            load_config(file, (), {})
        except ConfigError as error:
            refused += 1
            said = str(error)
        else:
            shown += 1
            done = [runner.invoke(cli, ["config", *words]) for words in (("show", str(file)), ("check", str(file)))]
            assert all(one.exit_code == 0 for one in done)
            said = "".join(one.output for one in done)
        assert not [piece for piece in pieces if piece in said], said
    assert shown > 20 and refused > 20


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:p@ss@cam/x?password=abc&a=1", "rtsp://***@cam/x?password=***&a=1"),
        ("rtsp://cam/user=admin_password=X_channel=1_stream=0.sdp", "rtsp://cam/user=***_password=***_channel=1_stream=0.sdp"),
        ("rtsp://cam:554/live?channel=2#half=left", "rtsp://cam:554/live?channel=2#half=left"),
        ("rtsp://cam/x?token=a#half=left", "rtsp://cam/x?token=***#half=left"),
        ("file:/data/a:b@2x.mkv", "file:/data/a:b@2x.mkv"),
        ("v4l2:port=usb-0000:00:14.0-3.1", "v4l2:port=usb-0000:00:14.0-3.1"),
        ("dshow:@device_pnp_x#y", "dshow:@device_pnp_x#y"),
        ("sim:visible?realtime=0", "sim:visible?realtime=0"),
    ],
)  # fmt: skip
def test_what_is_left_tells_the_camera(address: str, shown: str) -> None:
    assert redact_address(address) == shown == redact_address(shown)
    assert redact(f"camera {address} is lost") == f"camera {shown} is lost"


def test_our_own_words_stay_readable() -> None:
    for text in (
        "service.web.token_file: /etc/web.token cannot be read",
        "push url_file=/etc/push token_file=/etc/token session_hours=12",
        "wanted a password with at least 8 characters",
        "at 12:03:04 2 frames/s, mail me@example.org",
    ):
        assert redact(text) == text
