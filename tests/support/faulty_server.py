"""A web server for tests: it serves ranges of files, counts bytes, and fails on request."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from aiohttp import web

HERE = "127.0.0.1"


@dataclass
class Behaviour:
    """Settings and counters of the server.

    Attributes:
        fails_each: one of this many GET requests fails; 0 for none. The faults take turns: an error
            status, a reset, a body that is too short, and the whole file instead of a range.
        sends_etags: tell the versions of files; there is no time of change.
        ignores_range: send the whole file instead of each range.
        latency: time before each response [s].
        before: called before each GET request, with the path and the number of earlier ones.
        requests: method and path of all requests.
        bytes_sent: size of all bodies.
    """

    fails_each: int = 0
    sends_etags: bool = True
    ignores_range: bool = False
    latency: float = 0.0
    before: Callable[[Path, int], None] = lambda path, number: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    bytes_sent: int = 0
    url: str = ""


class _Handler:
    def __init__(self, root: Path, behaviour: Behaviour) -> None:
        self.root, self.behaviour, self.number = root, behaviour, count()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        behaviour = self.behaviour
        behaviour.requests.append((request.method, request.path))
        await asyncio.sleep(behaviour.latency)
        path = self.root / request.match_info["path"]
        if not path.is_file():
            return web.Response(status=404)
        number = next(self.number) if request.method == "GET" else -1
        if request.method == "GET":
            behaviour.before(path, number)
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest()[:16]
        headers = {"Accept-Ranges": "bytes"}
        if behaviour.sends_etags:
            headers["ETag"] = f'"{etag}"'
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        fault = ""
        if behaviour.fails_each and number % behaviour.fails_each == behaviour.fails_each - 1:
            faults = ("status", "reset", "short", "whole")
            fault = faults[number // behaviour.fails_each % len(faults)]
        if fault == "status":
            return web.Response(status=503)
        if fault == "reset":
            request.transport.abort()
            return web.Response(status=500)
        start, status = 0, 200
        asked = request.headers.get("Range")
        if asked and not behaviour.ignores_range and fault != "whole":
            first, _, last = asked.removeprefix("bytes=").partition("-")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            start, status = int(first), 206
            content = content[start : int(last) + 1]
        behaviour.bytes_sent += len(content)
        if fault == "short":
            response = web.StreamResponse(
                status=status, headers={**headers, "Content-Length": str(len(content))}
            )
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            request.transport.abort()
            return response
        return web.Response(status=status, body=content, headers=headers)


@contextmanager
def faulty_server(root: Path) -> Iterator[Behaviour]:
    """Serve a directory on a free port; what is given says how, also while it is served."""
    behaviour = Behaviour()
    loop = asyncio.new_event_loop()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", _Handler(root, behaviour).answer)
    runner = web.AppRunner(application, access_log=None)

    async def begin() -> int:
        await runner.setup()
        site = web.TCPSite(runner, HERE, 0)
        await site.start()
        return int(runner.addresses[0][1])

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(begin(), loop).result()
        behaviour.url = f"http://{HERE}:{port}"
        yield behaviour
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
