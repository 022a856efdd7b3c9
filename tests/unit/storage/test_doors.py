"""Drivers are found, or named if they are missing."""

import pytest
from margin_cache.errors import MarginCacheError
from support.doors import asked


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gs://bucket/sky", "the package gcsfs is needed; install it"),
        ("abfs://bucket/sky", "the package adlfs is needed; install it"),
        ("nowhere://bucket/sky", "fsspec has no driver for it"),
    ],
)
def test_a_driver_that_is_missing_is_named(url: str, words: str) -> None:
    with pytest.raises(MarginCacheError) as error:
        asked(url, lambda door: door.state(url))
    assert words in str(error.value)


def test_options_that_a_driver_does_not_take_are_not_repeated() -> None:
    url = "memory://doors"
    with pytest.raises(MarginCacheError, match="input_storage_options") as error:
        asked("http://127.0.0.1/", lambda door: door.state(url), {"client_kwargs": 5})
    assert "5" not in str(error.value)


def test_keys_of_the_output_are_blamed_for_it() -> None:
    with pytest.raises(MarginCacheError, match=r"^output_path: gs://sky is reached by gs"):
        asked("gs://sky", lambda door: door.state("gs://sky"), side="output")
    with pytest.raises(MarginCacheError, match=r"^output_storage_options: are not taken"):
        url = "http://127.0.0.1/"
        asked(url, lambda door: door.state(url), {"client_kwargs": 5}, side="output")
