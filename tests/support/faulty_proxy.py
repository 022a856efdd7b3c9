"""A proxy in front of an object store for tests: it counts bytes, and fails on request."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import aiohttp
from aiohttp import web

HERE = "127.0.0.1"
_STALL_SECONDS = 2
_DROPPED = {"transfer-encoding", "content-length", "connection", "date", "server"}


@dataclass
class Passing:
    """Settings and counters of the proxy.

    Attributes:
        url: its address.
        fails_each: one of this many requests fails; 0 for none.
        faults: these take turns: an error status without asking the server, a reset after its
            response, a body that is too short, the whole file instead of a range; or a stall.
        is_down: fail all requests with an error status.
        refuses_lists: answer lists of objects as buckets that must not be listed.
        refuses_conditions: answer conditional requests as a store that does not know them.
        latency: time before each response [s].
        requests: number of requests.
        failed: number of failed requests.
        bytes_down: bytes of object contents that were sent, by the objects' paths.
        bytes_up: size of the bodies of all requests.
    """

    url: str = ""
    fails_each: int = 0
    faults: tuple[str, ...] = ("status", "reset", "short", "whole")
    is_down: bool = False
    refuses_lists: bool = False
    refuses_conditions: bool = False
    latency: float = 0.0
    requests: int = 0
    failed: int = 0
    bytes_down: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0


class _Handler:
    def __init__(self, target: str, passing: Passing) -> None:
        self.target, self.passing, self.number = target, passing, count(1)
        self.session: aiohttp.ClientSession | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        passing = self.passing
        passing.requests += 1
        await asyncio.sleep(passing.latency)
        body = await request.read()
        passing.bytes_up += len(body)
        fault = ""
        if passing.fails_each and next(self.number) % passing.fails_each == 0:
            fault = passing.faults[passing.failed % len(passing.faults)]
            passing.failed += 1
        if fault == "stall":
            await asyncio.sleep(_STALL_SECONDS)
        if fault in ("status", "stall") or passing.is_down:
            return web.Response(status=503)
        if passing.refuses_conditions and {"If-None-Match", "If-Match"} & request.headers.keys():
            return web.Response(status=501)
        is_list = {"list-type", "comp"} & request.query.keys() or request.path.endswith("/o")
        if passing.refuses_lists and request.method == "GET" and is_list:
            return web.Response(status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host",)}
        if fault == "whole" and headers.pop("Range", None) and "x-ms-date" in headers:
            headers.pop("Authorization")  # Azure signs the range, and everyone can read the bucket
        if self.session is None:
            self.session = aiohttp.ClientSession(auto_decompress=False)
        async with self.session.request(
            request.method,
            self.target + request.raw_path,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),  # which Azure signs
        ) as answer:
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _DROPPED}
            length = answer.headers.get("Content-Length", str(len(content)))
        if fault == "reset":
            request.transport.abort()
            return web.Response(status=500)
        if request.method == "GET" and "list-type" not in request.query:
            passing.bytes_down[request.path] += len(content)
        if request.method == "HEAD":
            kept["Content-Length"] = length
            return web.Response(status=answer.status, headers=kept)
        if fault == "short" and len(content) > 1:
            kept["Content-Length"] = str(len(content))
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            request.transport.abort()
            return response
        return web.Response(status=answer.status, body=content, headers=kept)

    async def close(self) -> None:
        if self.session is not None:
            await self.session.close()


@contextmanager
def faulty_proxy(target: str) -> Iterator[Passing]:
    """Pass requests on to a server; what is given says how, also while it is at work."""
    passing = Passing()
    loop = asyncio.new_event_loop()
    handler = _Handler(target, passing)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", handler.answer)
    runner = web.AppRunner(application, access_log=None)

    async def begin() -> int:
        await runner.setup()
        await web.TCPSite(runner, HERE, 0).start()
        return int(runner.addresses[0][1])

    async def end() -> None:
        await handler.close()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        passing.url = f"http://{HERE}:{asyncio.run_coroutine_threadsafe(begin(), loop).result()}"
        yield passing
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
