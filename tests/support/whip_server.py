"""A real WHIP server on the loopback: aiortc's WebRTC behind a POST. Run by a Python that has aiortc.

    PYTHON tests/support/whip_server.py --port 0 --token TOKEN

prints `ready PORT` when http://127.0.0.1:PORT/rig/whip takes offers, and then `row NANOSECONDS HEX` for each picture:
the monotonic time at which it was decoded, and the luminance of its middle row.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

_CHECK = "import aiortc"


def python_with_aiortc() -> str | None:
    """LUMITHERM_WHIP_PYTHON, or this Python, if it has aiortc; else None."""
    python = os.environ.get("LUMITHERM_WHIP_PYTHON", sys.executable)
    done = subprocess.run([python, "-c", _CHECK], capture_output=True, timeout=120, check=False)
    return python if done.returncode == 0 else None


class WhipServer:
    """The server process as a test sees it. `rows`: (decoded at, monotonic ns; middle row) of every picture."""

    def __init__(self, python: str, token: str, port: int = 0) -> None:
        command = [python, __file__, "--port", str(port), "--token", token]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().split()
        if len(line) != 2 or line[0] != "ready":
            self.kill()
            raise RuntimeError(f"the WHIP server did not start, said {line}")
        self.port = int(line[1])
        self.rows: list[tuple[int, bytes]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Where to publish."""
        return f"http://127.0.0.1:{self.port}/rig/whip"

    def kill(self) -> None:
        """SIGKILL."""
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
            if word == "row":
                self.rows.append((int(when), bytes.fromhex(data)))


def _serve() -> None:
    from aiortc import RTCPeerConnection, RTCSessionDescription

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", required=True)
    wanted = parser.parse_args()
    loop = asyncio.new_event_loop()
    peers: list[Any] = []

    async def watch(track: Any) -> None:
        while True:
            frame = await track.recv()
            now_ns = time.monotonic_ns()
            luminance = frame.planes[0]
            begin = luminance.line_size * (frame.height // 2)
            print("row", now_ns, bytes(luminance)[begin : begin + frame.width].hex(), flush=True)

    async def answer(offer: str) -> str:
        peer = RTCPeerConnection()
        peers.append(peer)
        peer.on("track", lambda track: peers.append(asyncio.ensure_future(watch(track))))
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    def run(work: Coroutine[Any, Any, str]) -> str:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.headers.get("Authorization") != f"Bearer {wanted.token}":
                self.send_error(401)
                return
            data = run(answer(offer)).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/sdp")
            self.send_header("Location", "/rig/whip/1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_DELETE(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", wanted.port), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = os.getppid()

    async def watch_parent() -> None:  # never outlive the test run
        while os.getppid() == parent:
            await asyncio.sleep(1)

    print("ready", server.server_address[1], flush=True)
    loop.run_until_complete(watch_parent())


if __name__ == "__main__":
    _serve()
