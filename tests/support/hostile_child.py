"""A camera's process that does not keep the agreement: python -m support.hostile_child MODE HANDLE."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import sys
import time

from app.capture.cameras.child_camera import FRAME


def main(mode: str, handle: int) -> None:
    with socket.socket(fileno=handle) as connection:
        if mode == "exit at the start":
            os._exit(3)
        connection.send(b"R")
        connection.recv(65_536)
        if mode == "silence":
            time.sleep(60)
        if mode == "garbage":
            connection.send(b"\xff" * 50_000)
        info = {"identity": "x", "model": "x", "width": 8, "height": 8, "fps": 25.0, "pixel_format": "x"}
        info |= {"ts_source": "arrival", "notes": []}
        size = 2**40 if mode == "pictures of a terabyte" else -1 if mode == "negative pictures" else 192
        connection.send(b"I" + json.dumps({"info": info, "frame_bytes": size}).encode())
        message, handles, _, _ = socket.recv_fds(connection, 65_536, 1)
        layout = json.loads(message[1:])
        memory = mmap.mmap(handles[0], layout["slots"] * layout["bytes"])
        memory[:] = b"\x07" * len(memory)
        for number in range(100_000_000):
            now_ns = time.monotonic_ns()
            slot, height, channels = number % layout["slots"], 8, 3
            if mode == "crash" and number == 20:
                os.kill(os.getpid(), signal.SIGSEGV)
            while mode in ("hang", "spin") and number == 3:
                time.sleep(60) if mode == "hang" else sum(range(1000))
            if mode == "cut the memory short":
                os.ftruncate(handles[0], 0)
            if mode == "a slot that is not there":
                slot = 200
            if mode == "larger than its slot":
                height = 60_000
            if mode == "many channels":
                channels = 200
            if mode == "leak" and number == 20:
                held = bytearray(os.urandom(1 << 20)) * 300
                print(len(held))
            connection.send(b"F" + FRAME.pack(slot, number, now_ns, 4, 0, height, 8, channels, 0))
            if mode != "flood":
                time.sleep(0.03)
                while mode in ("leak", "crash"):
                    try:
                        connection.recv(65_536, socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        break


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
