"""URLs name directories and nothing else, and have each a mirror of their own."""

from pathlib import Path

import pytest
from margin_cache.errors import MarginCacheError
from margin_cache.storage.urls import (
    check_url,
    is_below,
    is_url,
    joined,
    local_path,
    mirror_dir,
    protocol_of,
)


@pytest.mark.parametrize(
    ("place", "expected"),
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
def test_urls_are_told_from_paths(place: str, expected: bool) -> None:
    assert is_url(place) is expected


def test_the_protocol_is_in_lower_case() -> None:
    assert protocol_of("S3://bucket/sky") == "s3"
    with pytest.raises(ValueError, match="no URL"):
        protocol_of("/sky")


@pytest.mark.parametrize(
    "url", ["https://example.org/sky", "http://127.0.0.1:80/a%20b", "s3://bucket/x/Norder=1"]
)
def test_plain_urls_are_taken(url: str) -> None:
    check_url("key", url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:s3cret@example.org/sky", "key: https://example.org/sky is given with a user"),
        ("https://s3cret@example.org/sky", "key: https://example.org/sky is given with a user"),
        ("https://a:b@s3cret@example.org/", "key: https://example.org/ is given with a user"),
        ("https://example.org/sky?s3cret", "key: https://example.org/sky is followed"),
        ("https://example.org/sky#s3cret", "key: https://example.org/sky is followed"),
        ("https://example.org/sky?", "key: https://example.org/sky is followed"),
        ("simplecache::s3://bucket/sky", "a chain of URLs"),
        ("file:///sky", "without file://"),
        ("s3:///sky", "names no server or bucket"),
        ("https://example.org/sky/../other", "has .. in it"),
        ("https://[s3cret", "is not a URL"),
    ],
)
def test_other_urls_are_refused_without_what_could_be_a_secret(url: str, words: str) -> None:
    with pytest.raises(MarginCacheError) as error:
        check_url("key", url)
    assert words in str(error.value)
    assert "s3cret" not in str(error.value).replace("https://[s3cret", "")


def test_urls_are_joined_with_one_slash() -> None:
    assert (
        joined("s3://b/sky/", "Norder=1")
        == joined("s3://b/sky", "Norder=1")
        == ("s3://b/sky/Norder=1")
    )
    assert joined("s3://b/sky/", "") == joined("s3://b/sky", ".") == "s3://b/sky"


def test_a_mirror_depends_on_the_place_and_not_on_who_asks() -> None:
    place = mirror_dir("s3://b/sky", {})
    assert place.parent == Path(".snakemake/remote")
    assert mirror_dir("s3://b/sky/", {"key": "a", "secret": "b", "anon": True}) == place
    assert mirror_dir("s3://b/sky", {"account_key": "a"}) == place
    assert mirror_dir("s3://b/other", {}) != place
    ours = mirror_dir("s3://b/sky", {"endpoint_url": "http://ours"})
    assert ours != place
    assert mirror_dir("s3://b/sky", {"client_kwargs": {"endpoint_url": "http://ours"}}) != place


def test_paths_are_their_own_places() -> None:
    assert local_path("sky", {"anon": True}) == ("sky", "")
    assert local_path("s3://b/sky/", {}) == (str(mirror_dir("s3://b/sky", {})), "s3://b/sky")


@pytest.mark.parametrize("path", ["a", "dataset/Norder=0/Dir=0/Npix=4.parquet", "a/..b", ".a/b."])
def test_paths_of_files_are_below_their_directory(path: str) -> None:
    assert is_below(path)


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../../b", "a//b", "a/", "./a", "a\0"])
def test_other_names_of_objects_are_not(path: str) -> None:
    assert not is_below(path)


@pytest.mark.parametrize("side", ["input", "output"])
def test_what_a_url_may_not_have_is_due_under_the_key_of_its_side(side: str) -> None:
    key = {"input": "input_catalog_path", "output": "output_path"}[side]
    for url in ("s3://user:word@sky/m", "s3://sky/m?token=word"):
        with pytest.raises(MarginCacheError, match=f"{side}_storage_options in a configuration"):
            check_url(key, url)
