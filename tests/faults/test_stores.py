"""Stores that fail, and objects that others change: no margin is wrong, or opens half-made."""

from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage import obstore_store
from support.cloud_servers import Cloud
from support.faults import CLEAR_ERROR, LONG, SURVIVED, Tally, sample
from support.faulty_margins import make_margins
from support.faulty_proxy import Passing, faulty_proxy
from support.margins import tree_digest
from support.object_servers import Bucket, nginx
from support.remote_catalogs import NAME, configured, made_on_disk, small_catalogs
from support.stages import release_locks

FAULTS = {
    "error status": ("status",),
    "reset": ("reset",),
    "truncated": ("short",),
    "ignored range": ("whole",),
    "stall": ("stall",),
    "all in turn": ("status", "reset", "short", "whole", "stall"),
}
ANOTHER = b'{"token": "another"}'
DESCRIPTIONS = ("hats.properties", "properties", "catalog_info.json")


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalogs(tmp_path_factory.mktemp("catalogs"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = timedelta(milliseconds=2)
    backoff = {"init_backoff": pause, "max_backoff": pause, "base": 2}
    monkeypatch.setitem(obstore_store.RETRIES, "backoff", backoff)
    monkeypatch.setitem(obstore_store._CLIENT, "read_timeout", "500ms")


@dataclass(frozen=True)
class Web(Bucket):
    """A web server, and the directory that it serves, which margins are written into."""

    root: Path
    protocol: ClassVar[str] = "http"
    options: ClassVar[dict[str, object]] = {}
    anonymous = hats_options = options

    def url(self, name: str) -> str:
        return f"{self.endpoint}/{name}"

    def states(self, name: str) -> dict[str, str]:
        return tree_digest(self.root / name)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(content)

    def remove(self, key: str) -> None:
        (self.root / key).unlink()


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    root = tmp_path_factory.mktemp("web")
    with nginx(root, tmp_path_factory.mktemp("nginx") / "own") as server:
        yield Web(server.url, root)


@pytest.fixture(params=["s3", "gs", "az", "http"])
def server(request: pytest.FixtureRequest) -> Bucket:
    return request.getfixturevalue(request.param)


class Store:
    """A catalog in a store, and the margin that is to be there; both behind a proxy."""

    def __init__(self, server: Bucket, catalogs: Path, directory: Path, proxy: Passing) -> None:
        self._server, self._proxy, self._directory = server, proxy, directory
        server.upload(catalogs / "hats", "faults/sky")
        self._expected = self._undated(made_on_disk(directory / "local", catalogs / "hats", server))
        self._number = 0

    @staticmethod
    def _undated(digests: dict[str, str]) -> dict[str, str]:
        told = ("provenance_info.json", *DESCRIPTIONS)
        return {path: text for path, text in digests.items() if not path.endswith(told)}

    def place(self) -> str:
        return f"faults/{self._directory.name}/{self._number}"

    def outcome(
        self, fault: Callable[[str], object], mend: Callable[[], None] = lambda: None
    ) -> str:
        """What becomes of a margin with a fault, which is told of each stage; then without it."""
        self._number += 1
        place = self.place()
        behind = self._server.through(self._proxy.url)
        config = configured(behind.url("faults/sky"), behind, place)
        if isinstance(behind, Web):
            config |= {"output_path": str(behind.root / place), "output_storage_options": {}}
        else:
            # Credentials are in the environment; on a command line they would be refused.
            options = {"endpoint_url": behind.options["endpoint_url"]}
            config |= {"input_storage_options": options, "output_storage_options": options}
        config["tmp_dir"] = str(self._directory / str(self._number))
        found = self._made(config, fault)
        self._proxy.fails_each = 0
        mend()
        is_open = bool(set(DESCRIPTIONS) & self._server.states(f"{place}/{NAME}").keys())
        if found == CLEAR_ERROR and is_open:
            return "a margin can be opened after an error"
        if found == CLEAR_ERROR:
            config["overwrite"] = True
            again = self._made(config, lambda stage: None)
            if again != SURVIVED:
                return f"the next run: {again}"
        elif found != SURVIVED:
            return found
        made = self._undated(self._server.digests(f"{place}/{NAME}"))
        return found if made == self._expected else "not as without the fault"

    def _made(self, config: dict[str, object], fault: Callable[[str], object]) -> str:
        try:
            with chdir(self._directory):
                make_margins(config, fault)
        except MarginCacheError as error:
            text = str(error)
            return CLEAR_ERROR if "\n" not in text and "://" in text else f"unclear: {text}"
        finally:
            release_locks()
        return SURVIVED


@pytest.fixture
def store(
    server: Bucket, catalogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Store, Passing, Bucket]]:
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    for name, value in (server.environment if isinstance(server, Cloud) else keys).items():
        monkeypatch.setenv(name, value)
    with faulty_proxy(server.endpoint) as proxy:
        yield Store(server, catalogs, tmp_path, proxy), proxy, server


def test_requests_that_fail_make_no_wrong_margin(
    store: tuple[Store, Passing, Bucket], tally: Callable[[str], Tally]
) -> None:
    """One of three requests, of six, or all of them from some stage on."""
    made, proxy, server = store
    cases = [(fault, each) for fault in FAULTS for each in (3, 6, 1)]
    for fault, each in sample(cases, 2, f"requests to {server.protocol}"):
        counted = tally(f"{server.protocol}, {fault}")

        def fails(stage: str, fault: str = fault, each: int = each) -> None:
            if each > 1 or stage == "map":
                proxy.faults, proxy.fails_each = FAULTS[fault], each

        counted.add(f"one of {each}", made.outcome(fails))


def test_objects_that_others_change_make_no_wrong_margin(
    store: tuple[Store, Passing, Bucket], tally: Callable[[str], Tally], catalogs: Path
) -> None:
    """Objects of the catalog during a run, and the lock of the margin before it is written."""
    made, _, server = store
    files = sorted((catalogs / "hats").rglob("Npix=*"))
    for file in sample(files, 1, f"objects in {server.protocol}"):
        key, content = f"faults/sky/{file.relative_to(catalogs / 'hats')}", file.read_bytes()
        other = content[:9] + bytes([content[9] ^ 1]) + content[10:]
        outcome = made.outcome(
            lambda stage, key=key, other=other: stage == "map" and server.write(key, other),
            lambda key=key, content=content: server.write(key, content),
        )
        tally(f"{server.protocol}, changed object").add(key, outcome)

    if isinstance(server, Web):
        return

    def lock() -> str:
        return f"{made.place()}/{NAME}/.being_made.json"

    for late in ("finish", "map") if LONG else ("finish",):
        outcome = made.outcome(
            lambda stage, late=late: stage == late and server.write(lock(), ANOTHER),
            lambda: server.remove(lock()),
        )
        tally(f"{server.protocol}, lock of another run").add(late, outcome)
