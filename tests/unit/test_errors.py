"""The error that users see as one line is an error of its own."""

from margin_cache.errors import MarginCacheError


def test_the_error_says_what_it_was_given_and_is_none_of_python_s_own() -> None:
    assert str(MarginCacheError("a.parquet: is damaged")) == "a.parquet: is damaged"
    # One that also was an OSError or a ValueError would be caught by mistake.
    assert MarginCacheError.__bases__ == (Exception,)
