"""Parts of remote files are fetched once, at their places, and leave nothing behind."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from margin_cache.storage import remote_file
from margin_cache.storage.door import ObjectChanged
from margin_cache.storage.mirror import Mirror
from margin_cache.storage.remote_file import RemoteFile, joined_ranges
from margin_cache.storage.stores import Store
from support.faulty_server import Behaviour

CONTENT = np.random.default_rng(1).bytes(300_000)

RANGES = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)).map(lambda p: (p[0], p[0] + p[1]))
)


@pytest.fixture
def opened(served: Behaviour, tmp_path: Path) -> Iterator[RemoteFile]:
    mirror = Mirror(tmp_path / "mirror", served.url, Store(served.url, {}))
    (state,) = mirror.store.run(mirror.store.states([f"{served.url}/object"]))
    assert state is not None
    mirror.place({"object": state})
    url, mirrored = f"{served.url}/object", tmp_path / "mirror/object"
    file = RemoteFile(mirror.store, url, mirrored, tmp_path / "private/object")
    yield file
    file.close()
    file.close()
    mirror.store.close()


def test_parts_are_at_their_places_and_the_rest_is_empty(
    opened: RemoteFile, served: Behaviour
) -> None:
    opened.need([(1000, 2000), (100_000, 150_000), (1500, 2500)])
    expected = bytearray(len(CONTENT))
    for start, end in ((1000, 2500), (100_000, 150_000)):
        expected[start:end] = CONTENT[start:end]
    assert opened.path.read_bytes() == expected
    assert served.bytes_sent == opened.held == 51_500


def test_no_byte_is_fetched_twice(
    opened: RemoteFile, served: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "_PART_BYTES", 10_000)
    rng = np.random.default_rng(2)
    for start in rng.integers(0, len(CONTENT), 30).tolist():
        opened.want([(start, min(start + 20_000, len(CONTENT)))])
    opened.need_footer()
    opened.need([(0, len(CONTENT))])
    assert opened.path.read_bytes() == CONTENT
    assert served.bytes_sent == len(CONTENT)


def test_a_file_that_has_changed_is_not_read(opened: RemoteFile, tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(hashlib.sha256(CONTENT).digest())
    with pytest.raises(ObjectChanged):
        opened.need([(0, 10)])


def test_closing_deletes_it_whatever_is_under_way(opened: RemoteFile, served: Behaviour) -> None:
    served.latency = 0.2
    opened.want([(0, len(CONTENT))])
    opened.close()
    assert not opened.path.exists()


@given(RANGES)
def test_joined_ranges_cover_the_same_and_lie_apart(ranges: list[tuple[int, int]]) -> None:
    joined = joined_ranges(ranges)
    for start, end in ranges:
        assert start == end or any(low <= start and end <= high for low, high in joined)
    for (_, end), (start, _) in pairwise(joined):
        assert start - end > 16 << 10
    assert {start for start, _ in joined} <= {start for start, _ in ranges}
    assert {end for _, end in joined} <= {end for _, end in ranges}
