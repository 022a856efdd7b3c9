"""A server with the protocol of Hugging Face's hub, for datasets that are directories on disk."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

_DATASET = re.compile(r"/api/datasets/(\w+/\w+)(?:/revision/main)?")
_TREE = re.compile(r"/api/datasets/(\w+/\w+)/tree/main(?:/(.*))?")
_PATHS = re.compile(r"/api/datasets/(\w+/\w+)/paths-info/main")
_FILE = re.compile(r"/datasets/(\w+/\w+)/resolve/main/(.*)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    token: str
    before: Callable[[Path], None]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif (found := _DATASET.fullmatch(path)) and (self.root / found[1]).is_dir():
            self._send_json({"_id": "1", "id": found[1], "sha": "0" * 40, "siblings": []})
        elif found := _TREE.fullmatch(path):
            directory = self.root / found[1] / (found[2] or "")
            files = directory.rglob("*") if "recursive=" in self.path else directory.glob("*")
            if directory.is_dir():
                self._send_json([self._entry(file, found[1]) for file in sorted(files)])
            else:
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        elif (found := _FILE.fullmatch(path)) and (self.root / found[1] / found[2]).is_file():
            file = self.root / found[1] / found[2]
            self.before(file)
            self._send_file(file.read_bytes())
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if found := _PATHS.fullmatch(self.path):
            files = (self.root / found[1] / path for path in body["paths"])
            self._send_json([self._entry(file, found[1]) for file in files if file.exists()])
        else:
            self._send(404, b"{}", {})

    def _entry(self, file: Path, dataset: str) -> dict[str, Any]:
        path = file.relative_to(self.root / dataset).as_posix()
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "1", "size": 0}
        content = file.read_bytes()
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": path, "oid": oid, "size": len(content)}

    def _send_file(self, content: bytes) -> None:
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
            shown = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self._send(206, content[first : last + 1], shown)
        else:
            self._send(200, content, {})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def hub_server(
    root: Path, token: str = "", before: Callable[[Path], None] = lambda file: None
) -> Iterator[str]:
    """Serve the directories `OWNER/NAME` as datasets, to anyone or with a token; yield the URL.

    ``before`` is called with each file of which a part is asked for.
    """
    values = {"root": root, "token": token, "before": staticmethod(before)}
    handler = type("Handler", (_Handler,), values)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
