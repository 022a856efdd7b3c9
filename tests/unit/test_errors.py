"""The error that users see as one line is an error of its own."""

import pytest
from margin_cache import errors
from margin_cache.errors import MarginCacheError, call, in_users_words


def test_the_error_says_what_it_was_given_and_is_none_of_python_s_own() -> None:
    assert str(MarginCacheError("a.parquet: is damaged")) == "a.parquet: is damaged"
    # One that also was an OSError or a ValueError would be caught by mistake.
    assert MarginCacheError.__bases__ == (Exception,)


def test_paths_are_named_as_users_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_names", {})
    error = MarginCacheError("mirror/1/a: is damaged, as is mirror/1/b/c, not mirror/2")
    call("mirror/1", "s3://sky")
    call("mirror/1/b", "s3://other")
    assert str(error) == "s3://sky/a: is damaged, as is s3://other/c, not mirror/2"
    assert in_users_words("mirror/1") == "s3://sky"
    for other in ("a/mirror/1", "mirror/12", "mirror/1.b"):
        assert in_users_words(f"see {other}") == f"see {other}"
