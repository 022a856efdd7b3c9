"""What servers say of the part that they send."""

import asyncio

import pytest
from margin_cache.storage.door import ObjectChanged, ReadOnly, TransientError, content_range


def test_a_part_is_known_by_its_first_and_last_byte() -> None:
    assert content_range("bytes 5-9/1000") == (5, 9, 1000)


@pytest.mark.parametrize("text", ["", "bytes */1000", "bytes 5-9/*", "5", "bytes 5-9"])
def test_a_part_that_nobody_knows_is_asked_for_again(text: str) -> None:
    with pytest.raises(TransientError):
        content_range(text)


def test_a_changed_object_is_named() -> None:
    words = "https://sky/a: was changed after the run began; start the run again"
    assert str(ObjectChanged("https://sky/a")) == words


def test_what_is_read_alone_is_not_written() -> None:
    door = ReadOnly()
    for work in (door.write("a", b"", None), door.remove("a"), door.abort_uploads("a")):
        with pytest.raises(NotImplementedError):
            asyncio.run(work)
