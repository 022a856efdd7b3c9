"""Files come in their order, with footer and positions; few are fetched ahead."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.parquet import remote_reader
from margin_cache.parquet.remote_reader import RemoteReader
from margin_cache.storage.mirror import Mirror
from margin_cache.storage.remote_file import RemoteFile
from margin_cache.storage.stores import Store
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
def reader(served: Behaviour, tmp_path: Path) -> Iterator[RemoteReader]:
    mirror = Mirror(tmp_path / "mirror", served.url, Store(served.url, {}))
    states = mirror.store.run(mirror.store.states([f"{served.url}/{name}" for name in NAMES]))
    mirror.place({name: state for name, state in zip(NAMES, states) if state is not None})

    def make(path: Path) -> RemoteFile:
        url = f"{served.url}/{path.name}"
        return RemoteFile(mirror.store, url, path, tmp_path / "private" / path.name)

    reader = RemoteReader([mirror.root / name for name in NAMES], ["ra"], make)
    yield reader
    reader.close()
    assert list((tmp_path / "private").iterdir()) == []
    mirror.store.close()


def test_files_come_with_their_positions(reader: RemoteReader, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        file = reader.open(tmp_path / "mirror" / name)
        table = pq.read_table(file.path, columns=["ra"])
        assert table["ra"].to_pylist() == [float(number)] * 9000
        assert file.held < file.size


def test_another_order_is_an_error(reader: RemoteReader, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before"):
        reader.open(tmp_path / "mirror" / NAMES[1])


def test_no_more_bytes_are_ahead_than_allowed(
    reader: RemoteReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (tmp_path / NAMES[0]).stat().st_size
    monkeypatch.setattr(remote_reader, "_AHEAD_BYTES", 2 * size + 100)
    for name in NAMES:
        reader.open(tmp_path / "mirror" / name)
        assert len(reader._coming) <= 2


def test_a_file_that_is_not_parquet_is_left_to_whoever_opens_it(
    reader: RemoteReader, served: Behaviour, tmp_path: Path
) -> None:
    file = reader.open(tmp_path / "mirror" / NAMES[0])
    assert file.size == (tmp_path / NAMES[0]).stat().st_size
    (tmp_path / NAMES[5]).unlink()
    for name in NAMES[1:5]:
        reader.open(tmp_path / "mirror" / name)


def test_a_file_that_is_gone_is_an_error(
    reader: RemoteReader, served: Behaviour, tmp_path: Path
) -> None:
    (tmp_path / NAMES[0]).unlink()
    with pytest.raises(MarginCacheError, match=f"{served.url}/{NAMES[0]}: was changed"):
        reader.open(tmp_path / "mirror" / NAMES[0])
