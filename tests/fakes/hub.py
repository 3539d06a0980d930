"""A model hub on loopback: it serves one folder as a repository, or answers with a fault."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """`fault` is a status and the hub's error code for every answer; `folder` is what `org/model` holds."""

    def __init__(self, folder: Path | None = None, *, fault: tuple[int, str] | None = None) -> None:
        self.folder = folder
        self.fault = fault
        self.paths: list[str] = []
        """What was asked for, in order."""

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address while it serves."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        self.paths.append(path)
        if self.fault is not None or self.folder is None:
            status, code = self.fault or (404, "RepoNotFound")
            _send(handler, status, b"{}", {"X-Error-Code": code})
        elif path.startswith("/api/models/org/model/tree/"):
            _send(handler, 200, json.dumps(_tree(self.folder)).encode())
        elif path.startswith("/api/models/org/model"):
            _send(handler, 200, json.dumps({"id": "org/model", "sha": COMMIT, "siblings": []}).encode())
        else:
            body = (self.folder / path.rsplit("/", 1)[1]).read_bytes()
            _send(handler, 200, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(body)}"'})


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _digest(path.read_bytes())}
        for path in sorted(folder.iterdir())
    ]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:40]


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
