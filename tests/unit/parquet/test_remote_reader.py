"""Ranges of remote files are fetched once; footers and positions of the next files ahead."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.parquet import remote_reader
from margin_cache.parquet.remote_reader import RemoteFile, RemoteReader, Requests
from margin_cache.storage.object_store import ObjectChanged, connect
from margin_cache.storage.remote_files import RemoteFiles
from support.faulty_server import Behaviour, faulty_server

NAMES = [f"file{number}" for number in range(6)]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Behaviour]:
    for number, name in enumerate(NAMES):
        table = pa.table({"ra": [float(number)] * 9000, "other": range(9000)})
        pq.write_table(table, tmp_path / name, compression="none", use_dictionary=False)
    with faulty_server(tmp_path) as server:
        yield server


@pytest.fixture
def files(served: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteFiles:
    monkeypatch.chdir(tmp_path)
    store = connect(served.url, {})
    return RemoteFiles(served.url, store.states(NAMES), lambda: store)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is so small that it is fetched whole."""
    monkeypatch.setattr(remote_reader, "_WHOLE_BYTES", 0)


@pytest.fixture
def reader(files: RemoteFiles, tmp_path: Path) -> Iterator[RemoteReader]:
    reader = RemoteReader(files, NAMES, ["ra"], tmp_path / "private")
    yield reader
    reader.close()
    assert not (tmp_path / "private").exists()


@pytest.mark.usefixtures("in_parts")
def test_files_come_with_their_positions(reader: RemoteReader) -> None:
    for number, name in enumerate(NAMES):
        file = reader.open(name)
        table = pq.read_table(file.path, columns=["ra"])
        assert table["ra"].to_pylist() == [float(number)] * 9000
        assert file.bytes_on_disk < file.size


def test_small_files_come_whole_by_one_request(
    files: RemoteFiles, reader: RemoteReader, served: Behaviour, tmp_path: Path
) -> None:
    """But for footers that were read before: no byte is fetched twice."""
    files.footer(NAMES[0])
    before = len(served.requests)
    for number, name in enumerate(NAMES):
        file = reader.open(name)
        file.fetch_rows(np.arange(9000))
        file.wait()
        assert file.path.read_bytes() == (tmp_path / name).read_bytes()
        assert file.parquet.read(["ra"])["ra"].to_pylist() == [float(number)] * 9000
    assert len(served.requests) - before == len(NAMES)
    assert served.bytes_sent == sum((tmp_path / name).stat().st_size for name in NAMES)


def test_another_order_is_an_error(reader: RemoteReader) -> None:
    with pytest.raises(ValueError, match="before"):
        reader.open(NAMES[1])


def test_prefetching_is_limited(
    reader: RemoteReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (tmp_path / NAMES[0]).stat().st_size
    monkeypatch.setattr(remote_reader, "_AHEAD_BYTES", 2 * size + 100)
    for name in NAMES:
        reader.open(name)
        assert len(reader._ahead) <= 2


@pytest.mark.usefixtures("in_parts")
def test_footers_that_were_read_before_are_not_fetched(
    files: RemoteFiles, reader: RemoteReader, served: Behaviour
) -> None:
    for name in NAMES:
        files.footer(name)
    sent = served.bytes_sent
    assert sent < 6 * 2000
    for name in NAMES:
        file = reader.open(name)
    assert served.bytes_sent - sent < 6 * file.size / 2


def test_a_file_that_is_not_parquet_is_named_by_its_url(
    files: RemoteFiles, served: Behaviour, tmp_path: Path
) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"x" * 5000)
    other = RemoteFiles(served.url, files.store.states(NAMES), lambda: files.store)
    reader = RemoteReader(other, NAMES[:1], ["ra"], tmp_path / "private")
    with pytest.raises(MarginCacheError, match=f"^{served.url}/{NAMES[0]}: cannot be read"):
        reader.open(NAMES[0])
    reader.close()


def test_removed_object_is_an_error(
    reader: RemoteReader, served: Behaviour, tmp_path: Path
) -> None:
    (tmp_path / NAMES[0]).unlink()
    with pytest.raises(MarginCacheError, match=f"{served.url}/{NAMES[0]}: changed"):
        reader.open(NAMES[0])


OBJECT = np.random.default_rng(1).bytes(300_000)


@pytest.fixture
def object_server(tmp_path: Path) -> Iterator[Behaviour]:
    (tmp_path / "object").write_bytes(OBJECT)
    with faulty_server(tmp_path) as server:
        yield server


@pytest.fixture
def opened(
    object_server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_parts: None
) -> Iterator[RemoteFile]:
    monkeypatch.chdir(tmp_path)
    store = connect(object_server.url, {})
    files = RemoteFiles(object_server.url, store.states(["object"]), lambda: store)
    requests = Requests()
    (tmp_path / "private").write_bytes(bytes(len(OBJECT)))
    file = RemoteFile(files, "object", tmp_path / "private", requests)
    yield file
    requests.close()
    file.close()
    file.close()


def test_ranges_are_at_their_offsets_and_the_rest_is_empty(
    opened: RemoteFile, object_server: Behaviour
) -> None:
    opened.fetch([(1000, 2500), (100_000, 150_000)])
    opened.fetch([(1000, 2500)])
    opened.wait()
    expected = bytearray(len(OBJECT))
    for start, end in ((1000, 2500), (100_000, 150_000)):
        expected[start:end] = OBJECT[start:end]
    assert opened.path.read_bytes() == expected
    assert object_server.bytes_sent == opened.bytes_on_disk == 51_500


def test_no_byte_is_fetched_twice(
    opened: RemoteFile, object_server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_reader, "_REQUEST_BYTES", 10_000)
    rng = np.random.default_rng(2)
    cuts = np.unique([0, *rng.integers(0, len(OBJECT), 30), len(OBJECT)]).tolist()
    ranges = list(pairwise(cuts))
    for number in rng.integers(0, len(ranges), 20).tolist():
        opened.fetch([ranges[number]])
    opened.fetch(ranges)
    opened.wait()
    assert opened.path.read_bytes() == OBJECT
    assert object_server.bytes_sent == len(OBJECT)


def test_changed_object_is_not_read(opened: RemoteFile, tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(hashlib.sha256(OBJECT).digest())
    opened.fetch([(0, 10)])
    with pytest.raises(ObjectChanged):
        opened.wait()


def test_closing_deletes_the_file_during_a_download(
    opened: RemoteFile, object_server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that have not begun are not made, and those of other files still are."""
    monkeypatch.setattr(remote_reader, "_REQUEST_BYTES", 10_000)
    object_server.latency = 0.2
    before = len(object_server.requests)
    opened.fetch([(0, len(OBJECT))])
    opened.close()
    assert not opened.path.exists()
    opened._requests.submit(1, lambda: None).result(timeout=10)
    assert len(object_server.requests) - before <= 2


def test_more_requests_are_made_at_once_while_the_job_waits(
    opened: RemoteFile, object_server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of earlier files come first."""
    monkeypatch.setattr(remote_reader, "_REQUEST_BYTES", 10_000)
    object_server.latency = 0.2
    requests = opened._requests
    opened.fetch([(0, len(OBJECT))])
    assert len(requests._threads) == 2
    earlier = requests.submit(-1, lambda: None)
    requests.wait(earlier)
    assert sum(fetch.done() for fetch in opened._fetches.values()) < 20
    opened.wait()
    assert 2 < len(requests._threads) <= 16
    assert opened.path.read_bytes() == OBJECT
