"""A real RTSP server on the loopback that takes a published stream: GStreamer's, in a process that a test may kill.

Run as a script by the system's Python: /usr/bin/python3 tests/support/rtsp_record_server.py --port 8556 [--tls FILE]
prints `ready PORT` when rtsp://127.0.0.1:PORT/rig may be published to, then `au NANOSECONDS BASE64` for each picture:
its H.264 bytes as they came out of the depayloader, and the monotonic time of that moment.

Debian: the packages named in rtsp_server.py, and gstreamer1.0-plugins-bad for h264parse.
"""

from __future__ import annotations

import argparse
import base64
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"


def missing_reason() -> str | None:
    """Why no server can run here; None if one can."""
    if not Path(SYSTEM_PYTHON).exists():
        return f"{SYSTEM_PYTHON} is not there; the RTSP server needs the distribution's Python"
    check = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "lacking = [n for n in ('rtph264depay', 'h264parse', 'appsink') if Gst.ElementFactory.find(n) is None];"
        "raise SystemExit('no GStreamer element ' + ' '.join(lacking) if lacking else 0)"
    )
    done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return None
    return "GStreamer's RTSP server cannot record: " + (done.stderr.strip().splitlines() or ["unknown reason"])[-1]


class RecordServer:
    """The server process as a test sees it. tls: PEM file with certificate and key.

    `units`: (arrival, monotonic ns; H.264 bytes) of every picture.
    """

    def __init__(self, port: int = 0, tls: Path | None = None) -> None:
        command = [SYSTEM_PYTHON, __file__, "--port", str(port), *(["--tls", str(tls)] if tls is not None else [])]
        self._scheme = "rtsp" if tls is None else "rtsps"
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != "ready":
            self.kill()
            raise RuntimeError(f"the RTSP server did not start, said {line}")
        self.port = int(line[1])
        self.units: list[tuple[int, bytes]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Where to publish."""
        return f"{self._scheme}://127.0.0.1:{self.port}/rig"

    def freeze(self) -> None:
        """SIGSTOP: the connection stays open, nothing is taken."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, also of a frozen server."""
        self._process.kill()
        self._process.wait(10)
        if hasattr(self, "_reader"):
            self._reader.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, when, data = line.split()
            if word == "au":
                self.units.append((int(when), base64.b64decode(data)))

    def __enter__(self) -> RecordServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _serve() -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import Gio, GLib, Gst, GstApp, GstRtspServer  # noqa: F401

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", default=None)
    wanted = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    if wanted.tls is not None:
        auth = GstRtspServer.RTSPAuth()
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(wanted.tls))
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", "anybody")
        auth.set_default_token(token)
        server.set_auth(auth)
    server.set_address("127.0.0.1")
    server.set_service(str(wanted.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
    factory.set_latency(0)
    if wanted.tls is not None:
        permissions = GstRtspServer.RTSPPermissions.new()
        for permission in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("anybody", permission, True)
        factory.set_permissions(permissions)
    factory.set_launch(
        "( rtph264depay name=depay0 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream"
        ",alignment=au ! appsink name=out emit-signals=true sync=false max-buffers=200 )"
    )

    def on_sample(sink: object) -> object:
        sample = sink.emit("pull-sample")  # type: ignore[attr-defined]
        now_ns = time.monotonic_ns()
        buffer = sample.get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        print("au", now_ns, base64.b64encode(data).decode(), flush=True)
        return Gst.FlowReturn.OK

    def configured(_factory: object, media: object) -> None:
        media.get_element().get_by_name("out").connect("new-sample", on_sample)  # type: ignore[attr-defined]

    factory.connect("media-configure", configured)
    server.get_mount_points().add_factory("/rig", factory)
    server.attach(None)
    parent = os.getppid()

    def watch_parent() -> bool:  # never outlive the test run
        if os.getppid() != parent:
            os._exit(0)
        return True

    GLib.timeout_add(1000, watch_parent)
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    sys.exit(_serve())
