"""States of objects, and checks of what servers send."""

import asyncio

import pytest
from margin_cache.storage.old_fsspec_store import FsspecStore
from margin_cache.storage.old_object_store import (
    ObjectChanged,
    ObjectState,
    TransientError,
    check_content_range,
)


def test_content_range_returns_the_size() -> None:
    assert check_content_range("bytes 5-9/1000", 5, 10) == 1000


@pytest.mark.parametrize(
    "text", ["", "bytes */1000", "bytes 5-9/*", "5", "bytes 5-9", "bytes 6-9/1000"]
)
def test_missing_or_wrong_content_range_is_transient(text: str) -> None:
    with pytest.raises(TransientError):
        check_content_range(text, 5, 10)


def test_content_range_of_a_shorter_object_passes() -> None:
    assert check_content_range("bytes 5-7/8", 5, 10) == 8


def test_changed_object_is_named() -> None:
    message = "https://sky/a: changed after the run began. Start the run again."
    assert str(ObjectChanged("https://sky/a")) == message


def test_read_only_stores_do_not_write() -> None:
    store = object.__new__(FsspecStore)
    for call in (store.write("a", b"", None), store.remove("a"), store.abort_uploads("a")):
        with pytest.raises(NotImplementedError):
            asyncio.run(call)


def test_etags_become_distinct_times_in_whole_seconds() -> None:
    times = {ObjectState(5, f'"{number}"').stamp.mtime_ns for number in range(1000)}
    assert len(times) == 1000
    assert all(time % 10**9 == 0 for time in times)
    assert min(times) >= 315_532_800 * 10**9
    assert max(times) < 1_400_000_000 * 10**9
