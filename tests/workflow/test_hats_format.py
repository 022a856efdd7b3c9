"""What a margin of a HATS catalog says about itself, in itself and in its collection."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hats.io.size_estimates import estimate_dir_size
from support import skies
from support.faulty_margins import make_in
from support.margins import partition_paths, remains, tree_digest
from support.once import once
from support.typed_tables import light_curve_table
from support.workflow_runs import run_workflow
from support.write_hats import write_collection, write_hats

ROWS, MAX_ROWS = 6000, 400


def write_catalog(path: Path, **options: Any) -> Path:
    """A catalog of light curves, 12 or more partitions, without those around a hole."""
    table = light_curve_table(ROWS, 1)
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    kept = np.flatnonzero(skies.nested_pixels(ra, dec, 1) % 7 > 0)
    table = table.take(kept)
    partitions = skies.adaptive_partitions(ra[kept], dec[kept], max_rows=MAX_ROWS)
    write_hats(path.parent, path.name, table, partitions, **options)
    return path


def properties_of(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key.strip(): re.sub(r"\\(.)", r"\1", value.strip()) for key, value in pairs}


# --- a margin by itself ---------------------------------------------------------------------

CODECS = {"zstd": None, "snappy": 10, "gzip": 7, "none": 1000}


def make_margins(directory: Path) -> None:
    for codec, rows in CODECS.items():
        write_catalog(directory / codec, compression=codec, row_group_size=rows)
    write_catalog(directory / "other", index_column="_healpix_20", index_order=20, suffix="/")
    write_catalog(directory / "no_index", index_column=None)
    config = {
        "margin_threshold": 1800.0,
        "margins": [
            *({"input_catalog_path": codec} for codec in CODECS),
            {"input_catalog_path": "other"},
            {"input_catalog_path": "no_index", "create_metadata": False},
            {"input_catalog_path": "zstd", "margin_threshold": 0.5},
            {"input_catalog_path": "zstd", "margin_threshold": 5.0},
        ],
    }
    make_in(directory, config)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "hats_format", make_margins)


@pytest.mark.parametrize("codec", CODECS)
def test_codec_and_row_groups_follow_the_primary(codec: str, made: Path) -> None:
    largest = CODECS[codec] or 10**9
    expected = "UNCOMPRESSED" if codec == "none" else codec.upper()
    sizes = []
    for file in partition_paths(made / "results" / f"{codec}_1800arcs"):
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        assert {
            group.column(number).compression
            for group in groups
            for number in range(metadata.num_columns)
        } == {expected}
        rows = [group.num_rows for group in groups]
        assert all(count == largest for count in rows[:-1]) and 0 < rows[-1] <= largest
        sizes.append(len(rows))
    assert len(sizes) > 12
    assert (max(sizes) > 1) == (largest < 20)


@pytest.mark.parametrize("layout", ["zstd", "other", "no_index"])
def test_properties_are_complete_and_right(layout: str, made: Path) -> None:
    margin = made / "results" / f"{layout}_1800arcs"
    files = partition_paths(margin)
    orders = np.array([int(file.parts[-3].removeprefix("Norder=")) for file in files])
    index = {
        "zstd": {"hats_col_healpix": "_healpix_29", "hats_col_healpix_order": "29"},
        "other": {"hats_col_healpix": "_healpix_20", "hats_col_healpix_order": "20"},
        "no_index": {},
    }[layout]
    found = properties_of(margin / "hats.properties")
    assert re.fullmatch(r"snakemake-margin-cache v\d+\.\d+\.\d+\S*", found.pop("hats_builder"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\dUTC", found.pop("hats_creation_date"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", found.pop("hats_release_date"))
    assert re.fullmatch(r"v\d+\.\d+", found.pop("hats_version"))
    assert float(found.pop("hats_margin_threshold")) == 1800.0
    assert found == {
        "obs_collection": f"{layout}_1800arcs",
        "dataproduct_type": "margin",
        "hats_nrows": str(sum(pq.read_metadata(file).num_rows for file in files)),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        **index,
        "hats_primary_table_url": layout,
        "hats_npix_suffix": ".parquet",
        "hats_order": str(orders.max()),
        "hats_estsize": str(estimate_dir_size(margin, divisor=1024)),
        "moc_sky_fraction": f"{(0.25**orders / 12).sum():.5f}",
    }
    assert (margin / "properties").read_bytes() == (margin / "hats.properties").read_bytes()


def test_metadata_has_the_footers_of_all_files(made: Path) -> None:
    dataset = made / "results" / "snappy_1800arcs" / "dataset"
    together = pq.read_metadata(dataset / "_metadata")
    rows: dict[str, int] = {}
    for number in range(together.num_row_groups):
        group = together.row_group(number)
        path = group.column(0).file_path
        rows[path] = rows.get(path, 0) + group.num_rows
    files = partition_paths(dataset.parent)
    expected = {
        file.relative_to(dataset).as_posix(): pq.read_metadata(file).num_rows for file in files
    }
    assert rows == expected


def test_without_create_metadata_only_metadata_is_missing(made: Path) -> None:
    results = made / "results"
    with_it, without_it = (
        {
            file.relative_to(results / name).as_posix()
            for file in (results / name).rglob("*")
            if file.is_file() and not file.name.startswith("Npix=")
        }
        for name in ("zstd_1800arcs", "no_index_1800arcs")
    )
    assert with_it - without_it == {"dataset/_metadata"} and not without_it - with_it


def test_thresholds_with_and_without_a_fraction_have_different_names(made: Path) -> None:
    for name, threshold in (("zstd_0.5arcs", 0.5), ("zstd_5arcs", 5.0)):
        properties = properties_of(made / "results" / name / "properties")
        assert properties["obs_collection"] == name
        assert float(properties["hats_margin_threshold"]) == threshold


# --- collections ----------------------------------------------------------------------------

MORE_LINES = """\
# who made this, and why
obs_title=A sky: with = and ö
obs_ack =  thanks
all_indexes=id sky_id

