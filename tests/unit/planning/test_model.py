"""A plan is read as it was written, and named after everything that it depends on."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.model import CatalogInfo
from margin_cache.errors import MarginCacheError
from margin_cache.parquet.primary_options import ColumnOptions, PrimaryOptions
from margin_cache.planning.model import (
    MarginParameters,
    Plan,
    describe_job,
    is_current,
    job_label,
    library_version,
    load_plan,
    save_plan,
)
from support.plans import PARAMETERS, make_plan, partitions_of
from support.typed_tables import typed_table


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    columns = {"ra": ColumnOptions(False, "BYTE_STREAM_SPLIT"), "dec": ColumnOptions()}
    options = PrimaryOptions(columns=columns)
    plan = make_plan(replace(PARAMETERS, primary_options=options), partitions_of(1))
    path = tmp_path / "deep" / plan.plan_id / "plan.npz"
    save_plan(plan, path)
    read = load_plan(path)
    assert read.parameters == plan.parameters
    assert read.schema.equals(plan.schema, check_metadata=True)
    assert (read.plan_id, read.input_fingerprint) == (plan.plan_id, plan.input_fingerprint)
    assert (read.map_names, read.reduce_names) == (plan.map_names, plan.reduce_names)
    for one, two in ((plan, read), (plan.partitions, read.partitions)):
        for name, value in vars(one).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(vars(two)[name], value)
                assert vars(two)[name].dtype == value.dtype
    for number, name in enumerate(plan.map_names):
        assert plan.map_job_of(name) == number
    for number, name in enumerate(plan.reduce_names):
        assert plan.reduce_job_of(name) == number
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "none.npz")


def test_a_plan_in_the_directory_of_another_plan_is_refused(tmp_path: Path) -> None:
    plan = make_plan(PARAMETERS, partitions_of(1))
    other = replace(plan, parameters=replace(PARAMETERS, threshold=PARAMETERS.threshold + 1))
    path = tmp_path / other.plan_id / "plan.npz"
    save_plan(plan, path)
    with pytest.raises(
        MarginCacheError, match=r"plan\.npz: is damaged, or belongs to another plan. Start"
    ):
        load_plan(path)


@pytest.mark.parametrize("place", [0, 100, -100])
def test_a_plan_with_a_damaged_byte_is_named(place: int, tmp_path: Path) -> None:
    plan = make_plan(PARAMETERS, partitions_of(1))
    path = tmp_path / plan.plan_id / "plan.npz"
    save_plan(plan, path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        MarginCacheError, match=r"plan\.npz: is damaged, or belongs to another plan. Start"
    ):
        load_plan(path)


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, PrimaryOptions):
        return replace(value, columns={"ra": ColumnOptions(encoding="PLAIN")})
    if isinstance(value, dict):
        return {**value, "x": 1}
    if isinstance(value, list):
        return [*value, "x"]
    return value + "x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", [f.name for f in fields(MarginParameters) if f.name != "catalog"])
def test_plan_id_depends_on_all_parameters(name: str) -> None:
    plan = make_plan(PARAMETERS, partitions_of(2))
    parameters = replace(PARAMETERS, **{name: changed(getattr(PARAMETERS, name))})
    assert replace(plan, parameters=parameters).plan_id != plan.plan_id


@pytest.mark.parametrize("name", [f.name for f in fields(CatalogInfo)])
def test_plan_id_depends_on_all_of_the_catalog(name: str) -> None:
    plan = make_plan(PARAMETERS, partitions_of(2))
    catalog = replace(PARAMETERS.catalog, **{name: changed(getattr(PARAMETERS.catalog, name))})
    assert replace(plan, parameters=replace(PARAMETERS, catalog=catalog)).plan_id != plan.plan_id


def test_a_schema_of_any_types_is_read_as_it_was_written(tmp_path: Path) -> None:
    pq.write_table(typed_table(10, 1), tmp_path / "typed.parquet")
    schema = pq.read_schema(tmp_path / "typed.parquet").with_metadata({"who": "nobody"})
    plan = make_plan(PARAMETERS, partitions_of(1), schema=schema)
    path = tmp_path / plan.plan_id / "plan.npz"
    save_plan(plan, path)
    read = load_plan(path)
    assert read.schema.equals(schema, check_metadata=True)
    assert read.content_id == plan.content_id


def test_plan_id_depends_on_the_library_and_the_schema_with_its_metadata() -> None:
    plan = make_plan(PARAMETERS, partitions_of(2))
    assert make_plan(PARAMETERS, partitions_of(2), library="1.1").plan_id != plan.plan_id
    for schema in (
        plan.schema.append(pa.field("mag", pa.float32())),
        plan.schema.with_metadata({"who": "somebody"}),
    ):
        assert replace(plan, schema=schema).content_id != plan.content_id
        assert replace(plan, schema=schema).plan_id != plan.plan_id


def test_content_id_does_not_depend_on_how_jobs_are_cut_nor_on_the_library() -> None:
    plan = make_plan(PARAMETERS, partitions_of(2))
    for changes in ({"partitions_per_job": 3}, {"job_size_mb": 1.0}):
        other = make_plan(replace(PARAMETERS, **changes), partitions_of(2), library="1.1")
        assert other.content_id == plan.content_id
        assert other.plan_id != plan.plan_id


def test_content_id_does_not_depend_on_where_the_catalog_is() -> None:
    plan = make_plan(PARAMETERS, partitions_of(2))
    catalog = replace(PARAMETERS.catalog, path="s3://bucket/sky")
    other = make_plan(replace(PARAMETERS, catalog=catalog), partitions_of(2))
    assert other.content_id == plan.content_id
    assert other.plan_id != plan.plan_id


def test_plan_id_depends_on_which_partitions_there_are_and_not_on_their_state() -> None:
    plan = make_plan(PARAMETERS, partitions_of(2))
    fewer = plan.partitions.take(np.arange(len(plan.partitions.orders) - 1))
    assert replace(plan, partitions=fewer).plan_id != plan.plan_id
    for name in ("sizes", "times", "parts"):
        other = with_change(plan, name, 3)
        assert other.plan_id == plan.plan_id
        assert other.input_fingerprint != plan.input_fingerprint


def with_change(plan: Plan, name: str, partition: int) -> Plan:
    values = getattr(plan.partitions, name).copy()
    values[partition] += 1
    return replace(plan, partitions=replace(plan.partitions, **{name: values}))


@pytest.mark.parametrize("name", ["sizes", "times", "parts"])
def test_a_changed_partition_renames_only_the_jobs_that_read_it(name: str) -> None:
    plan = make_plan(replace(PARAMETERS, partitions_per_job=2), partitions_of(3))
    other = with_change(plan, name, 5)
    renamed = [job for job, new in enumerate(other.map_names) if new != plan.map_names[job]]
    assert renamed == [2]
    readers = [job for job in range(len(plan.reduce_names)) if 2 in plan.needs_of(job)]
    renamed = [job for job, new in enumerate(other.reduce_names) if new != plan.reduce_names[job]]
    assert renamed == readers and 0 < len(readers) < len(plan.reduce_names)
    with pytest.raises(ValueError, match="not a job"):
        plan.map_job_of(other.map_names[2])


@pytest.mark.parametrize(
    ("suffix", "name", "expected"),
    [
        (".pq", "", "Norder=4/Dir=0/Npix=7.pq"),
        ("/", "", "Norder=4/Dir=0/Npix=7/Npix=7.parquet"),
        ("/", "part0.parquet", "Norder=4/Dir=0/Npix=7/part0.parquet"),
    ],
)
def test_files_of_a_margin_are_named_by_its_suffix(suffix: str, name: str, expected: str) -> None:
    plan = make_plan(
        replace(PARAMETERS, npix_suffix=suffix, npix_parquet_name=name), partitions_of(2)
    )
    plan.destination_orders[0], plan.destination_pixels[0] = 4, 7
    assert plan.margin_path(0) == expected


# --- names of jobs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "pixels", "name"),
    [
        ([4, 2, 1], [254, 7, 21], "o4p254-o1p21"),
        ([4, 4], [254, 255], "o4p254-o4p255"),
        ([0], [11], "o0p11"),
    ],
)
def test_first_and_last_pixel_are_named(orders, pixels, name):
    assert job_label(np.array(orders), np.array(pixels)) == name


def test_jobs_are_named_after_their_first_and_last_pixel():
    partitions = partitions_of(7)
    plan = make_plan(replace(PARAMETERS, partitions_per_job=4), partitions)
    for names, orders, pixels in (
        (plan.map_names, partitions.orders, partitions.pixels),
        (plan.reduce_names, plan.destination_orders, plan.destination_pixels),
    ):
        own = rf"o{orders[4]}p{pixels[4]}-o{orders[7]}p{pixels[7]}"
        assert re.fullmatch(rf"00001-{own}-[0-9a-f]+", names[1])
        assert describe_job(names[-1]).endswith(f"{orders[-1]}/{pixels[-1]}")


@pytest.mark.parametrize(
    ("job", "words"),
    [("00003-o4p254-o1p21-ab12", "4/254 to 1/21"), ("00000-o0p11-0f", "0/11")],
)
def test_the_name_of_a_job_describes_its_pixels(job, words):
    assert describe_job(job) == words


# --- versions of the library --------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "healpix").mkdir()
    (tmp_path / "healpix" / "boundary.py").write_text("x = 1\n")
    (tmp_path / "errors.py").write_text("")
    return tmp_path


def test_a_release_is_its_version_whatever_the_code(library: Path) -> None:
    assert library_version("1.2.0", library) == "1.2.0"


def test_a_version_in_development_changes_with_every_file(library: Path) -> None:
    seen = {library_version("1.2.0.dev0", library)}
    (library / "healpix" / "boundary.py").write_text("x = 2\n")
    seen.add(library_version("1.2.0.dev0", library))
    (library / "errors.py").rename(library / "mistakes.py")
    seen.add(library_version("1.2.0.dev0", library))
    (library / "mistakes.py").unlink()
    seen.add(library_version("1.2.0.dev0", library))
    assert len(seen) == 4
    assert all(version.startswith("1.2.0.dev0+") for version in seen)


def test_a_version_in_development_is_the_same_for_the_same_code(library: Path) -> None:
    before = library_version("1.2.0.dev0", library)
    (library / "healpix" / "__pycache__").mkdir()
    (library / "healpix" / "__pycache__" / "boundary.pyc").write_bytes(b"compiled")
    assert library_version("1.2.0.dev0", library) == before


def test_the_audit_does_not_change_the_version(library: Path) -> None:
    before = library_version("1.2.0.dev0", library)
    (library / "audit").mkdir()
    (library / "audit" / "distance.py").write_text("x = 1\n")
    assert library_version("1.2.0.dev0", library) == before


@pytest.mark.parametrize(
    ("made", "now", "good"),
    [
        ("1.0.0", "1.0.0", True),
        ("1.0.0", "1.1.0", True),
        ("1.1.0.dev0+a", "1.1.0.dev0+a", True),
        ("1.1.0.dev0+a", "1.1.0.dev0+b", False),
        ("1.1.0.dev0+a", "1.1.0", False),
        ("1.0.0", "1.1.0.dev0+a", False),
    ],
)
def test_margins_of_another_release_are_current(made: str, now: str, good: bool) -> None:
    assert is_current(made, now) == good
