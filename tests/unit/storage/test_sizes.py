"""Numbers of bytes are short and have their unit."""

import pytest
from margin_cache.storage.sizes import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1000, "1 kB"),
        (3_857_414, "3.86 MB"),
        (999_400_000, "999 MB"),
        (999_600_000, "1 GB"),
        (2.5e12, "2.5 TB"),
        (1e17, "100 PB"),
    ],
)
def test_a_size_has_few_digits(size: float, text: str) -> None:
    assert size_text(size) == text
