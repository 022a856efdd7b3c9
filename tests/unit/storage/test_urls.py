"""URLs of directories are accepted, and others refused."""

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import (
    canonical_url,
    check_url,
    is_url,
    join_url,
    protocol_of,
)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://example.org/sky", True),
        ("S3://bucket/sky", True),
        ("simplecache::s3://bucket", True),
        ("/data/sky", False),
        ("data/a:b", False),
        ("~/sky", False),
        ("sky://", True),
        ("s3:/bucket/sky", True),
        ("./s3:/bucket/sky", False),
        ("://sky", False),
    ],
)
def test_urls_are_told_from_paths(location: str, expected: bool) -> None:
    assert is_url(location) is expected


def test_the_protocol_is_in_lower_case() -> None:
    assert protocol_of("S3://bucket/sky") == "s3"
    with pytest.raises(ValueError, match="no URL"):
        protocol_of("/sky")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3a://Bucket//sky/", "s3://Bucket/sky"),
        ("s3://bucket/./sky/.", "s3://bucket/sky"),
        ("GCS://bucket", "gs://bucket"),
        ("abfss://c@account.dfs.core.windows.net/a", "abfs://c@account.dfs.core.windows.net/a"),
        ("HTTPS://Example.org/Sky", "https://example.org/Sky"),
    ],
)
def test_urls_of_one_place_are_equal(url: str, expected: str) -> None:
    assert canonical_url(url) == expected == canonical_url(expected)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/sky",
        "http://127.0.0.1:80/a%20b",
        "http://[2001:db8:0:0:0:0:0:1]:80/sky",
        "s3://bucket/a@b:c/sky",
        "s3://bucket/x/Norder=1",
        "abfss://container@account.dfs.core.windows.net/sky",
    ],
)
def test_plain_urls_are_accepted(url: str) -> None:
    check_url("key", url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:s3cret@example.org/sky", "key: https://... has a user"),
        ("https://s3cret@example.org/sky", "key: https://... has a user"),
        ("https://a:b@s3cret@example.org/", "key: https://... has a user"),
        ("https://me:s3cret@example.org:80/", "key: https://... has a user"),
        ("https://me:a/s3cret@example.org/sky", "key: https://... has a user"),
        ("https://me:s3cret?a@example.org/sky", "key: https://... has a user"),
        ("https://me:s3cret#a@example.org/sky", "key: https://... has a user"),
        ("s3a://KEY:1/s3cret+a@bucket/sky", "key: s3a://... has a user"),
        ("abfss://me:a/s3cret@account.dfs.core.windows.net/sky", "key: abfss://... has a user"),
        ("https://example.org/sky?s3cret", "key: https://example.org/sky has a query or fragment"),
        ("https://example.org/sky#s3cret", "key: https://example.org/sky has a query or fragment"),
        ("https://example.org/sky?", "key: https://example.org/sky has a query or fragment"),
        ("simplecache::s3://bucket/sky", "has :: or .. or control characters in it"),
        ("s3://bucket/a\nb", "has :: or .. or control characters in it"),
        ("https://example.org/sky/../other", "has :: or .. or control characters in it"),
        ("file:///sky", "without file://"),
        ("s3:///sky", "lacks :// with a server or bucket"),
        ("s3:/bucket/sky", "key: s3:/bucket/sky lacks :// with a server"),
        ("https://[s3cret", "is not a URL"),
    ],
)
def test_other_urls_are_refused_without_repeating_secrets(url: str, words: str) -> None:
    with pytest.raises(MarginCacheError) as error:
        check_url("key", url)
    assert words in str(error.value)
    assert "s3cret" not in str(error.value).replace("https://[s3cret", "")


def test_urls_are_joined_with_one_slash() -> None:
    assert (
        join_url("s3://b/sky/", "Norder=1")
        == join_url("s3://b/sky", "Norder=1")
        == ("s3://b/sky/Norder=1")
    )
    assert join_url("s3://b/sky/", "") == join_url("s3://b/sky", ".") == "s3://b/sky"
