"""A static file server with Range on a free loopback port, whose faults a test chooses."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FileServer:
    """Serves ``folder``.

    Attributes:
        cut_after: close the connection after so many bytes of a blob, once per entry.
        ranges: whether Range is understood.
        requests: paths asked for, with the offset from which.
        served: bytes of blobs that were sent.
        sent: bytes of all bodies that were sent.
    """

    def __init__(self, folder: Path) -> None:
        self.cut_after: list[int] = []
        self.ranges = True
        self.status: dict[str, int] = {}
        self.requests: list[tuple[str, int]] = []
        self.served = 0
        self.sent = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self, folder)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: http.server.BaseHTTPRequestHandler, folder: Path) -> None:
        path = request.path.lstrip("/")
        stated = request.headers.get("Range", "")
        offset = int(stated.removeprefix("bytes=").rstrip("-")) if stated and self.ranges else 0
        self.requests.append((path, offset))
        file = folder / path
        forced = self.status.get(path)
        if forced or not file.is_file():
            request.send_error(forced or 404)
            return
        data = file.read_bytes()
        if offset >= len(data) > 0 and offset:
            request.send_error(416)
            return
        request.send_response(206 if offset else 200)
        if offset:
            request.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - offset))
        request.end_headers()
        body = data[offset:]
        if path.startswith("targets/bundles") and self.cut_after:
            body = body[: self.cut_after.pop(0)]
        if path.startswith("targets/"):
            self.served += len(body)
        self.sent += len(body)
        request.wfile.write(body)
        request.wfile.flush()
        request.close_connection = True
