"""What is in the way of a margin is kept, or replaced on demand, and odd names do not matter."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.margins import tree_digest
from support.sites import (
    NAME,
    OTHER_THRESHOLD,
    THRESHOLD,
    Site,
    assert_fails_in_a_job,
    assert_refused_before_any_job,
    with_finished_margin,
    zeroed_data,
)
from support.workflow_runs import run_workflow

# What a shell, Snakemake's wildcards or a format string could take for something else.
ODD_NAME = 'it\'s "odd" $HOME; é☆'
BRACES = " {x} {{y}}"


# --- faults of the places --------------------------------------------------------------------


def test_output_that_is_the_input_is_refused(site):
    site.config = {"output_path": site.root, "output_artifact_name": "small", "overwrite": True}
    assert_refused_before_any_job(site, "output_path", str(site.catalog), "another output_path")


def test_output_inside_the_input_is_refused(site):
    site.config = {"output_path": site.catalog / "margins", "overwrite": True}
    assert_refused_before_any_job(site, "output_path", "inside", str(site.catalog))


def test_output_inside_the_input_by_a_link_is_refused(site):
    (site.root / "link").symlink_to(site.catalog)
    site.config = {"output_path": site.root / "link"}
    assert_refused_before_any_job(site, "output_path", "inside", str(site.catalog))


def test_output_around_the_input_is_refused(site):
    site.config = {
        "output_path": site.root.parent,
        "output_artifact_name": site.root.name,
        "overwrite": True,
    }
    assert_refused_before_any_job(site, "output_path", "around", str(site.catalog))


def test_intermediate_files_inside_the_input_are_refused(site):
    site.config = {"tmp_dir": site.catalog / "tmp"}
    assert_refused_before_any_job(site, "tmp_dir", "inside", str(site.catalog))


@pytest.mark.parametrize("key", ["output_path", "tmp_dir"])
def test_a_location_inside_the_input_of_another_margin_is_refused(site, pristine, key):
    site.config = {"margins": [{}, {"input_catalog_path": str(pristine), key: str(site.catalog)}]}
    site.config["margins"][1]["output_artifact_name"] = "second"
    assert_refused_before_any_job(site, key, "inside", str(site.catalog))


@pytest.mark.parametrize("key", ["output_path", "tmp_dir"])
def test_a_location_below_a_file_is_refused(site, key):
    (site.root / "file").write_text("not a directory")
    site.config = {key: site.root / "file" / "below"}
    assert_refused_before_any_job(site, str(site.root / "file"), "Not a directory")


@pytest.mark.parametrize("key", ["output_path", "tmp_dir"])
def test_a_location_that_cannot_be_created_is_refused(site, key):
    site.config = {key: "/proc/margins"}
    assert_refused_before_any_job(site, key, "/proc", "cannot be written")


def test_file_of_the_margins_name_is_refused(site):
    site.output.mkdir()
    (site.output / NAME).write_text("not a directory")
    site.config = {"overwrite": True}
    assert_refused_before_any_job(site, "output_path", NAME, "is a link or a file")


# --- what stands in the margin's place -------------------------------------------------------


def assert_made(site: Site):
    code, said = site.make()
    assert code == 0, said


def foreign_directory(site: Site):
    (site.output / NAME / "notes").mkdir(parents=True)
    (site.output / NAME / "notes" / "letter.txt").write_text("keep me")


def test_foreign_directory_of_the_margins_name_is_kept(site):
    foreign_directory(site)
    assert_refused_before_any_job(
        site, "output_path", str(site.output / NAME), "not made by this workflow", "overwrite: true"
    )


def test_foreign_directory_of_the_margins_name_is_not_replaced_on_demand(site):
    foreign_directory(site)
    site.config = {"overwrite": True}
    assert_refused_before_any_job(
        site, "output_path", str(site.output / NAME), "metadata do not describe a margin"
    )


def test_margin_of_another_tool_is_replaced_on_demand(site, finished):
    foreign_directory(site)
    (site.output / NAME / "catalog_info.json").write_text('{"catalog_type": "margin"}')
    site.config = {"overwrite": True}
    assert_made(site)
    assert [path.name for path in site.output.iterdir()] == [NAME]
    assert catalog_digest(site.output / NAME) == catalog_digest(finished / "output" / NAME)


def test_margin_made_with_other_parameters_is_kept(site, finished):
    with_finished_margin(site, finished)
    site.config = {"output_artifact_name": NAME, "margin_threshold": OTHER_THRESHOLD}
    assert_refused_before_any_job(
        site,
        "output_path",
        str(site.output / NAME),
        "other parameters",
        "margin_threshold 60.0, not 30.0",
        "overwrite: true",
    )


def test_margin_of_the_catalog_in_another_compression_is_kept(site):
    assert_made(site)
    pq.write_table(pq.ParquetFile(site.partition(0)).read(), site.partition(0), compression="zstd")
    assert_refused_before_any_job(
        site, "output_path", str(site.output / NAME), "other partitions, columns, compression"
    )


def test_margin_made_with_other_parameters_is_replaced_on_demand(site, finished):
    with_finished_margin(site, finished)
    site.config = {
        "output_artifact_name": NAME,
        "margin_threshold": OTHER_THRESHOLD,
        "overwrite": True,
    }
    assert_made(site)
    assert [path.name for path in site.output.iterdir()] == [NAME]
    info = json.loads((site.output / NAME / "catalog_info.json").read_text())
    assert info["margin_threshold"] == OTHER_THRESHOLD


def test_a_margin_is_kept_when_its_replacement_fails(site, finished):
    with_finished_margin(site, finished)
    site.config = {
        "output_artifact_name": NAME,
        "margin_threshold": OTHER_THRESHOLD,
        "overwrite": True,
    }
    zeroed_data(site)
    assert_fails_in_a_job(site, str(site.partition(9)), "cannot be read")


# --- what is odd but right -------------------------------------------------------------------


def catalog_digest(place: Path) -> dict[str, str]:
    """Digests of a margin's files but for the two that hold paths or a date."""
    digest = tree_digest(place)
    return {name: digest[name] for name in digest if not name.endswith("_info.json")}


