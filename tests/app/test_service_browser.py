"""The status page in a real browser: a whole session, on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chromium import BROWSER, Page
from support.live import PatternCamera, camera_factory
from support.service import PASSWORD, running, secret_file, service_settings

from app.service.web.auth import hash_password
from fusion_core.frames import Stream

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian: apt-get install chromium")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    browser = Page(tmp_path / "profile")
    yield browser
    browser.close()


def pictures(folder: Path) -> Path:
    """Where screenshots go: LUMITHERM_SCREENSHOTS, to look at them, else the test's own folder."""
    wanted = Path(os.environ.get("LUMITHERM_SCREENSHOTS", folder / "screenshots"))
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def text(page: Any, selector: str) -> str:
    return str(page.run(f"document.querySelector({selector!r}).textContent"))


def test_a_session_from_login_to_logout(page: Page, tmp_path: Path) -> None:
    shots = pictures(tmp_path)
    web = {"user": "operator", "password_file": secret_file(tmp_path, "p", hash_password(PASSWORD))}
    cameras = camera_factory(*(PatternCamera(stream, fps=10, size=(240, 320)) for stream in Stream))
    with running(service_settings(tmp_path, web), cameras) as (live, handle):
        assert handle.web is not None
        page.size(1280, 900)
        page.go(handle.web.url)
        page.until("document.querySelector('#password')")
        page.screenshot(shots / "login.png")
        page.type("#user", "operator")
        page.type("#password", "wrong")
        page.click("button")
        page.until("!document.querySelector('#message').hidden")
        assert "wrong" in text(page, "#message")
        page.run("document.querySelector('#password').value = ''")
        page.type("#password", PASSWORD)
        page.click("button")
        page.until("document.querySelector('#preview') && document.querySelector('#preview').naturalWidth > 0")
        page.until("document.querySelector('#state').textContent === 'running'")
        page.type("#label", "from the page")
        page.click("#record")
        page.until("document.querySelector('#record').textContent === 'Stop recording'")
        page.until("document.querySelector('#figures').textContent.includes('recording, ')")
        page.click("[data-picture=thermal]")
        page.until("document.querySelector('[data-picture=thermal]').getAttribute('aria-pressed') === 'true'")
        page.click("#event")
        page.until("document.querySelector('#message').textContent === 'Event marked'")
        page.click("#snapshot")
        page.until("document.querySelector('#message').textContent.startsWith('Saved snapshot-')")
        page.screenshot(shots / "desk.png")
        page.click("#record")
        page.until("document.querySelector('#message').textContent.startsWith('Recorded: ')")
        page.until("document.querySelector('#recordings a')")
        fetched = page.run(
            "fetch(document.querySelector('#recordings a').href).then(r => r.arrayBuffer()).then(b => b.byteLength)"
        )
        (video,) = live.config.recording.directory.glob("*.mkv")
        assert fetched == video.stat().st_size
        assert "from_the_page" in video.name
        page.size(390, 844, phone=True)
        page.run("scrollTo(0, 0)")
        wide = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, "the page is wider than a phone"
        small = page.run(
            "[...document.querySelectorAll('main button')].filter(b => b.getBoundingClientRect().height < 44).length"
        )
        assert small == 0, "buttons are too small for a finger"
        page.screenshot(shots / "phone.png")
        page.run("document.querySelector('#log').scrollIntoView()")
        page.screenshot(shots / "phone-log.png")
        page.click("#logout")
        page.until("location.pathname === '/login'")
        assert page.run("fetch('/api/v1/status').then(r => r.status)") == 401
    ours = [complaint for complaint in page.complaints if "401" not in complaint]
    assert ours == []
