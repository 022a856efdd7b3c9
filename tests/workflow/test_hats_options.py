"""Margins with the options of hats-import: what they change, and that hats takes all of them."""

import os
import re
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hats import read_hats
from hats.io.validation import is_valid_catalog
from margin_cache.catalog import hats
from support import optioned_margins
from support.faulty_margins import make_margins, run_in_child
from support.margins import margin_digests, partition_paths, remains, tree_digest
from support.once import once
from support.optioned_margins import FURTHER, OPTIONS, THRESHOLD
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "hats_options", optioned_margins.make_margins)


def rows_of(margin: Path) -> pa.Table:
    """All rows, in the order of pixels, whatever the files are called."""

    def pixel(file: Path) -> list[int]:
        return [int(number) for number in re.findall(r"(?:Norder|/Npix)=(\d+)", file.as_posix())]

    files = sorted(partition_paths(margin), key=pixel)
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def properties_of(margin: Path) -> dict[str, str]:
    lines = (margin / "hats.properties").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key: value.replace("\\", "") for key, value in pairs}


@pytest.mark.parametrize("name", OPTIONS)
def test_hats_finds_a_margin_with_any_option_valid(name: str, made: Path) -> None:
    margin = made / "results" / name
    assert is_valid_catalog(margin, strict=True)
    catalog = read_hats(margin)
    pixels = catalog.get_healpix_pixels()
    rows = sum(len(catalog.read_pixel_to_pandas(pixel)) for pixel in pixels)
    assert rows == catalog.catalog_info.total_rows
    assert rows == 0 if name == "further_empty" else rows > 50


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "further_empty"])
def test_no_option_changes_the_rows(name: str, made: Path) -> None:
    assert rows_of(made / "results" / name).equals(rows_of(made / "results" / "plain"))


def test_files_are_named_as_asked_for(made: Path) -> None:
    def names(margin: str) -> set[str]:
        root = made / "results" / margin / "dataset"
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    plain = names("plain")
    for margin, ending in (
        ("suffix", r"\1.pq"),
        ("directories", r"\1/\1.parquet"),
        ("named", r"\1/part0.parquet"),
    ):
        expected = {re.sub(r"(Npix=\d+).parquet", ending, name) for name in plain}
        assert names(margin) == expected
        footers = pq.read_metadata(made / "results" / margin / "dataset" / "_metadata")
        paths = {
            footers.row_group(group).column(0).file_path for group in range(footers.num_row_groups)
        }
        assert paths == expected - {"_metadata", "_common_metadata"}
    assert properties_of(made / "results" / "suffix")["hats_npix_suffix"] == ".pq"
    assert properties_of(made / "results" / "named")["hats_npix_suffix"] == "/"


def test_properties_are_added_and_those_of_the_workflow_stay(made: Path) -> None:
    plain, changed = (properties_of(made / "results" / name) for name in ("plain", "properties"))
    for values in (plain, changed):
        del values["hats_creation_date"], values["hats_estsize"], values["obs_collection"]
    assert changed == plain | {"obs_copyright": "CDS: a=b", "hats_cols_default": "ra dec"}
    assert changed["hats_builder"].startswith("snakemake-margin-cache")


def test_files_are_written_as_asked_for(made: Path) -> None:
    largest = 0
    for file in partition_paths(made / "results" / "written"):
        footer = pq.read_metadata(file)
        names = [footer.schema.column(number).path for number in range(footer.num_columns)]
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            largest = max(largest, group.num_rows)
            assert group.column(names.index("ra")).compression == "GZIP"
            assert not group.column(names.index("ra")).has_dictionary_page
            assert group.column(names.index("id")).has_dictionary_page
    assert largest == 3


def test_optional_files_change_no_other_file(made: Path) -> None:
    plain, further = (tree_digest(made / "results" / name) for name in ("plain", "further"))
    told = {"provenance_info.json", "hats.properties", "properties"}
    assert further.keys() - plain.keys() == {*FURTHER.values()}
    assert all(further[path] == plain[path] for path in plain.keys() - told)
    empty = tree_digest(made / "results" / "further_empty").keys()
    assert empty & set(FURTHER.values()) == {"index.html", "README.md"}
    assert remains(made) == []


