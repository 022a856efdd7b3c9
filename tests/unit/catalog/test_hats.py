"""HATS: properties are read as Java writes them; in a collection only the margins change."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from margin_cache.catalog import hats
from margin_cache.catalog.formats import read_catalog_info
from margin_cache.catalog.model import CatalogInfo, MarginSummary
from margin_cache.catalog.spec import COLLECTION_PROPERTIES
from margin_cache.errors import MarginCacheError
from margin_cache.margin.output import Output
from margin_cache.storage.catalog_files import CatalogFiles
from support.catalog_infos import HATS

PROPERTIES = {
    "obs_collection": "stars",
    "dataproduct_type": "object",
    "hats_col_ra": "RA",
    "hats_col_dec": "DE",
}


def write(path: Path, values: dict[str, str | None]) -> Path:
    lines = [f"{key}={value}\n" for key, value in values.items() if value is not None]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def properties_in(path: Path) -> dict[str, str]:
    return hats.parse_properties(path.read_bytes(), str(path))


def read(directory: Path, **changes: str | None) -> CatalogInfo:
    write(directory / "hats.properties", PROPERTIES | changes)
    return hats.read_info(CatalogFiles(str(directory)))


# --- properties -----------------------------------------------------------------------------


def test_properties_are_read_as_java_writes_them(tmp_path: Path) -> None:
    (tmp_path / "properties").write_text(
        "# a comment\n"
        "! another\n"
        "\n"
        "plain=value\n"
        "spaces  =  in between \n"
        "colon: also\n"
        "equal=a=b\n"
        "empty=\n"
        "umlaut=ö☆\n"
        "last=no end of line",
        encoding="utf-8",
    )
    assert properties_in(tmp_path / "properties") == {
        "plain": "value",
        "spaces": "in between",
        "colon": "also",
        "equal": "a=b",
        "empty": "",
        "umlaut": "ö☆",
        "last": "no end of line",
    }


def test_a_backslash_continues_a_line(tmp_path: Path) -> None:
    path = tmp_path / "properties"
    path.write_text("continued=one \\\n    two \\\n    three\nlast=x\n")
    assert properties_in(path) == {"continued": "one two three", "last": "x"}


@pytest.mark.parametrize("content", [None, b"hats_primary_table_url=\xff\xfe\n"])
def test_properties_that_cannot_be_read_are_named(content: bytes | None, tmp_path: Path) -> None:
    for name, read in (("properties", read_catalog_info), (COLLECTION_PROPERTIES, hats.primary_of)):
        path = tmp_path / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        with pytest.raises(MarginCacheError, match=f"{path}"):
            read(str(tmp_path))


# --- catalogs -------------------------------------------------------------------------------


def test_missing_properties_have_the_defaults_of_hats(tmp_path: Path) -> None:
    assert read(tmp_path) == CatalogInfo(
        format="hats",
        path=str(tmp_path),
        name="stars",
        epoch=None,
        ra_column="RA",
        dec_column="DE",
        index_column=None,
        index_order=29,
        index_shift=0,
        dataset="dataset",
        npix_suffix=".parquet",
    )


def test_stated_properties_are_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        dataproduct_type="source",
        hats_col_healpix="_healpix_13",
        hats_col_healpix_order="13",
        hats_npix_suffix="/",
    )
    assert (found.index_column, found.index_order, found.npix_suffix) == ("_healpix_13", 13, "/")


def test_hats_properties_is_preferred_to_properties(tmp_path: Path) -> None:
    write(tmp_path / "properties", PROPERTIES | {"obs_collection": "older"})
    assert hats.read_info(CatalogFiles(str(tmp_path))).name == "older"
    assert read(tmp_path).name == "stars"


@pytest.mark.parametrize("key", PROPERTIES)
@pytest.mark.parametrize("value", [None, ""])
def test_a_property_that_is_missing_or_empty_is_named(
    key: str, value: str | None, tmp_path: Path
) -> None:
    with pytest.raises(MarginCacheError, match=f"its hats.properties .*lacks {key}"):
        read(tmp_path, **{key: value})


@pytest.mark.parametrize("kind", ["margin", "association", "map"])
def test_a_catalog_of_another_type_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=f"is a catalog of type {kind}. Margins are made"):
        read(tmp_path, dataproduct_type=kind)


@pytest.mark.parametrize(
    "order", ["30", "-1", "x", "2.5", "²", "9" * 5000], ids=lambda text: text[:9]
)
def test_an_index_of_an_impossible_order_is_refused(order: str, tmp_path: Path) -> None:
    with pytest.raises(MarginCacheError, match=f"hats_col_healpix_order in its .* is {order}"):
        read(tmp_path, hats_col_healpix_order=order)


def test_the_primary_of_a_collection_is_inside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "collection.properties", {"hats_primary_table_url": "inner"})
    assert hats.primary_of(str(tmp_path)) == str(tmp_path / "inner")
    write(path, {"hats_primary_table_url": "./inner/"})
    assert hats.primary_of(str(tmp_path)) == str(tmp_path / "inner")
    write(path, {"obs_collection": "x"})
    with pytest.raises(MarginCacheError, match=f"{path}: lacks hats_primary_table_url"):
        hats.primary_of(str(tmp_path))


# --- margins --------------------------------------------------------------------------------


def summary_of(info: CatalogInfo, output_dir: Path) -> MarginSummary:
    return MarginSummary(
        primary=info,
        output_dir=output_dir,
        rows=77,
        threshold=0.5,
        order=3,
        sky_fraction=1 / 3,
        size=5000,
        npix_suffix=".pq",
        properties={"obs_copyright": "CDS", "hats_builder": "nobody"},
    )


@pytest.mark.parametrize("index", ["_healpix_13", None])
def test_a_margin_describes_itself_in_both_files(index: str | None, tmp_path: Path) -> None:
    info = replace(HATS, path="a=b: ö/sky", index_column=index, index_order=13)
    description, names = hats.write_description(tmp_path, summary_of(info, tmp_path / "my_margin"))
    assert names == ["hats.properties", "properties"]
    for name in names:
        assert properties_in(tmp_path / name) == description
    assert description["obs_collection"] == "my_margin"
    assert description["dataproduct_type"] == "margin"
    assert description["hats_nrows"] == "77"
    assert description["hats_margin_threshold"] == "0.5"
    assert description["hats_primary_table_url"] == "a=b: ö/sky"
    assert description["hats_npix_suffix"] == ".pq"
    assert description["obs_copyright"] == "CDS"
    assert description["hats_builder"].startswith("snakemake-margin-cache v")
    assert description["hats_order"] == "3"
    assert description["moc_sky_fraction"] == "0.33333"
    assert description["hats_estsize"] == "4"
    there = {"hats_col_healpix", "hats_col_healpix_order"} & description.keys()
    assert len(there) == (0 if index is None else 2)
    # It is no primary, which reading it as one has to say.
    with pytest.raises(MarginCacheError, match="is a catalog of type margin"):
        hats.read_info(CatalogFiles(str(tmp_path)))


def test_columns_partition_list_and_footer_paths_follow_hats() -> None:
    schema, one = pa.schema([("ra", pa.float64())], {"a": "b"}), np.array([1])
    assert hats.margin_schema(schema, "_common_metadata").equals(schema, check_metadata=True)
    assert hats.pixel_columns((one, one), (one, one)) == {}
    assert hats.partition_list([(1, 47), (9, 123_456)]) == "Norder,Npix\n1,47\n9,123456\n"
    assert hats.partition_list([]) == "Norder,Npix\n"
    assert HATS.footer_path("dataset/Norder=1/x.parquet") == "Norder=1/x.parquet"


# --- further properties ---------------------------------------------------------------------


def test_additional_properties_are_written_as_by_hats() -> None:
    given = {"obs_copyright": "CDS", "default_columns": ["ra", "dec"], "flag": True, "none": None}
    assert hats.additional_properties({}) == {}
    assert hats.additional_properties(given) == {
        "obs_copyright": "CDS",
        "hats_cols_default": "ra dec",
        "flag": "True",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hats_nrows": 5}, "the workflow writes hats_nrows itself. Remove it"),
        ({"total_rows": 5}, "the workflow writes total_rows itself"),
        ({"catalog_name": "x"}, "the workflow writes catalog_name itself"),
        ({"hats_builder": "x"}, "the workflow writes hats_builder itself"),
        ({"hats_max_rows": "many"}, "hats_max_rows: Input should be a valid integer"),
    ],
)
def test_invalid_additional_properties_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(MarginCacheError, match=f"^addl_hats_properties: {said}"):
        hats.additional_properties(given)


# --- collections ----------------------------------------------------------------------------


def is_registered(info: CatalogInfo, output_dir: Path) -> bool:
    found = Output(output_dir).collection(info)
    return found is None or found.lists(str(output_dir))


def is_default(info: CatalogInfo, output_dir: Path) -> bool:
    found = Output(output_dir).collection(info)
    return found is not None and found.has_default(str(output_dir))


class Collection:
    """A collection on disk, with a primary table called sky."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "collection"
        (self.path / "sky").mkdir(parents=True)
        self.file = self.path / "collection.properties"
        self.info = replace(HATS, path=str(self.path / "sky"))
        self.write("hats_primary_table_url=sky\n")

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def register(self, name: str) -> str:
        """List a margin; return the text of the properties."""
        Output(self.path / name).register(self.info, True)
        return self.file.read_text(encoding="utf-8")


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def test_a_margin_is_listed_once_and_the_first_is_the_default(
    collection: Collection,
) -> None:
    assert not is_registered(collection.info, collection.path / "one")
    collection.register("one")
    assert is_registered(collection.info, collection.path / "one")
    assert not is_registered(collection.info, collection.path / "on")
    collection.register("two")
    assert collection.register("one") == collection.register("two")
    values = properties_in(collection.file)
    assert (values["all_margins"], values["default_margin"]) == ("one two", "one")


