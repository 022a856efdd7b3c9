"""The format of a catalog is recognized; other paths are refused with a reason."""

import codecs
import json
from dataclasses import replace
from pathlib import Path

import pytest
from margin_cache.catalog import hats, hipscat
from margin_cache.catalog.formats import (
    check_hats_keys,
    find_margin,
    format_of,
    read_catalog_info,
)
from margin_cache.catalog.partitions import listed_partitions
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from support.catalog_infos import HATS, HIPSCAT
from support.odd_servers import odd_server
from support.unprivileged import raised_without_privileges

HIPSCAT_INFO = {
    "catalog_name": "stars",
    "catalog_type": "object",
    "ra_column": "RA",
    "dec_column": "DE",
}
HATS_PROPERTIES = "obs_collection=stars\ndataproduct_type=object\nhats_col_ra=RA\nhats_col_dec=DE\n"


def make_hipscat(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "catalog_info.json").write_text(json.dumps(HIPSCAT_INFO))
    return path


def make_hats(path: Path, name: str = "hats.properties") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(HATS_PROPERTIES)
    return path


def test_each_format_has_its_module() -> None:
    assert format_of(HIPSCAT) is hipscat
    assert format_of(HATS) is hats
    with pytest.raises(KeyError):
        format_of(replace(HATS, format="fits"))


def test_a_hipscat_catalog_is_known_by_its_info(tmp_path: Path) -> None:
    info = read_catalog_info(str(make_hipscat(tmp_path / "sky")))
    assert (info.format, info.path, info.name) == ("hipscat", str(tmp_path / "sky"), "stars")


@pytest.mark.parametrize("name", ["hats.properties", "properties"])
def test_a_hats_catalog_is_known_by_either_of_its_files(name: str, tmp_path: Path) -> None:
    info = read_catalog_info(str(make_hats(tmp_path / "sky", name)))
    assert (info.format, info.path, info.name) == ("hats", str(tmp_path / "sky"), "stars")


def test_a_catalog_that_has_both_is_read_as_hats(tmp_path: Path) -> None:
    make_hipscat(tmp_path)
    assert read_catalog_info(str(make_hats(tmp_path))).format == "hats"


@pytest.mark.parametrize("make", [make_hats, make_hipscat])
def test_a_byte_order_mark_is_ignored(make, tmp_path: Path) -> None:
    for path in (make(tmp_path) / "partition_info.csv", *make(tmp_path).iterdir()):
        content = path.read_bytes() if path.exists() else b"Norder,Npix\n1,5\n"
        path.write_bytes(codecs.BOM_UTF8 + content)
    info = read_catalog_info(str(tmp_path))
    assert info.name == "stars"
    assert listed_partitions(info) == {Pixel(1, 5)}
    assert format_of(info).stated_rows(info)[1] is None


@pytest.mark.parametrize("make", [make_hats, make_hipscat])
def test_of_a_collection_the_primary_table_is_read(make, tmp_path: Path) -> None:
    (tmp_path / "collection.properties").write_text("hats_primary_table_url=inner\n")
    make(tmp_path / "inner")
    make_hats(tmp_path / "margin")
    assert read_catalog_info(str(tmp_path)).path == str(tmp_path / "inner")


def test_a_missing_primary_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "collection.properties").write_text("hats_primary_table_url=inner\n")
    with pytest.raises(MarginCacheError, match=r"names the primary table .*inner, which is"):
        read_catalog_info(str(tmp_path))


def test_other_paths_than_catalogs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / "none", "there is no such directory"),
        (tmp_path / "file", "there is no such directory"),
        (
            tmp_path,
            "is neither a HiPSCat catalog, which has a catalog_info.json, nor a HATS catalog",
        ),
    ):
        with pytest.raises(MarginCacheError, match=said) as caught:
            read_catalog_info(str(path))
        assert str(caught.value).startswith(f"input_catalog_path: {path}: ")


def test_a_directory_of_catalogs_names_them(tmp_path: Path) -> None:
    make_hats(tmp_path / "ztf")
    make_hipscat(tmp_path / "gaia")
    (tmp_path / "else").mkdir()
    with pytest.raises(MarginCacheError, match=r"contains catalogs\. Give one: gaia, ztf$"):
        read_catalog_info(str(tmp_path))


@pytest.mark.parametrize("closed", [".", "sky"])
def test_a_catalog_without_permission_is_named(closed: str, tmp_path: Path) -> None:
    directory = tmp_path / "skies"
    sky = make_hipscat(directory / "sky")
    assert raised_without_privileges(lambda: read_catalog_info(str(sky))) == ""
    (directory / closed).chmod(0)
    said = raised_without_privileges(lambda: read_catalog_info(str(sky)))
    (directory / closed).chmod(0o755)
    assert said.startswith(f"margin_cache.errors.MarginCacheError: input_catalog_path: {sky}: ")
    assert "(Permission denied)" in said


def test_keys_for_hats_margins_are_refused_for_hipscat() -> None:
    check_hats_keys(HATS, ["npix_suffix"])
    check_hats_keys(HIPSCAT, [])
    with pytest.raises(MarginCacheError, match=r"^npix_suffix: is for margins of HATS catalogs"):
        check_hats_keys(HIPSCAT, ["npix_suffix"])


@pytest.mark.parametrize("missing", ["404", "403", "page"])
def test_a_margin_is_found_at_a_url(missing: str, tmp_path: Path) -> None:
    margin = make_hats(tmp_path / "all/margin") / "hats.properties"
    margin.write_text("dataproduct_type=margin\n")
    make_hats(tmp_path / "all/sky")
    members = "hats_primary_table_url=sky\nall_margins=margin\n"
    collection = tmp_path / "all/collection.properties"
    collection.write_text(members)
    asked = []

    def options(url: str) -> dict[str, object]:
        asked.append(url)
        return {}

    with odd_server(tmp_path, missing) as url:
        assert find_margin("key", f"{url}/all//margin/", "sky", options) == f"{url}/all/margin"
        assert asked == [f"{url}/all//margin/"]
        assert find_margin("key", "margin", f"{url}/all") == f"{url}/all/margin"
        with pytest.raises(MarginCacheError, match=r"^key: .*/all is a collection without a def"):
            find_margin("key", f"{url}/all", "sky")
        collection.write_text(f"{members}default_margin=margin\n")
        assert find_margin("key", f"{url}/all", "sky") == f"{url}/all/margin"
        with pytest.raises(MarginCacheError, match="/all/sky has no metadata of a margin"):
            find_margin("key", f"{url}/all/sky", "sky")
        with pytest.raises(MarginCacheError, match=r"permission denied|no metadata of a margin"):
            find_margin("key", f"{url}/nothing", "sky")
        with pytest.raises(MarginCacheError, match=r'^key: .*/all has a query or fragment \("\?"'):
            find_margin("key", f"{url}/all?token=x", "sky")
    with pytest.raises(MarginCacheError, match=r"^nosuch://a/m: has no driver"):
        find_margin("audit_catalog_path", "nosuch://a/m", "sky")
