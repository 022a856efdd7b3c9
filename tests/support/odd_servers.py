"""A web server for tests whose answers are unusual, for files that exist and that do not."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = b"<!DOCTYPE html><html>nothing here</html>"

MISSING = {
    "404": (404, b"", {}),
    "410": (410, b"", {}),
    "403": (403, b"<Error/>", {}),
    "401": (401, b"<Error/>", {}),
    "page": (200, PAGE, {"Content-Type": "text/html; charset=utf-8"}),
    "untyped page": (200, PAGE, {}),
    "redirect to a page": (302, b"", {"Location": "/page.html"}),
}
"""How servers answer for files that do not exist."""

PRESENT = ("as usual", "redirects")
"""How servers answer for files that exist."""


class FileHandler(BaseHTTPRequestHandler):
    """Sends contents, and ranges of them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer takes 40 ms
    root: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        raise NotImplementedError

    def send_file(self, content: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked:
            return self.send(200, content, headers)
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        shown = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return self.send(206, content[first : last + 1], shown)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving(handler: type[FileHandler], **values: object) -> Iterator[str]:
    """Answer requests with a handler that has these attributes; yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), values))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _OddHandler(FileHandler):
    missing: str
    present: str

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/page.html":
            return self.send(200, PAGE, {"Content-Type": "text/html"})
        if self.present == "redirects" and not path.startswith("/moved/"):
            return self.send(302, b"", {"Location": f"/moved{path}"})
        file = self.root / path.removeprefix("/moved").lstrip("/")
        if not file.is_file():
            return self.send(*MISSING[self.missing])
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        return self.send_file(content, {"ETag": etag, "Content-Type": "application/octet-stream"})


@contextmanager
def odd_server(root: Path, missing: str = "404", present: str = "as usual") -> Iterator[str]:
    """Serve a directory; yield the URL."""
    with serving(_OddHandler, root=root, missing=missing, present=present) as url:
        yield url
