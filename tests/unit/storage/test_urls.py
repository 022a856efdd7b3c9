"""URLs of directories are accepted, others refused, and each has its local listing."""

from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import (
    canonical_url,
    check_url,
    is_file_path,
    is_url,
    join_url,
    listing_dir,
    local_path,
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
        "s3://bucket/x/Norder=1",
        "abfss://container@account.dfs.core.windows.net/sky",
    ],
)
def test_plain_urls_are_accepted(url: str) -> None:
    check_url("key", url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:s3cret@example.org/sky", "key: https://example.org/sky has a user"),
        ("https://s3cret@example.org/sky", "key: https://example.org/sky has a user"),
        ("https://a:b@s3cret@example.org/", "key: https://example.org/ has a user"),
        ("https://example.org/sky?s3cret", "key: https://example.org/sky has a query or fragment"),
        ("https://example.org/sky#s3cret", "key: https://example.org/sky has a query or fragment"),
        ("https://example.org/sky?", "key: https://example.org/sky has a query or fragment"),
        ("simplecache::s3://bucket/sky", "a chain of URLs"),
        ("file:///sky", "without file://"),
        ("s3:///sky", "has no server or bucket"),
        ("https://example.org/sky/../other", "has .. in its path"),
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


def test_listing_dir_depends_on_the_address_and_not_on_credentials() -> None:
    directory = listing_dir("s3://b/sky", {})
    assert directory.parent == Path(".snakemake/remote")
    assert listing_dir("s3://b/sky/", {"key": "a", "secret": "b", "anon": True}) == directory
    assert listing_dir("s3://b/sky", {"account_key": "a"}) == directory
    assert listing_dir("s3://b/other", {}) != directory
    ours = listing_dir("s3://b/sky", {"endpoint_url": "http://ours"})
    assert ours != directory
    assert (
        listing_dir("s3://b/sky", {"client_kwargs": {"endpoint_url": "http://ours"}}) != directory
    )


def test_paths_have_no_url() -> None:
    assert local_path("sky", {"anon": True}) == ("sky", "")
    assert local_path("s3://b/sky/", {}) == (str(listing_dir("s3://b/sky", {})), "s3://b/sky")


@pytest.mark.parametrize("path", ["a", "dataset/Norder=0/Dir=0/Npix=4.parquet", "a/..b", ".a/b."])
def test_relative_paths_are_file_paths(path: str) -> None:
    assert is_file_path(path)


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "a//b", "a/", "./a", "a\0"])
def test_other_object_names_are_not(path: str) -> None:
    assert not is_file_path(path)


@pytest.mark.parametrize("side", ["input", "output"])
def test_secrets_in_urls_belong_under_the_options_of_their_side(side: str) -> None:
    key = {"input": "input_catalog_path", "output": "output_path"}[side]
    for url in ("s3://user:word@sky/m", "s3://sky/m?token=word"):
        with pytest.raises(MarginCacheError, match=f"{side}_storage_options in a configuration"):
            check_url(key, url)
