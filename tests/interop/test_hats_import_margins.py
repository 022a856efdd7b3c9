"""The margin tests of hats-import 0.11.1, each as a run of the workflow on their data.

docs/migration.md has the table of them: which expectation holds, and which differs and why.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hats import read_hats
from hats.catalog import TableProperties
from hats.io import paths
from hats.io.validation import is_valid_catalog
from hats.pixel_math.healpix_pixel import HealpixPixel
from support.hats_import_data import hats_import_data
from support.margins import tree_digest
from support.once import once
from support.workflow_runs import run_workflow

SOURCES, DIRECTORIES = "small_sky_source_catalog", "small_sky_source_npix_dir_catalog"
OBJECTS, NESTED = "small_sky_object_catalog", "small_sky_nested_catalog"
ORDER_4, ORDER_8 = 8245.1677, 515.32298

# Their arguments, as keys: fine_filtering is false in hats-import by default, and here true.
MARGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "gen": (SOURCES, {"margin_threshold": 180.0, "margin_order": 8, "npix_suffix": ".pq"}),
    "gen_npix_dir": (
        DIRECTORIES,
        {"margin_threshold": 180.0, "margin_order": 8, "npix_suffix": ".pq"},
    ),
    "negative": (SOURCES, {"margin_threshold": 3600.0, "margin_order": 3}),
    "empty": (OBJECTS, {"margin_threshold": 10.0}),
    "nested": (NESTED, {"margin_order": 8}),
    "omit_metadata": (
        SOURCES,
        {"margin_threshold": 180.0, "margin_order": 8, "create_metadata": False},
    ),
    "dynamic": (SOURCES, {}),
    "static": (SOURCES, {"margin_order": 4}),
    "filtered_11": (SOURCES, {"margin_order": 4, "debug_filter_pixel_list": [[0, 11]]}),
    "filtered_44": (SOURCES, {"margin_order": 4, "debug_filter_pixel_list": [[1, 44]]}),
}


def make_margins(directory: Path) -> None:
    data = hats_import_data(directory)
    margins = [
        {"input_catalog_path": str(data / catalog), "output_artifact_name": name, **keys}
        for name, (catalog, keys) in MARGINS.items()
    ]
    config = {"fine_filtering": False, "output_path": "made", "margins": margins}
    run_workflow(directory, config=config, check=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "hats_import_margins", make_margins)


@pytest.fixture
def data(directory: Path) -> Path:
    return next(directory.glob("hats_import-*")) / "tests" / "data"


def file_of(margin: Path, order: int, pixel: int, suffix: str = ".parquet") -> Path:
    return Path(paths.pixel_catalog_file(margin, HealpixPixel(order, pixel), npix_suffix=suffix))


def table_of(file: Path) -> Any:
    return pq.ParquetFile(file).read()


def info_of(margin: Path) -> TableProperties:
    return TableProperties.read_from_dir(margin)


@pytest.mark.parametrize("name", MARGINS)
def test_margins_are_valid(name: str, directory: Path) -> None:
    margin = directory / "made" / name
    assert is_valid_catalog(margin, strict=True)
    catalog = read_hats(margin)
    assert catalog.on_disk and str(catalog.catalog_path) == str(margin)


@pytest.mark.parametrize("name", ["gen", "gen_npix_dir"])
def test_margin_cache_gen(name: str, directory: Path) -> None:
    margin = directory / "made" / name
    file = file_of(margin, 1, 47, ".pq")
    assert table_of(file).num_rows == 88
    assert table_of(file).column_names == [
        *("_healpix_29", "source_id", "source_ra", "source_dec", "mjd", "mag", "band"),
        *("object_id", "object_ra", "object_dec"),
    ]
    assert info_of(margin).npix_suffix == ".pq"
    assert info_of(margin).ra_column == "source_ra"
    assert info_of(margin).margin_threshold == pytest.approx(ORDER_8)
    assert not list(margin.rglob("data_thumbnail.parquet"))
    assert pq.read_metadata(file).num_row_groups == 1


def test_margin_cache_gen_codec(directory: Path, data: Path) -> None:
    """It is the primary's here, where hats-import takes ZSTD for all."""
    for name, catalog in (("gen", SOURCES), ("gen_npix_dir", DIRECTORIES)):
        primary = next(data.joinpath(catalog).rglob("Npix=*.parquet"))
        codecs = [
            pq.read_metadata(file).row_group(0).column(0).compression
            for file in (primary, file_of(directory / "made" / name, 1, 47, ".pq"))
        ]
        assert codecs[0] == codecs[1]


def test_margin_cache_gen_negative_pixels(directory: Path) -> None:
    assert table_of(file_of(directory / "made" / "negative", 0, 7)).num_rows > 0


