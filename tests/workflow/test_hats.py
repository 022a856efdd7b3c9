"""Margins of HATS catalogs hold exactly the right rows, in every layout that catalogs come in."""

import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import skies
from support.faulty_margins import make_in
from support.killed_runs import resume, run_of
from support.margins import partition_paths, tree_digest
from support.once import once
from support.small_skies import mixed_partitions, sky_of
from support.truth import THRESHOLDS_OF_HATS as THRESHOLDS
from support.truth import (
    Ints,
    Sky,
    Truth,
    large_sky,
    pair_codes,
    truth_of,
    truths_at,
    without_ambiguous,
)
from support.typed_tables import light_curve_table, typed_table
from support.workflow_runs import run_workflow
from support.write_hats import order_29_pixels, write_collection, write_hats

THROUGH_WORKFLOW = ("directories_of_files", "no_index", "bare", "collection")

# Options of write_hats, but for "columns" (of `more_columns`), "without" (files to delete) and
# "collection" (whether the catalog is in one, whose directory is what the workflow is given).
LAYOUTS: dict[str, dict[str, Any]] = {
    "usual": {},
    "parq": {"suffix": ".parq"},
    "directories": {"suffix": "/"},
    "directories_of_files": {"suffix": "/", "files_per_partition": 4},
    "order_13": {"index_column": "_healpix_13", "index_order": 13},
    "no_index": {"index_column": None},
    "no_index_nor_pandas": {"index_column": None, "pandas_metadata": False},
    "no_pandas": {"pandas_metadata": False},
    "light_curves": {"columns": "light_curves"},
    "dictionary": {"columns": "dictionary"},
    "only_properties": {"properties": ("properties",)},
    "only_hats_properties": {"properties": ("hats.properties",)},
    "no_metadata": {"metadata": False},
    "no_partition_info": {"partition_info": False},
    "bare": {
        "metadata": False,
        "partition_info": False,
        "pandas_metadata": False,
        "properties": ("properties",),
        "without": ("dataset/_common_metadata",),
    },
    "collection": {"collection": True},
}
# Some have margins of all thresholds, the others of one.
CASES = [
    (layout, threshold)
    for layout in LAYOUTS
    for threshold in (THRESHOLDS if layout in ("usual", "order_13", "no_index") else (10.0,))
]


# --- margins as sets of pairs ---------------------------------------------------------------


def margin_pairs(margin: Path, sky: Sky) -> Ints:
    """The pairs of a margin on disk, sorted; checks names, and that files are listed and sorted."""
    output_of = {
        f"Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet": place
        for place, (order, pixel) in enumerate(sky.destinations.tolist())
    }
    index = order_29_pixels(sky.table)
    codes = [np.zeros(0, dtype=np.int64)]
    listed = []
    for file in partition_paths(margin):
        place = output_of[file.relative_to(margin / "dataset").as_posix()]
        ids = pq.ParquetFile(file).read(columns=["id"])["id"].to_numpy()
        assert len(ids) > 0, file
        assert (np.diff(index[np.searchsorted(sky.table["id"], ids)]) >= 0).all(), file
        codes.append(pair_codes(sky, ids, np.full(len(ids), place)))
        listed.append(place)
    pixels = sky.destinations[listed].reshape(-1, 2)
    csv = [f"{order},{pixel}" for order, pixel in skies.nested_sort(pixels).tolist()]
    assert (margin / "partition_info.csv").read_text().splitlines() == ["Norder,Npix", *csv]
    return np.sort(np.concatenate(codes))


@cache
def truths_of_layouts() -> dict[float, Truth]:
    return dict(zip(THRESHOLDS, truths_at(layout_sky(), THRESHOLDS)))


def assert_exact(margin: Path, sky: Sky, threshold: float, known: Truth) -> None:
    found = margin_pairs(margin, sky)
    truth, ambiguous = known
    missing = without_ambiguous(sky, np.setdiff1d(truth, found), threshold)
    false = without_ambiguous(sky, np.setdiff1d(found, truth), threshold)
    print(
        f"{margin.name}: {len(found)} rows, truth {len(truth)}, missing {len(missing)}, "
        f"false {len(false)}; {ambiguous} ambiguous"
    )
    assert len(truth) > 100 and len(found) == len(np.unique(found))
    assert not len(missing), np.divmod(missing[:5], len(sky.destinations))
    assert not len(false), np.divmod(false[:5], len(sky.destinations))