hats_builder=by hand
"""


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A collection with one catalog and some lines of its own."""
    path = tmp_path / "collection"
    write_collection(tmp_path, path.name, "sky")
    write_catalog(path / "sky")
    with (path / "collection.properties").open("a", encoding="utf-8") as file:
        file.write(MORE_LINES)
    return path


def configuration(catalog: str, output: str, *thresholds: float) -> dict[str, Any]:
    margins = [{"margin_threshold": threshold} for threshold in thresholds]
    return {"input_catalog_path": catalog, "output_path": output, "margins": margins}


def margin_lines(collection: Path) -> tuple[str | None, str | None]:
    values = properties_of(collection / "collection.properties")
    return values.get("all_margins"), values.get("default_margin")


def test_margins_are_listed_in_their_collection(collection: Path) -> None:
    run_workflow(
        collection.parent, config=configuration("collection", "collection", 10.0), check=True
    )
    assert margin_lines(collection) == ("sky_10arcs", "sky_10arcs")
    run_workflow(
        collection.parent, config=configuration("collection/sky", "collection", 0.5), check=True
    )
    assert margin_lines(collection) == ("sky_10arcs sky_0.5arcs", "sky_10arcs")
    for name in ("sky_10arcs", "sky_0.5arcs"):
        properties = properties_of(collection / name / "hats.properties")
        # As hats-import has it there; neither hats nor lsdb looks for anything at this path.
        assert properties["hats_primary_table_url"] == "collection/sky"


def test_margins_of_one_name_in_two_collections_are_made_by_one_run(collection: Path) -> None:
    """Of two catalogs, and of one whose margins have one plan, which need a tmp_dir each."""
    directory = collection.parent
    shutil.copytree(collection, directory / "copy")
    margins = [
        {"input_catalog_path": "collection", "output_path": "collection"},
        {"input_catalog_path": "copy", "output_path": "copy"},
        {"input_catalog_path": "copy", "output_path": "elsewhere", "tmp_dir": "own"},
    ]
    config = {"margin_threshold": 600.0, "margins": margins}
    run_workflow(directory, config=config, check=True)
    made = [tree_digest(directory / margin["output_path"] / "sky_600arcs") for margin in margins]
    for name in ("provenance_info.json", "hats.properties", "properties"):
        for digests in made:
            del digests[name]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) > 12
    for name in ("collection", "copy"):
        assert margin_lines(directory / name) == ("sky_600arcs", "sky_600arcs")
    output = run_workflow(directory, check=True).stdout
    assert "Nothing to be done" in output
    shutil.rmtree(directory / "copy" / "sky_600arcs")
    output = run_workflow(directory, check=True).stdout
    assert tree_digest(directory / "copy" / "sky_600arcs").items() >= made[1].items()
    assert remains(directory) == []


def test_other_properties_and_margins_of_a_collection_stay(collection: Path) -> None:
    file = collection / "collection.properties"
    with file.open("a", encoding="utf-8") as opened:
        opened.write("all_margins=theirs\ndefault_margin=theirs\n")
    before = properties_of(file)
    make_in(collection.parent, configuration("collection", "collection", 1.0, 2.0))
    after = properties_of(file)
    first, *ours = after.pop("all_margins").split()
    assert first == before.pop("all_margins")
    assert sorted(ours) == ["sky_1arcs", "sky_2arcs"]  # made at the same time
    assert after == before


def test_other_lines_of_a_collection_stay_as_they_are(collection: Path) -> None:
    before = (collection / "collection.properties").read_text(encoding="utf-8").splitlines()
    make_in(collection.parent, configuration("collection", "collection", 10.0))
    after = (collection / "collection.properties").read_text(encoding="utf-8").splitlines()
    others = [line for line in after if not line.startswith(("all_margins", "default_margin"))]
    assert others == before


def test_a_collection_is_not_touched_by_a_margin_elsewhere(collection: Path) -> None:
    file = collection / "collection.properties"
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    make_in(collection.parent, configuration("collection", "elsewhere", 10.0))
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    margin = collection.parent / "elsewhere" / "sky_10arcs"
    url = properties_of(margin / "properties")["hats_primary_table_url"]
    assert url == "collection/sky"


def test_a_complete_margin_that_is_not_listed_is_listed_by_the_next_run(collection: Path) -> None:
    file = collection / "collection.properties"
    before = file.read_bytes()
    make_in(collection.parent, configuration("collection", "collection", 10.0))
    file.write_bytes(before)
    make_in(collection.parent, configuration("collection", "collection", 10.0))
    assert margin_lines(collection) == ("sky_10arcs", "sky_10arcs")


def test_a_margin_of_another_catalog_is_not_listed(collection: Path) -> None:
    shutil.copytree(collection / "sky", collection.parent / "other")
    before = (collection / "collection.properties").read_bytes()
    make_in(collection.parent, configuration("other", "collection", 10.0))
    assert (collection / "sky_10arcs" / "hats.properties").exists()
    assert (collection / "collection.properties").read_bytes() == before