def test_only_a_margin_that_may_be_becomes_the_default(collection: Collection) -> None:
    Output(collection.path / "two").register(collection.info, False)
    assert properties_in(collection.file)["all_margins"] == "two"
    assert not is_default(collection.info, collection.path / "two")
    collection.register("one")
    assert is_default(collection.info, collection.path / "one")
    assert not is_default(collection.info, collection.path / "two")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_members_of_a_collection_may_have_absolute_paths(
    prefix: str, collection: Collection
) -> None:
    text = (
        f"hats_primary_table_url={prefix}{collection.path}/sky\n"
        f"all_margins={prefix}{collection.path}/one s3://bucket/two\n"
        f"default_margin={prefix}{collection.path}/one\n"
    )
    collection.write(text)
    assert hats.primary_of(str(collection.path)) == f"{collection.path}/sky"
    assert is_default(collection.info, collection.path / "one")
    assert collection.register("one") == text
    assert not is_registered(collection.info, collection.path / "two")


def test_a_margin_of_a_remote_primary_is_listed_in_a_local_collection(
    collection: Collection,
) -> None:
    for url, is_listed in (("s3://bucket/sky", True), ("s3://bucket/other", False), ("", False)):
        collection.write("hats_primary_table_url=S3A://bucket/sky/\n")
        info = replace(collection.info, path=url or "elsewhere")
        Output(collection.path / "one").register(info, True)
        assert ("all_margins=one\n" in collection.file.read_text()) == is_listed


