"""A client that keeps so many connections open and never ends a request's head: python -m support.half_open PORT COUNT.

One that is cut is opened again. Prints the number opened so far whenever all are open. Ends with its input.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading


def main(port: int, count: int) -> None:
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    waiting = selectors.DefaultSelector()
    held = opened = 0
    while not ended.is_set():
        while held < count:
            try:
                raw = socket.create_connection(("127.0.0.1", port), 5)
                raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0")
            except OSError:
                break
            raw.setblocking(False)
            waiting.register(raw, selectors.EVENT_READ)
            held, opened = held + 1, opened + 1
        print(opened, flush=True)
        for key, _ in waiting.select(0.05):
            waiting.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
            held -= 1


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