# --- the large skies ------------------------------------------------------------------------


def make_large_margins(name: str, directory: Path) -> None:
    sky = large_sky(name)
    write_hats(directory, name, sky.table, sky.partitions)
    margins = [{"margin_threshold": threshold} for threshold in THRESHOLDS]
    config = {"input_catalog_path": name, "output_path": "margins", "margins": margins}
    run_workflow(directory, config=config, check=True)
    shutil.rmtree(directory / name)


@pytest.mark.long
@pytest.mark.parametrize("name", ["border", "survey"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_rows_of_a_large_sky_are_those_of_brute_force(
    name: str, threshold: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make = partial(make_large_margins, name)
    directory = once(tmp_path_factory, f"hats_{name}", make)
    if name == "survey":
        assert large_sky(name).table.num_rows == 2_000_000
        assert len(large_sky(name).partitions) == 288
    truth = truth_of(name, threshold, tmp_path_factory)
    margin = directory / "margins" / f"{name}_{threshold:g}arcs"
    assert_exact(margin, large_sky(name), threshold, truth)


# --- the layouts ----------------------------------------------------------------------------


@cache
def layout_sky() -> Sky:
    """About 6,000 rows near the borders of partitions of orders 0 to 6, around holes."""
    return sky_of(mixed_partitions(), 6000, 2500.0, 21)


def more_columns(which: str | None) -> pa.Table:
    """The layouts' sky, with columns that no position is in."""
    table = layout_sky().table
    rng = np.random.default_rng(22)
    table = table.append_column(
        "mag", pa.array(rng.normal(20.0, 2.0, table.num_rows), pa.float32())
    )
    if which == "light_curves":
        curves = light_curve_table(table.num_rows, 23)["lightcurve"]
        table = table.append_column("lightcurve", curves)
        table = table.append_column("times", curves.combine_chunks().field("time"))
    if which == "dictionary":
        words = pa.array([f"tile {number}" for number in rng.integers(0, 400, table.num_rows)])
        table = table.append_column("tile", words.dictionary_encode())
    return table


def catalog_of(directory: Path, layout: str) -> Path:
    """Where the catalog of a layout is."""
    inner = f"{layout}/{layout}" if LAYOUTS[layout].get("collection") else layout
    return directory / "catalogs" / inner


def make_layouts(directory: Path) -> None:
    for layout, given in LAYOUTS.items():
        options = dict(given)
        table = more_columns(options.pop("columns", None))
        without = options.pop("without", ())
        catalog = catalog_of(directory, layout)
        if options.pop("collection", False):
            write_collection(catalog.parent.parent, layout, catalog.name)
        write_hats(catalog.parent, catalog.name, table, layout_sky().partitions, **options)
        for name in without:
            (catalog / name).unlink()
    # A few go through the workflow, and all others only through its functions.
    catalogs = directory / "catalogs"
    margins = [
        {"input_catalog_path": str(catalogs / layout), "margin_threshold": threshold}
        for layout, threshold in CASES
    ]
    whole = [
        {"input_catalog_path": str(catalogs / layout), "margin_threshold": 10.0}
        for layout in THROUGH_WORKFLOW
    ]
    others = [margin for margin in margins if margin not in whole]
    run_workflow(directory, config={"output_path": "margins", "margins": whole}, check=True)
    make_in(directory, {"output_path": "margins", "margins": others})


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "hats_layouts", make_layouts)


@pytest.mark.parametrize(("layout", "threshold"), CASES)
def test_rows_are_those_of_brute_force_in_each_layout(
    layout: str, threshold: float, layouts: Path
) -> None:
    margin = layouts / "margins" / f"{layout}_{threshold:g}arcs"
    assert_exact(margin, layout_sky(), threshold, truths_of_layouts()[threshold])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_schema_is_that_of_the_primary_byte_for_byte(layout: str, layouts: Path) -> None:
    primary = catalog_of(layouts, layout)
    expected = pq.read_schema(partition_paths(primary)[0])
    pandas = LAYOUTS[layout].get("pandas_metadata", True)
    assert (b"pandas" in (expected.metadata or {})) == pandas
    margin = layouts / "margins" / f"{layout}_10arcs"
    metadata_files = [margin / "dataset" / name for name in ("_common_metadata", "_metadata")]
    for file in [*partition_paths(margin), *metadata_files]:
        assert pq.read_schema(file).serialize() == expected.serialize(), file


def plain_rows(catalog: Path) -> pa.Table:
    """All rows of a catalog, sorted by id and file, with no dictionaries."""
    tables = []
    for number, file in enumerate(partition_paths(catalog)):
        table = pq.ParquetFile(file).read().replace_schema_metadata()
        for at, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                plain = table[field.name].cast(field.type.value_type)
                table = table.set_column(at, field.name, plain)
        tables.append(table.append_column("file", pa.repeat(number, table.num_rows)))
    table = pa.concat_tables(tables)
    ordered = table.take(pa.array(np.lexsort((table["file"], table["id"]))))
    return ordered.drop_columns("file").combine_chunks()


def assert_values_kept(margin: Path, primary: Path) -> None:
    """Each row of a margin has the values of the primary's row of the same id."""
    source, copy = plain_rows(primary), plain_rows(margin)
    assert copy.num_rows > 100
    rows = pa.array(np.searchsorted(source["id"], copy["id"]))
    expected = source.take(rows)
    for name in source.column_names:
        assert copy[name].to_pylist() == expected[name].to_pylist(), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_those_of_the_primary(layout: str, layouts: Path) -> None:
    assert_values_kept(layouts / "margins" / f"{layout}_10arcs", catalog_of(layouts, layout))


def in_odd_form(table: pa.Table, form: int) -> pa.Table:
    """The rows of a partition, as other writers of its catalog may have written it."""
    if form == 1:
        wide = {"word": pa.large_string(), "words": pa.large_list(pa.large_string())}
        types = {**wide, "n": pa.int8(), "ra": pa.float32(), "word8": pa.string()}
    elif form == 2:
        types = dict.fromkeys(("word", "words", "n", "pair", "word8"), pa.null())
    elif form == 3:
        return table.select(table.column_names[::-1])
    elif form == 4:
        pair = pa.struct([("b", pa.large_string()), ("a", pa.int16())])
        types = {"n": pa.float64(), "pair": pair, "_healpix_29": pa.uint64()}
        table = table.append_column("Npix", pa.repeat(4, table.num_rows))
    else:
        return table
    for name, arrow_type in types.items():
        if arrow_type == pa.null():
            column = pa.nulls(table.num_rows)
        else:
            column = table[name].cast(arrow_type)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def test_partitions_that_other_writers_have_written_give_the_same_margin(tmp_path: Path) -> None:
    """The last digits of their positions are zeros, so that 32 bits hold them."""
    table = layout_sky().table
    table = table.take(pa.array(np.arange(0, table.num_rows, 2)))
    ra, dec = (table[name].to_numpy().astype("f4").astype("f8") for name in ("ra", "dec"))
    partitions = skies.adaptive_partitions(ra, dec, max_rows=300)
    pixels = skies.nested_pixels(ra, dec)
    spans = skies.pixel_spans(partitions)[0]
    place = np.searchsorted(spans, pixels, side="right") - 1
    rows = range(len(ra))
    empty = place % 5 == 2  # partitions whose columns are null throughout
    values = {
        "word": pa.array([f"star {row}" for row in rows], mask=empty),
        "words": pa.array([["x"] * (row % 3) for row in rows], mask=empty),
        "n": pa.array([row % 100 for row in rows], pa.int64(), mask=empty),
        "pair": pa.array([{"a": row % 9, "b": f"{row}"} for row in rows], mask=empty),
        "word8": pa.array([f"w{row % 9}" for row in rows], mask=empty).dictionary_encode(),
    }
    table = pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec, **values})
    for name in ("usual", "odd"):
        write_hats(tmp_path, name, table, partitions, metadata=False, pandas_metadata=False)
    for file in partition_paths(tmp_path / "odd"):
        order, pixel = (int(part.partition("=")[2]) for part in (file.parts[-3], file.stem))
        number = partitions.tolist().index([order, pixel])
        pq.write_table(in_odd_form(pq.ParquetFile(file).read(), number % 5), file)
    common = tmp_path / "odd/dataset/_common_metadata"
    schema = pq.read_schema(common)
    margins = [{"input_catalog_path": name} for name in ("usual", "odd")]
    make_in(tmp_path, {"margin_threshold": 60.0, "output_path": "made", "margins": margins})
    usual, odd = (
        {
            file.parts[-3:]: pq.ParquetFile(file).read()
            for file in partition_paths(tmp_path / "made" / f"{name}_60arcs")
        }
        for name in ("usual", "odd")
    )
    assert sum(table.num_rows for table in odd.values()) > 100
    assert odd == usual
    assert all(table.schema.equals(schema, check_metadata=True) for table in odd.values())


