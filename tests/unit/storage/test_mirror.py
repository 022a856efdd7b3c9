"""Mirrors have the sizes and states of what they mirror, and hardly any content."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.storage.door import ObjectChanged
from margin_cache.storage.mirror import Mirror, footer_in, footer_start, state_of
from margin_cache.storage.object_state import ObjectState
from margin_cache.storage.stores import Store
from support.faulty_server import Behaviour, faulty_server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Behaviour]:
    (tmp_path / "sky").mkdir()
    with faulty_server(tmp_path) as server:
        yield server


@pytest.fixture
def mirror(served: Behaviour, tmp_path: Path) -> Iterator[Mirror]:
    mirror = Mirror(tmp_path / "mirror", f"{served.url}/sky/", Store(served.url, {}))
    yield mirror
    mirror.store.close()


def states(mirror: Mirror, *names: str) -> dict[str, ObjectState]:
    found = mirror.store.run(mirror.store.states([f"{mirror.url}/{name}" for name in names]))
    return {name: state for name, state in zip(names, found) if state is not None}


def test_placed_files_are_holes_with_the_states_of_their_objects(mirror: Mirror) -> None:
    state = ObjectState(10**9, "mark")
    mirror.place({"Norder=0/Npix=1.parquet": state})
    path = mirror.root / "Norder=0/Npix=1.parquet"
    assert state_of(path) == (10**9, state.time)
    assert path.stat().st_blocks < 100
    assert footer_in(path) == []
    made = path.stat().st_ino
    mirror.place({"Norder=0/Npix=1.parquet": state})
    assert path.stat().st_ino == made
    mirror.place({"Norder=0/Npix=1.parquet": ObjectState(10**9, "other")})
    assert state_of(path) == (10**9, ObjectState(0, "other").time)


def test_small_files_are_fetched_when_they_have_changed(
    mirror: Mirror, served: Behaviour, tmp_path: Path
) -> None:
    (tmp_path / "sky/properties").write_text("a=b\n")
    for expected in (1, 0):
        served.requests.clear()
        mirror.keep_small(states(mirror, "properties"))
        assert [method for method, _ in served.requests].count("GET") == expected
    assert (mirror.root / "properties").read_text() == "a=b\n"
    (tmp_path / "sky/properties").write_text("a=c\n")
    mirror.keep_small(states(mirror, "properties"))
    assert (mirror.root / "properties").read_text() == "a=c\n"


def test_files_of_objects_that_are_gone_are_removed(mirror: Mirror) -> None:
    state = ObjectState(5, "mark")
    mirror.place({"a/b": state, "a/c": state, "d/e": state, "f/.g.0123456789ab.tmp": state})
    mirror.remove_others(["a/b"])
    found = {path.relative_to(mirror.root).as_posix() for path in mirror.root.rglob("*")}
    assert found == {"a", "a/b", "f", "f/.g.0123456789ab.tmp"}


def test_a_footer_is_fetched_once_and_keeps_the_state(
    mirror: Mirror, served: Behaviour, tmp_path: Path
) -> None:
    table = pa.table({"a": range(5000)})
    pq.write_table(table, tmp_path / "sky/file")
    mirror.place(states(mirror, "file"))
    path = mirror.root / "file"
    before = state_of(path)
    mirror.fetch_footer(path)
    assert pq.read_metadata(path).num_rows == 5000
    assert state_of(path) == before
    sent = served.bytes_sent
    assert sent < 1500
    mirror.fetch_footer(path)
    assert served.bytes_sent == sent
    chunk = pq.read_metadata(path).row_group(0).column(0)
    start = chunk.dictionary_page_offset
    part = (start, start + chunk.total_compressed_size)
    mirror.fetch(path, [part])
    assert pq.read_table(path) == table
    assert state_of(path) == before
    sent = served.bytes_sent
    mirror.fetch(path, [part])
    assert served.bytes_sent == sent


def test_a_file_that_has_changed_or_is_gone_is_not_fetched(mirror: Mirror, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "sky/file")
    mirror.place(states(mirror, "file"))
    pq.write_table(pa.table({"a": [2]}), tmp_path / "sky/file")
    with pytest.raises(ObjectChanged, match=f"^{mirror.url}/file: was changed"):
        mirror.fetch_footer(mirror.root / "file")
    (mirror.root / "file").unlink()
    with pytest.raises(ObjectChanged, match=f"^{mirror.url}/file: was changed"):
        state_of(mirror.root / "file")


@pytest.mark.parametrize("size", [0, 1, 8, 9, 100])
def test_what_is_no_parquet_file_has_a_footer_within_it(size: int, tmp_path: Path) -> None:
    tail = b"\xff" * 8
    assert 0 <= footer_start(tail, max(size, 8)) <= max(size, 8)
    (tmp_path / "file").write_bytes(os.urandom(size))
    assert all(0 <= start <= end == size for start, end in footer_in(tmp_path / "file"))
