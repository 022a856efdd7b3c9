"""Files of a local listing have the sizes and stamps of their objects, and content on request."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.storage import local_listing
from margin_cache.storage.local_listing import (
    ByteRange,
    LocalListing,
    fetch_footer,
    fetch_ranges,
    footer_on_disk,
    footer_start,
    is_object_version,
    listed_stamp,
    register_listing,
)
from margin_cache.storage.old_object_store import ObjectChanged, ObjectState
from margin_cache.storage.store_client import StoreClient
from support.faulty_server import Behaviour, faulty_server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Behaviour]:
    (tmp_path / "sky").mkdir()
    with faulty_server(tmp_path) as server:
        yield server


@pytest.fixture
def listing(served: Behaviour, tmp_path: Path) -> Iterator[LocalListing]:
    listing = LocalListing(tmp_path / "listing", f"{served.url}/sky/", StoreClient(served.url, {}))
    yield listing
    listing.store.close()


def states(listing: LocalListing, *names: str) -> dict[str, ObjectState]:
    found = listing.store.run(listing.store.states([f"{listing.url}/{name}" for name in names]))
    return {name: state for name, state in zip(names, found) if state is not None}


def test_added_files_are_sparse_and_have_the_stamps_of_their_objects(listing: LocalListing) -> None:
    state = ObjectState(10**9, "etag")
    listing.add({"Norder=0/Npix=1.parquet": state})
    path = listing.root / "Norder=0/Npix=1.parquet"
    assert listed_stamp(path) == state.stamp
    assert path.stat().st_blocks < 100
    assert footer_on_disk(path) is None
    made = path.stat().st_ino
    listing.add({"Norder=0/Npix=1.parquet": state})
    assert path.stat().st_ino == made
    listing.add({"Norder=0/Npix=1.parquet": ObjectState(10**9, "other")})
    assert listed_stamp(path) == ObjectState(10**9, "other").stamp


def test_downloaded_files_are_downloaded_again_when_changed(
    listing: LocalListing, served: Behaviour, tmp_path: Path
) -> None:
    (tmp_path / "sky/properties").write_text("a=b\n")
    for expected in (1, 0):
        served.requests.clear()
        listing.download(states(listing, "properties"))
        assert [method for method, _ in served.requests].count("GET") == expected
    assert (listing.root / "properties").read_text() == "a=b\n"
    (tmp_path / "sky/properties").write_text("a=c\n")
    listing.download(states(listing, "properties"))
    assert (listing.root / "properties").read_text() == "a=c\n"


def test_files_of_removed_objects_are_removed(listing: LocalListing) -> None:
    state = ObjectState(5, "etag")
    listing.add({"a/b": state, "a/c": state, "d/e": state, "f/.g.0123456789ab.tmp": state})
    listing.remove_others(["a/b"])
    found = {path.relative_to(listing.root).as_posix() for path in listing.root.rglob("*")}
    assert found == {"a", "a/b", "f", "f/.g.0123456789ab.tmp"}


def test_footer_and_ranges_are_fetched_once_and_keep_the_stamp(
    listing: LocalListing, served: Behaviour, tmp_path: Path
) -> None:
    table = pa.table({"a": range(5000)})
    pq.write_table(table, tmp_path / "sky/file")
    listing.add(states(listing, "file"))
    path = listing.root / "file"
    before = listed_stamp(path)
    listing.fetch_footer(path)
    assert pq.read_metadata(path).num_rows == 5000
    assert listed_stamp(path) == before
    sent = served.bytes_sent
    assert sent < 1500
    listing.fetch_footer(path)
    assert served.bytes_sent == sent
    chunk = pq.read_metadata(path).row_group(0).column(0)
    start = chunk.dictionary_page_offset
    part = (start, start + chunk.total_compressed_size)
    listing.fetch_ranges(path, [part])
    assert pq.read_table(path) == table
    assert listed_stamp(path) == before
    sent = served.bytes_sent
    listing.fetch_ranges(path, [part])
    assert served.bytes_sent == sent


def test_changed_and_removed_objects_are_not_fetched(listing: LocalListing, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "sky/file")
    listing.add(states(listing, "file"))
    pq.write_table(pa.table({"a": [2]}), tmp_path / "sky/file")
    with pytest.raises(ObjectChanged, match=f"^{listing.url}/file: changed"):
        listing.fetch_footer(listing.root / "file")
    (listing.root / "file").unlink()
    with pytest.raises(ObjectChanged, match=f"^{listing.url}/file: changed"):
        listed_stamp(listing.root / "file")


@pytest.mark.parametrize("size", [0, 1, 8, 9, 100])
def test_footer_of_any_file_is_inside_it(size: int, tmp_path: Path) -> None:
    tail = b"\xff" * 8
    assert 0 <= footer_start(tail, max(size, 8)) <= max(size, 8)
    (tmp_path / "file").write_bytes(os.urandom(size))
    footer = footer_on_disk(tmp_path / "file")
    assert footer is None or 0 <= footer[0] <= footer[1] == size


class Recorder:
    root = Path("listing/sky")

    def __init__(self) -> None:
        self.calls: list[object] = []

    def fetch_footer(self, path: Path) -> None:
        self.calls.append(path.name)

    def fetch_ranges(self, path: Path, ranges: list[ByteRange]) -> None:
        self.calls.append((path.name, ranges))


def test_only_files_of_registered_listings_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_listing, "_listings", [])
    recorder: Any = Recorder()
    fetch_footer(Path("listing/sky/a"))
    register_listing(recorder)
    for path in ("listing/sky/b", "listing/sky2/c", "sky/d"):
        fetch_footer(Path(path))
        fetch_ranges(Path(path), [(1, 2)])
    assert recorder.calls == ["b", ("b", [(1, 2)])]


def test_file_represents_an_object_of_its_size_and_etag(tmp_path: Path) -> None:
    file = tmp_path / "object"
    assert not is_object_version(file, 5, '"a"')
    file.write_bytes(b"12345")
    assert not is_object_version(file, 5, '"a"')
    time = ObjectState(5, '"a"').stamp.mtime_ns
    os.utime(file, ns=(time, time))
    assert is_object_version(file, 5, '"a"')
    assert not is_object_version(file, 5, '"b"')
    assert not is_object_version(file, 4, '"a"')