def test_generate_empty_margin_catalog(directory: Path, data: Path) -> None:
    margin = directory / "made" / "empty"
    catalog, primary = read_hats(margin), read_hats(data / OBJECTS)
    assert catalog.catalog_info.total_rows == 0
    assert int(catalog.catalog_info.hats_order) == int(primary.catalog_info.hats_order)
    assert len(catalog.get_healpix_pixels()) == len(catalog.pixel_tree) == 0
    assert (catalog.catalog_info.ra_column, catalog.catalog_info.dec_column) == ("ra", "dec")
    assert catalog.catalog_info.margin_threshold == 10.0
    assert catalog.schema == primary.schema
    dataset = margin / "dataset"
    assert {file.name for file in dataset.iterdir()} == {"_metadata", "_common_metadata"}
    for file in dataset.iterdir():
        footer = pq.read_metadata(file)
        assert footer.num_rows == footer.num_row_groups == 0
        assert footer.schema.to_arrow_schema() == primary.schema


def test_margin_gen_nested_catalog(directory: Path) -> None:
    margin = directory / "made" / "nested"
    assert pq.read_metadata(margin / "dataset" / "_metadata").num_rows == 13
    table = table_of(file_of(margin, 2, 178))
    assert table.num_rows == 2
    expected = ["id", "ra", "dec", "ra_error", "dec_error", "lc", "_healpix_29"]
    assert table.column_names == expected


def test_margin_cache_omit_metadata(directory: Path) -> None:
    margin = directory / "made" / "omit_metadata"
    assert info_of(margin).total_rows == 1717
    assert not (margin / "dataset" / "_metadata").exists()


def test_margin_order_dynamic(directory: Path) -> None:
    provenance = (directory / "made" / "dynamic" / "provenance_info.json").read_text()
    assert '"margin_order_used": 14' in provenance
    assert info_of(directory / "made" / "dynamic").margin_threshold == 5.0


def test_margin_order_static_and_to_table_properties(directory: Path) -> None:
    info = info_of(directory / "made" / "static")
    assert info.margin_threshold == pytest.approx(ORDER_4)
    assert info.catalog_name == "static"
    assert (info.ra_column, info.dec_column) == ("source_ra", "source_dec")


@pytest.mark.parametrize(("name", "partitions"), [("filtered_11", 13), ("filtered_44", 4)])
def test_debug_filter_pixel_list(name: str, partitions: int, directory: Path, data: Path) -> None:
    """Each partition that is left has rows in the margin of another that is left."""
    order, pixel = MARGINS[name][1]["debug_filter_pixel_list"][0]
    left = {
        each
        for each in read_hats(data / SOURCES).get_healpix_pixels()
        if each.order >= order and each.pixel >> 2 * (each.order - order) == pixel
    }
    assert len(left) == partitions
    found = set(read_hats(directory / "made" / name).get_healpix_pixels())
    assert left <= found
    sources = {
        index >> 2 * (29 - order)
        for each in found
        for index in table_of(file_of(directory / "made" / name, each.order, each.pixel))[
            "_healpix_29"
        ].to_pylist()
    }
    assert sources == {pixel}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"margin_order": 2}, "margin_order: 2 is not above 2"),
        (
            {"margin_order": 4, "debug_filter_pixel_list": [[0, 5]]},
            "debug_filter_pixel_list: the catalog has no partition that overlaps [0, 5]",
        ),
        ({"input_catalog_path": "/foo"}, "input_catalog_path: /foo: there is no such directory"),
        ({"output_artifact_name": SOURCES}, "overlaps with the input catalog"),
    ],
)
def test_arguments_that_are_refused(
    keys: dict[str, Any], said: str, data: Path, tmp_path: Path
) -> None:
    before = tree_digest(data / SOURCES)
    config = {
        "input_catalog_path": str(data / SOURCES),
        "output_path": str(data if "output_artifact_name" in keys else tmp_path),
        "fine_filtering": False,
        **keys,
    }
    run = run_workflow(tmp_path, config=config)
    assert run.returncode and said in run.stdout
    assert tree_digest(data / SOURCES) == before


@pytest.mark.parametrize(("pixel", "rows"), [(182, 1386), (185, 1978)])
def test_map_pixel_shards_coarse(pixel: int, rows: int, directory: Path) -> None:
    """Of a partition's rows, as many reach a neighbour as hats-import's own mapping writes."""
    index = table_of(file_of(directory / "made" / "negative", 2, pixel))["_healpix_29"].to_numpy()
    assert np.count_nonzero(index >> 2 * 28 == 47) == rows
