"""The error that users see as one line is an error of its own."""

import pytest
from margin_cache import errors
from margin_cache.errors import MarginCacheError, show_as, with_urls


def test_the_error_says_what_it_was_given_and_is_none_of_python_s_own() -> None:
    assert str(MarginCacheError("a.parquet: is damaged")) == "a.parquet: is damaged"
    # One that also was an OSError or a ValueError would be caught by mistake.
    assert MarginCacheError.__bases__ == (Exception,)


def test_paths_are_named_as_users_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_names", {})
    error = MarginCacheError("listing/1/a: is damaged, as is listing/1/b/c, not listing/2")
    show_as("listing/1", "s3://sky")
    show_as("listing/1/b", "s3://other")
    assert str(error) == "s3://sky/a: is damaged, as is s3://other/c, not listing/2"
    assert with_urls("listing/1") == "s3://sky"
    for other in ("a/listing/1", "listing/12", "listing/1.b"):
        assert with_urls(f"see {other}") == f"see {other}"