@pytest.mark.parametrize("separator", [" ", ",", ", ", ";", "  "])
def test_margins_of_others_stay_listed_however_they_are_separated(
    separator: str, collection: Collection
) -> None:
    collection.write(f"hats_primary_table_url=sky\nall_margins=a{separator}b\ndefault_margin=b\n")
    assert is_registered(collection.info, collection.path / "a")
    collection.register("c")
    values = properties_in(collection.file)
    assert (values["all_margins"], values["default_margin"]) == ("a b c", "b")


BEFORE = """\
# all_margins=in a comment
!default_margin=in another

hats_primary_table_url : sky
obs_title = A sky: with = and ö \\
    all_margins=in a line that goes on \\
    and on
  all_margins = a b
obs_path=C:\\\\
all_margins_note=kept
"""


def test_all_other_lines_stay_as_they_are(collection: Collection) -> None:
    """Also those that look like the list of margins, and one that ends with a backslash."""
    collection.write(BEFORE)
    text = collection.register("c")
    expected = BEFORE.replace("  all_margins = a b\n", "all_margins=a b c\n")
    assert text == expected + "default_margin=c\n"
    values = properties_in(collection.file)
    assert values["all_margins"] == "a b c"
    assert values["all_margins_note"] == "kept"


def test_a_collection_file_keeps_its_mode_and_link(collection: Collection, tmp_path: Path) -> None:
    collection.write("hats_primary_table_url=sky\n")
    kept = collection.file.rename(tmp_path / "kept.properties")
    collection.file.symlink_to(kept)
    kept.chmod(0o664)
    assert "all_margins=c" in collection.register("c")
    assert collection.file.is_symlink() and "all_margins=c" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o664


