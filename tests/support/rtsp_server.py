"""A real RTSP server on the loopback: GStreamer's, from the distribution, in a process that a test may stop or kill.

Run as a script by the system's Python (GStreamer's bindings are not in the virtual environment):
    /usr/bin/python3 tests/support/rtsp_server.py --port 8555 --fps 30 --width 320 --height 240
prints `ready PORT` when it serves rtsp://127.0.0.1:PORT/visible and /thermal. A line `size W H` on its standard input
changes the pictures' size in mid-stream. With --loss (a share from 0 on) a line `loss SHARE` changes the share of RTP
packets that are dropped.

Debian: apt-get install gir1.2-gst-rtsp-server-1.0 gir1.2-gstreamer-1.0 gstreamer1.0-plugins-base
gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi
"""

from __future__ import annotations

import argparse
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
        "need = ('x264enc', 'rtph264pay', 'videotestsrc', 'capsfilter', 'videoscale');"
        "lacking = [n for n in need if Gst.ElementFactory.find(n) is None];"
        "raise SystemExit('no GStreamer element ' + ' '.join(lacking) if lacking else 0)"
    )
    done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return None
    return "GStreamer's RTSP server is not installed: " + (done.stderr.strip().splitlines() or ["unknown reason"])[-1]


class RtspServer:
    """The server process as a test sees it."""

    def __init__(
        self, *, port: int = 0, fps: int = 20, width: int = 192, height: int = 144, loss: float | None = None
    ) -> None:
        command = [SYSTEM_PYTHON, __file__, "--port", str(port), "--fps", str(fps)]
        command += ["--width", str(width), "--height", str(height)]
        command += ["--loss", str(loss)] if loss is not None else []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != "ready":
            self.kill()
            raise RuntimeError(f"the RTSP server did not start, said {line}")
        self.port = int(line[1])

    def url(self, name: str) -> str:
        """rtsp URL of `visible` or `thermal`."""
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def change_size(self, width: int, height: int) -> None:
        """Change the pictures' size in mid-stream."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"size {width} {height}\n")
        self._process.stdin.flush()

    def change_loss(self, share: float) -> None:
        """Drop this share of the packets from now on; the server must have been made with `loss`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"loss {share}\n")
        self._process.stdin.flush()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing comes."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, also of a frozen server."""
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _serve() -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--loss", type=float, default=None)
    wanted = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(wanted.port))
    filters = []
    losers = []

    size = [wanted.width, wanted.height]
    loss = [wanted.loss]

    def apply_size() -> None:
        for element in filters:
            element.set_property("caps", Gst.Caps.from_string(f"video/x-raw,width={size[0]},height={size[1]}"))

    def configured(_factory: object, media: object) -> None:  # a new pipeline: the first client has come
        filters.append(media.get_element().get_by_name("size"))  # type: ignore[attr-defined]
        apply_size()
        if wanted.loss is not None:
            losers.append(media.get_element().get_by_name("pay0"))  # type: ignore[attr-defined]
            losers[-1].set_property("drop-probability", loss[0])

    for name, source, grey in (("visible", "smpte", ""), ("thermal", "ball", "videobalance saturation=0 ! ")):
        factory = GstRtspServer.RTSPMediaFactory()
        pay = "rtph264pay config-interval=1 pt=96 name=pay0"
        if wanted.loss is not None:
            pay = "rtph264pay config-interval=1 pt=96 mtu=300 ! identity name=pay0"
        factory.set_launch(
            f"( videotestsrc is-live=true pattern={source} ! "
            f"video/x-raw,framerate={wanted.fps}/1,width=320,height=240 ! "
            f"{grey}videoscale ! capsfilter name=size ! "
            "videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency "
            f"speed-preset=ultrafast key-int-max=15 bitrate=800 ! {pay} )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", configured)
        server.get_mount_points().add_factory(f"/{name}", factory)
    server.attach(None)

    def obey() -> None:
        for line in sys.stdin:
            word, *values = line.split()
            if word == "size":
                size[:] = [int(value) for value in values]
                apply_size()
            elif word == "loss":
                loss[0] = float(values[0])
                for element in losers:
                    element.set_property("drop-probability", loss[0])

    threading.Thread(target=obey, daemon=True).start()
    parent = os.getppid()

    def watch_parent() -> bool:  # never outlive the test run
        if os.getppid() != parent:
            os._exit(0)
        return True

    GLib.timeout_add(1000, watch_parent)
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    started = time.monotonic()
    _serve()