@pytest.mark.parametrize("key", FURTHER)
def test_each_key_makes_its_own_file(key: str, made: Path, tmp_path: Path) -> None:
    margin = tmp_path / "plain"
    shutil.copytree(made / "results" / "plain", margin)
    before = tree_digest(margin)
    hats._make_with_hats(margin, "plain", [key])
    after = tree_digest(margin)
    assert after.keys() - before.keys() == {FURTHER[key]}
    assert before.items() <= after.items()


def test_optional_files_describe_the_margin(made: Path) -> None:
    margin = made / "results" / "plain"
    files = partition_paths(margin)
    further = made / "results" / "further"
    thumbnail = pq.read_table(further / "data_thumbnail.parquet")
    firsts = [pq.ParquetFile(file).read()["id"][0].as_py() for file in files]
    assert sorted(thumbnail["id"].to_pylist()) == sorted(firsts)
    statistics = pq.read_table(further / "per_partition_statistics.parquet")
    assert statistics.num_rows == len(files)
    rows = rows_of(margin).num_rows
    assert sum(statistics["id::row_count"].to_pylist()) == rows
    least = min(statistics["ra::min_value"].to_pylist())
    assert least == min(rows_of(margin)["ra"].to_pylist())
    for name in ("index.html", "README.md"):
        text = (further / name).read_text(encoding="utf-8")
        assert "further/" in text and "staging" not in text and str(rows) in text
    png = (further / "partition_info.png").read_bytes()
    assert png.startswith(b"\x89PNG")


def outcome(directory: Path, config: dict[str, Any]) -> str:
    """What becomes of a margin up to its first job, without Snakemake."""

    def make() -> None:
        with chdir(directory):
            make_margins(config, lambda stage: os.write(1, f"{stage}\n".encode()))

    return run_in_child(make)[1]


def test_another_option_refuses_or_replaces_the_margin(made: Path, tmp_path: Path) -> None:
    for part in ("sky", "results/plain"):
        shutil.copytree(made / part, tmp_path / part)
    plain = {
        "input_catalog_path": "sky",
        "margin_threshold": THRESHOLD,
        "output_artifact_name": "plain",
    }
    assert outcome(tmp_path, plain) == "begin\n"
    before = tree_digest(tmp_path / "results")
    changes = [OPTIONS[key] for key in OPTIONS.keys() - {"plain", "further", "further_empty"}]
    for options in [*changes, *({key: True} for key in FURTHER)]:
        refused = outcome(tmp_path, plain | options)
        assert "was made with other parameters" in refused and "map\n" not in refused
        assert next(iter(options)) in refused
        assert tree_digest(tmp_path / "results") == before
    made_again = outcome(tmp_path, plain | OPTIONS["suffix"] | {"overwrite": True})
    assert made_again.split() == ["begin", "map", "reduce", "finish"]
    assert (
        tree_digest(tmp_path / "results/plain").keys()
        == tree_digest(made / "results/suffix").keys()
    )


def test_keys_for_hats_margins_are_refused_for_others(tmp_path: Path) -> None:
    catalog = small_catalog(tmp_path / "sky", rows=300, max_rows=100)
    refused = outcome(tmp_path, {"input_catalog_path": str(catalog), "npix_suffix": "/"})
    assert "npix_suffix: is for margins of HATS catalogs" in refused


def jobs(output: str) -> dict[str, int]:
    """The jobs that a run has announced, by their rules."""
    found = re.findall(r"^(map_partitions|reduce_margins|finish_margin) +(\d+)$", output, re.M)
    return {rule: int(count) for rule, count in found}


def test_resume_false_rebuilds_the_margin_in_each_run(tmp_path: Path) -> None:
    catalog = small_catalog(tmp_path / "sky", rows=300, max_rows=100)
    config = {"input_catalog_path": str(catalog), "output_artifact_name": "margin"}
    run_workflow(tmp_path, config=config, check=True)
    before = margin_digests(tmp_path)
    file = tmp_path / "results" / "margin" / "partition_info.csv"
    inode = file.stat().st_ino
    config |= {"resume": False}
    done = run_workflow(tmp_path, config=config, check=True).stdout
    assert jobs(done) == {"map_partitions": 1, "reduce_margins": 1}
    assert file.stat().st_ino != inode
    assert margin_digests(tmp_path) == before
    assert "Nothing to be done" in run_workflow(tmp_path, config=config | {"resume": True}).stdout