def test_margins_in_a_continued_line_stay_listed(collection: Collection) -> None:
    collection.write("hats_primary_table_url=sky\nall_margins=a \\\n    b\n")
    assert is_registered(collection.info, collection.path / "b")
    text = collection.register("c")
    assert text == "hats_primary_table_url=sky\nall_margins=a b c\ndefault_margin=c\n"


def test_a_byte_order_mark_of_a_collection_is_kept(collection: Collection) -> None:
    collection.write("\ufeffall_margins=a\nhats_primary_table_url=sky\n")
    text = collection.register("c")
    assert text == "\ufeffall_margins=a c\nhats_primary_table_url=sky\ndefault_margin=c\n"


def test_a_last_line_without_an_end_gets_one(collection: Collection) -> None:
    collection.write("hats_primary_table_url=sky\nobs_title=x")
    assert collection.register("c").splitlines()[1:] == [
        "obs_title=x",
        "all_margins=c",
        "default_margin=c",
    ]


def test_a_duplicate_list_of_margins_is_merged_into_one(collection: Collection) -> None:
    collection.write("all_margins=a\nhats_primary_table_url=sky\nall_margins=b\n")
    text = collection.register("c")
    assert text.count("all_margins=") == 1
    assert "c" in properties_in(collection.file)["all_margins"].split()


def test_a_margin_outside_or_of_another_catalog_is_not_listed(
    collection: Collection, tmp_path: Path
) -> None:
    before = collection.file.read_bytes()
    other = replace(collection.info, path=str(collection.path / "other"))
    for info, place in ((collection.info, tmp_path / "margin"), (other, collection.path / "m")):
        assert is_registered(info, place)
        Output(place).register(info, True)
    assert collection.file.read_bytes() == before
    assert not (tmp_path / "collection.properties").exists()


def test_the_primary_is_named_as_configured_in_a_collection_too(
    collection: Collection, tmp_path: Path
) -> None:
    for output_dir in (collection.path / "margin", tmp_path / "margin"):
        description, _ = hats.write_description(tmp_path, summary_of(collection.info, output_dir))
        assert description["hats_primary_table_url"] == collection.info.path


def test_ends_of_lines_of_a_collection_are_kept(collection: Collection) -> None:
    path = collection.path / COLLECTION_PROPERTIES
    path.write_bytes(b"#mine\r\nhats_primary_table_url=sky\r\nall_margins=a\r\nx : y\r\n")
    Output(collection.path / "b").register(collection.info, True)
    assert path.read_bytes() == (
        b"#mine\r\nhats_primary_table_url=sky\r\nall_margins=a b\r\nx : y\r\ndefault_margin=b\r\n"
    )