def test_layouts_have_light_curves_that_are_null_or_empty(layouts: Path) -> None:
    margin = plain_rows(layouts / "margins" / "light_curves_10arcs")
    curves = margin["lightcurve"].to_pylist()
    assert {None, 0, 1, 12} <= {curve and len(curve["mag"]) for curve in curves}
    assert any(None in curve["mag"] for curve in curves if curve)


@pytest.mark.parametrize("kind", ["typed", "light_curves"])
def test_values_of_every_type_are_those_of_the_primary(kind: str, tmp_path: Path) -> None:
    if kind == "typed":
        table = typed_table(3000, 5)
        table = table.append_column("id", pa.array(np.arange(table.num_rows)))
    else:
        table = light_curve_table(6000, 6)
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    partitions = skies.adaptive_partitions(ra, dec, max_rows=400)
    write_hats(tmp_path, "sky", table, partitions, row_group_size=150)
    make_in(tmp_path, {"input_catalog_path": "sky", "margin_threshold": 3600.0})
    margin = tmp_path / "results" / "sky_3600arcs"
    assert_values_kept(margin, tmp_path / "sky")
    expected = pq.read_schema(tmp_path / "sky" / "dataset" / "_common_metadata").serialize()
    for file in partition_paths(margin):
        assert pq.read_schema(file).serialize() == expected, file


