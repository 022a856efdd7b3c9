"""Margins of remote catalogs, made in this process, and comparisons of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import skies
from support.faulty_margins import make_in
from support.margins import tree_digest
from support.object_servers import Bucket
from support.small_skies import small_catalog
from support.workflow_runs import without_snakemake, write_config
from support.write_hats import write_collection, write_hats

NAME = "margin"


def made_in(
    monkeypatch: pytest.MonkeyPatch, directory: Path, catalog: str | Path, **config: Any
) -> dict[str, str]:
    """Make a margin, all but its metadata; return digests of its files."""
    config = {
        "input_catalog_path": str(catalog),
        "output_artifact_name": NAME,
        "margin_threshold": 60.0,
        **config,
    }
    directory.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
        patch.chdir(directory)
        (digests,) = [tree_digest(m.files.staging_dir) for m in without_snakemake(config)]
    return only_parquet(digests)


def only_parquet(digests: Mapping[str, str]) -> dict[str, str]:
    """The digests that do not depend on the location of the primary catalog."""
    return {name: digest for name, digest in digests.items() if "Norder=" in name}


def size_of(catalog: Path) -> int:
    """Size of all files of a catalog in bytes."""
    return sum(file.stat().st_size for file in catalog.rglob("*") if file.is_file())


def sky_in(catalog: Path) -> tuple[pa.Table, np.ndarray]:
    """The rows and the partitions of a catalog."""
    files = sorted(catalog.glob("Norder=*/Dir=*/*"))
    columns = ["id", "ra", "dec", "mag"]
    tables = [pq.read_table(file, columns=columns, partitioning=None) for file in files]
    listed = (catalog / "partition_info.csv").read_text().split()[1:]
    pixels = [[int(number) for number in line.split(",")[:2]] for line in listed]
    return pa.concat_tables(tables).replace_schema_metadata(), skies.nested_sort(np.array(pixels))


def small_catalogs(root: Path) -> Path:
    """Write catalogs of one sky in several layouts."""
    small_catalog(root / "hipscat")
    table, partitions = sky_in(root / "hipscat")
    write_hats(root, "hats", table, partitions)
    write_hats(root, "directories", table, partitions, suffix="/", files_per_partition=2)
    write_hats(root / "collection", "primary", table, partitions)
    write_collection(root, "collection", "primary")
    return root


def configured(
    catalog: str | Path, server: Bucket, place: str = "", **changes: Any
) -> dict[str, Any]:
    """A configuration; the margin is written into the bucket if its path there is given."""
    config = {
        "input_catalog_path": str(catalog),
        "output_artifact_name": NAME,
        "margin_threshold": 60.0,
        "partitions_per_job": 20,
        "progress_bar": False,
        **changes,
    }
    if "://" in str(catalog):
        config["input_storage_options"] = server.options
    if place:
        config |= {"output_path": server.url(place), "output_storage_options": server.options}
    return config


def made_on_disk(directory: Path, catalog: Path, server: Bucket, **changes: Any) -> dict[str, str]:
    directory.mkdir(parents=True, exist_ok=True)
    config = configured(catalog, server, **changes)
    write_config(directory, config)
    make_in(directory, config)
    return tree_digest(directory / "results" / NAME)
