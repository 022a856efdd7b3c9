"""Whatever is wrong, a run ends with one clear line, and what was there is left as it was.

A few faults are shown to the whole workflow, and all others to its functions, which is much sooner.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.margin.prepare import prepare_margins
from support.sites import (
    NAME,
    THRESHOLD,
    Fault,
    Site,
    assert_fails_in_a_job,
    assert_refused_before_any_job,
    assert_run_fails_in_a_job,
    assert_run_is_refused,
    zeroed_data,
)

# --- faults of the configuration, of which tests/unit/config has all -------------------------


def test_faulty_key_in_a_file_is_refused(site):
    site.config = {"margin_treshold": 5.0}
    assert_run_is_refused(site, "margin_treshold", "unknown key", "margin_threshold")


def test_faulty_value_on_the_command_line_is_refused(site):
    site.arguments = ["--config", "partitions_per_job=many"]
    assert_run_is_refused(site, "partitions_per_job", "many", "auto")


def test_two_margins_of_a_name_are_refused(site):
    config = {
        "input_catalog_path": str(site.catalog),
        "output_path": str(site.output),
        "tmp_dir": str(site.root / "tmp"),
        "margin_threshold": THRESHOLD,
        "margins": [{"fine_filtering": True}, {"fine_filtering": False}],
    }
    said = f"output_path: {site.output}/{NAME} overlaps with another margin of this run"
    with pytest.raises(MarginCacheError, match=said):
        prepare_margins(settings_of_margins(config))


# --- faults of the catalog that show before any job ------------------------------------------


def missing(site: Site):
    shutil.rmtree(site.catalog)


def file_instead(site: Site):
    shutil.rmtree(site.catalog)
    site.catalog.write_text("a catalog")


def no_info(site: Site):
    (site.catalog / "catalog_info.json").unlink()


def of_type(catalog_type: str) -> Fault:
    def fault(site: Site):
        edit_info(site, catalog_type=catalog_type)

    return fault


def edit_info(site: Site, **values: Any):
    path = site.catalog / "catalog_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def garbage_in(name: str, content: bytes) -> Fault:
    def fault(site: Site):
        (site.catalog / name).write_bytes(content)

    return fault


def edit_partition_info(edit: Callable[[list[str]], list[str]]) -> Fault:
    def fault(site: Site):
        path = site.catalog / "partition_info.csv"
        path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))

    return fault


def lost_partition(site: Site):
    site.partition(3).unlink()


def no_partitions(site: Site):
    for directory in site.catalog.glob("Norder=*"):
        shutil.rmtree(directory)
    edit_partition_info(lambda lines: lines[:1])(site)


def broken_link(site: Site):
    path = site.partition(3)
    path.unlink()
    path.symlink_to("nowhere")


def overlapping_partitions(site: Site):
    inside = site.catalog / "Norder=2/Dir=0/Npix=70.parquet"  # inside pixel 4 of order 0
    inside.parent.mkdir(parents=True)
    shutil.copy(site.catalog / "Norder=0/Dir=0/Npix=4.parquet", inside)
    edit_partition_info(lambda lines: [*lines, "2,70,0\n"])(site)


def cut_end(number: int) -> Fault:
    def fault(site: Site):
        path = site.partition(number)
        path.write_bytes(path.read_bytes()[:-100])

    return fault


def wrong_footer_length(number: int) -> Fault:
    """The magic bytes are there, but the footer is said to be longer than the file."""

    def fault(site: Site):
        path = site.partition(number)
        path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x0f" + b"PAR1")

    return fault


def empty_file(site: Site):
    site.partition(5).write_bytes(b"")


def without_column(column: str) -> Fault:
    """The column is nowhere, nor in _common_metadata."""
    return in_all_files(lambda table: table.drop_columns([column]))


def in_all_files(edit: Callable[[pa.Table], pa.Table]) -> Fault:
    """All partitions are edited, and _common_metadata."""

    def fault(site: Site):
        for path in site.catalog.rglob("*.parquet"):
            rewrite(path, edit)
        schema = pq.read_schema(site.partition(0))
        pq.write_metadata(schema, site.catalog / "_common_metadata")
        (site.catalog / "_metadata").unlink()

    return fault


def twin_column(table: pa.Table) -> pa.Table:
    return table.append_column("mag", table["mag"])


def rewrite(path: Path, edit: Callable[[pa.Table], pa.Table], **options: Any):
    pq.write_table(edit(pq.ParquetFile(path).read()), path, **options)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(fault, words, id=name)
        for name, fault, words in [
            ("missing", missing, ("no such directory",)),
            ("file", file_instead, ("no such directory",)),
            ("foreign", no_info, ("HiPSCat catalog", "catalog_info.json")),
            ("margin", of_type("margin"), ("type margin", "object or source")),
            ("index", of_type("index"), ("type index", "object or source")),
            ("association", of_type("association"), ("type association", "object or source")),
            ("info", garbage_in("catalog_info.json", b"\xff{"), ("catalog_info.json", "damaged")),
            ("info-list", garbage_in("catalog_info.json", b"[]"), ("catalog_info.json", "damaged")),
            ("lost", lost_partition, ("partition_info.csv lists", "Npix=", "missing")),
            (
                "unlisted",
                edit_partition_info(lambda lines: lines[:-1]),
                ("partition_info.csv does not list", "Npix=", "not listed"),
            ),
            (
                "partition-info",
                garbage_in("partition_info.csv", b"Norder,Npix\n\xff\x00,1\n"),
                ("partition_info.csv", "damaged"),
            ),
            (
                "partition-info-long",
                garbage_in("partition_info.csv", b"x" * 200_000),
                ("partition_info.csv", "damaged"),
            ),
            ("broken-link", broken_link, ("Npix=", "No such file or directory")),
            ("no-partitions", no_partitions, ("no partitions",)),
            ("overlap", overlapping_partitions, ("Npix=4.parquet", "Npix=70.parquet", "overlap")),
            ("common", garbage_in("_common_metadata", b"PAR1"), ("_common_metadata", "read")),
        ]
    ],
)
def test_faulty_catalog_is_refused(site, fault, words):
    fault(site)
    assert_refused_before_any_job(site, str(site.catalog), *words)


@pytest.mark.parametrize(
    ("fault", "number", "words"),
    [
        pytest.param(cut_end(0), 0, ("truncated", "Copy it again"), id="cut-first"),
        pytest.param(cut_end(7), 7, ("truncated", "Copy it again"), id="cut"),
        pytest.param(empty_file, 5, ("empty", "0 bytes", "Copy it again"), id="empty"),
        pytest.param(wrong_footer_length(9), 9, ("cannot be read",), id="footer-length"),
    ],
)
def test_damaged_partition_is_refused(site, fault, number, words):
    fault(site)
    assert_refused_before_any_job(site, str(site.partition(number)), *words)


def test_a_whole_run_refuses_a_damaged_catalog_before_any_job(site):
    cut_end(0)(site)
    assert_run_is_refused(site, str(site.partition(0)), "truncated", "Copy it again")


@pytest.mark.parametrize("column", ["_hipscat_index", "ra", "dec"])
def test_catalog_without_a_needed_column_is_refused(site, column):
    without_column(column)(site)
    assert_refused_before_any_job(site, str(site.catalog), f"no column {column}")


def test_catalog_with_two_columns_of_a_name_is_refused(site):
    in_all_files(twin_column)(site)
    assert_refused_before_any_job(site, str(site.catalog), "several columns mag", "Rename")


def test_pixel_that_no_partition_overlaps_is_refused(site):
    site.partition(0).unlink()
    listed = site.catalog / "partition_info.csv"
    head, gone, *others = listed.read_text().splitlines(keepends=True)
    listed.write_text("".join([head, *others]))
    pixel = [int(number) for number in gone.split(",")[:2]]
    site.config = {"debug_filter_pixel_list": [pixel]}
    said = f"no partition that overlaps {pixel}"
    assert_refused_before_any_job(site, "debug_filter_pixel_list", said)


# --- faults that only a job can find ---------------------------------------------------------


def cut_middle(site: Site):
    """The end is whole, but a part of the data before it is gone."""
    path = site.partition(9)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4] + content[len(content) // 2 :])


def other_type(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("mag")
    return table.set_column(place, "mag", table["mag"].cast(pa.float64()))


def extra_column(table: pa.Table) -> pa.Table:
    return table.append_column("surprise", pa.nulls(table.num_rows, pa.int8()))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        pytest.param(other_type, ("column mag", "double", "float"), id="type"),
        pytest.param(lambda table: table.drop_columns(["mag"]), ("lacks", "mag"), id="missing"),
        pytest.param(lambda table: table.drop_columns(["dec"]), ("no column dec",), id="position"),
        pytest.param(extra_column, ("has the column surprise",), id="extra"),
        pytest.param(twin_column, ("several columns mag",), id="twin"),
    ],
)
def test_partition_of_another_schema_is_named(site, edit, words):
    rewrite(site.partition(9), edit)
    assert_fails_in_a_job(site, str(site.partition(9)), *words)


def test_a_whole_run_names_the_damaged_file_that_its_job_finds(site):
    zeroed_data(site)
    assert_run_fails_in_a_job(site, str(site.partition(9)), "cannot be read")


@pytest.mark.parametrize("fault", [cut_middle, zeroed_data])
def test_partition_corrupted_inside_is_named(site, fault):
    fault(site)
    assert_fails_in_a_job(site, str(site.partition(9)), "cannot be read")


@pytest.mark.parametrize(
    ("column", "value"), [("ra", None), ("dec", float("nan")), ("dec", float("inf"))]
)
def test_rows_without_coordinates_are_counted(site, column, value):
    path = site.partition(9)
    rows = [1, 30, 31, 95]  # in three row groups of 40

    def edit(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        for row in rows:
            values[row] = value
        place = table.schema.get_field_index(column)
        return table.set_column(place, table.schema.field(place), pa.array(values, pa.float64()))

    rewrite(path, edit, row_group_size=40)
    assert_fails_in_a_job(site, str(path), f"in at least {len(rows)} of ", column)