# --- the same bytes -------------------------------------------------------------------------


def margin_bytes(margin: Path) -> dict[str, str]:
    """Digests of a margin's files, and the properties without the moment of their creation."""
    found = tree_digest(margin)
    del found["provenance_info.json"]
    for name in ("hats.properties", "properties"):
        lines = (margin / name).read_text("utf-8").splitlines()
        kept = [line for line in lines if not line.startswith("hats_creation_date")]
        assert len(kept) == len(lines) - 1
        found[name] = "\n".join(kept)
    return found


@pytest.fixture(scope="module")
def bytes_config(layouts: Path) -> dict[str, Any]:
    return {"input_catalog_path": layouts / "catalogs" / "usual", "margin_threshold": 600.0}


def test_bytes_do_not_depend_on_cores_and_jobs(
    layouts: Path, bytes_config: dict[str, Any], tmp_path: Path
) -> None:
    config = {**bytes_config, "partitions_per_job": 20}
    run_workflow(tmp_path, config=config, cores=1, check=True)
    expected = margin_bytes(layouts / "margins" / "usual_600arcs")
    assert len(expected) > 50
    assert margin_bytes(tmp_path / "results" / "usual_600arcs") == expected


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("map_partitions.py", marks=pytest.mark.long),
        "reduce_margins.py",
        pytest.param("finish_margin.py", marks=pytest.mark.long),
    ],
)
def test_bytes_are_the_same_after_a_kill(
    script: str, layouts: Path, bytes_config: dict[str, Any], tmp_path: Path
) -> None:
    with run_of(tmp_path, {**bytes_config, "partitions_per_job": 40}) as run:
        run.wait_for(lambda: run.workers(script))
        assert run.runs()
        run.kill_group()
    assert not (tmp_path / "results" / "usual_600arcs").exists()
    resume(tmp_path)
    expected = margin_bytes(layouts / "margins" / "usual_600arcs")
    assert margin_bytes(tmp_path / "results" / "usual_600arcs") == expected
