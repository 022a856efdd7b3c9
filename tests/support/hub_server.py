"""A server with the protocol of Hugging Face's hub, for datasets that are directories on disk."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from support.odd_servers import FileHandler, serving

_DATASET = re.compile(r"/api/datasets/(\w+/\w+)(?:/revision/main)?")
_TREE = re.compile(r"/api/datasets/(\w+/\w+)/tree/main(?:/(.*))?")
_PATHS = re.compile(r"/api/datasets/(\w+/\w+)/paths-info/main")
_FILE = re.compile(r"/datasets/(\w+/\w+)/resolve/main/(.*)")


class _Handler(FileHandler):
    token: str
    before: Callable[[Path], None]

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            self.send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif (found := _DATASET.fullmatch(path)) and (self.root / found[1]).is_dir():
            self._send_json({"_id": "1", "id": found[1], "sha": "0" * 40, "siblings": []})
        elif found := _TREE.fullmatch(path):
            directory = self.root / found[1] / (found[2] or "")
            files = directory.rglob("*") if "recursive=" in self.path else directory.glob("*")
            if directory.is_dir():
                self._send_json([self._entry(file, found[1]) for file in sorted(files)])
            else:
                self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        elif (found := _FILE.fullmatch(path)) and (self.root / found[1] / found[2]).is_file():
            file = self.root / found[1] / found[2]
            self.before(file)
            self.send_file(file.read_bytes(), {})
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if found := _PATHS.fullmatch(self.path):
            files = (self.root / found[1] / path for path in body["paths"])
            self._send_json([self._entry(file, found[1]) for file in files if file.exists()])
        else:
            self.send(404, b"{}", {})

    def _entry(self, file: Path, dataset: str) -> dict[str, Any]:
        path = file.relative_to(self.root / dataset).as_posix()
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "1", "size": 0}
        content = file.read_bytes()
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": path, "oid": oid, "size": len(content)}

    def _send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


@contextmanager
def hub_server(
    root: Path, token: str = "", before: Callable[[Path], None] = lambda file: None
) -> Iterator[str]:
    """Serve the directories `OWNER/NAME` as datasets, to anyone or with a token; yield the URL.

    ``before`` is called with each file of which a part is asked for.
    """
    # A function of a class would be a method.
    with serving(_Handler, root=root, token=token, before=staticmethod(before)) as url:
        yield url