def test_odd_names_of_all_directories_do_not_matter(tmp_path, pristine, finished):
    places = {name: tmp_path / (ODD_NAME + BRACES) / name for name in ("small", "output", "run")}
    # Snakemake would take braces in the paths of intermediate files for wildcards.
    places["tmp"] = tmp_path / ODD_NAME / "tmp"
    check_odd_names(pristine, finished, places)


def test_odd_relative_names_do_not_matter(tmp_path, pristine, finished):
    # A script would take what begins with a hyphen for an option.
    places = {name: Path(f"-x{ODD_NAME}", name) for name in ("small", "output", "tmp")}
    check_odd_names(pristine, finished, {**places, "run": tmp_path / "run"})


def check_odd_names(pristine: Path, finished: Path, places: dict[str, Path]):
    shutil.copytree(pristine, places["run"] / places["small"])
    config = {
        "input_catalog_path": places["small"],
        "output_path": places["output"],
        "tmp_dir": places["tmp"],
        "margin_threshold": THRESHOLD,
    }
    done = run_workflow(places["run"], config=config)
    assert done.returncode == 0, done.stdout
    made = places["run"] / places["output"] / NAME
    assert catalog_digest(made) == catalog_digest(finished / "output" / NAME)
    assert json.loads((made / "catalog_info.json").read_text(encoding="utf-8"))[
        "primary_catalog"
    ] == str(places["small"])


def test_margin_of_the_test_catalog_is_not_empty(finished):
    rows = [pq.read_metadata(path).num_rows for path in (finished / "output").rglob("*.parquet")]
    assert np.min(rows) > 0
    assert len(rows) > 10
