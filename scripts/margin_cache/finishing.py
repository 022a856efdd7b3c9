"""Finishing: the metadata of a margin, and its move to its place.

Until the move the margin lies in a hidden directory, so a catalog that is not whole can never be
loaded, and one that it replaces stands until then.
"""

import json
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pyarrow.parquet as pq

from margin_cache import __version__
from margin_cache.catalog import margin_schema, pixel_path, read_schema
from margin_cache.errors import MarginCacheError
from margin_cache.margin import (
    PROVENANCE,
    TOOL_NAME,
    Margin,
    check_output,
    find_file,
    is_complete,
    plain_settings,
    standing_files,
)
from margin_cache.storage import (
    atomic_path,
    file_digest,
    link_or_copy,
    read_json,
    replace_directory,
    write_json,
    write_text,
)

_PACKAGES = ("snakemake", "numpy", "pyarrow", "hpgeom")


def finish_margin(margin: Margin) -> dict[str, Any]:
    """Put a margin together from what the reduce jobs wrote, and move it to its place.

    Args:
        margin: the margin; all its reduce jobs are done.

    Returns:
        What its last receipt has: place, rows and number of Parquet files.

    Raises:
        MarginCacheError: a file that a receipt lists is not there.
    """
    files: dict[str, list[Any]] = {}
    for name in margin.plan.reduce_names:
        files.update(read_json(margin.receipt(name)))
    rows = sum(count for count, _, _ in files.values())
    if not is_complete(margin):
        check_output(margin)
        _gather(margin, files)
        _write_metadata(margin, files, rows)
        replace_directory(margin.building, margin.place, margin.replaced)
    if margin.settings.delete_intermediate_parquet_files:
        _delete_remains(margin)
    summary = {"place": str(margin.place), "rows": rows, "files": len(files)}
    write_json(margin.finished, summary)
    return summary


def _gather(margin: Margin, files: Mapping[str, list[Any]]) -> None:
    """Make the building directory hold the listed files and no others."""
    standing = standing_files(margin)
    for path, (_, size, digest) in files.items():
        found = find_file(margin, path, size, digest, standing)
        if found is None:
            raise MarginCacheError(
                f"{margin.building / path}: is missing or truncated; start the run again, which "
                "makes it again"
            )
        if found != margin.building / path:
            link_or_copy(found, margin.building / path)
    margin.building.mkdir(parents=True, exist_ok=True)
    for path in list(margin.building.rglob("*")):
        if path.is_file() and path.relative_to(margin.building).as_posix() not in files:
            path.unlink()
    for directory in sorted(margin.building.rglob("*"), reverse=True):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _write_metadata(margin: Margin, files: Mapping[str, list[Any]], rows: int) -> None:
    """Write the metadata files of a HiPSCat margin into the building directory."""
    plan, building = margin.plan, margin.building
    schema = margin_schema(read_schema(plan.task.catalog, plan.partitions))
    with atomic_path(building / "_common_metadata") as temporary:
        pq.write_metadata(schema, temporary)
    footers = None
    for name in plan.reduce_names:
        part = pq.read_metadata(margin.footers(name))
        if footers is None:
            footers = part
        else:
            footers.append_row_groups(part)
    with atomic_path(building / "_metadata") as temporary:
        footers.write_metadata_file(temporary)
    lines = ["Norder,Npix,Dir"] + [
        f"{order},{pixel},{pixel // 10000 * 10000}"
        for order, pixel in zip(
            plan.destination_orders.tolist(), plan.destination_pixels.tolist(), strict=True
        )
        if pixel_path(order, pixel) in files
    ]
    write_text(building / "partition_info.csv", "\n".join(lines) + "\n")
    info = {
        "catalog_name": margin.name,
        "catalog_type": "margin",
        "total_rows": rows,
        "epoch": plan.task.catalog.epoch,
        "ra_column": plan.task.catalog.ra_column,
        "dec_column": plan.task.catalog.dec_column,
        "primary_catalog": plan.task.catalog.path,
        "margin_threshold": plan.task.threshold,
    }
    write_json(building / "catalog_info.json", info)
    metadata = ("_common_metadata", "_metadata", "catalog_info.json", "partition_info.csv")
    listed = {path: [size, digest] for path, (_, size, digest) in sorted(files.items())} | {
        name: [(building / name).stat().st_size, file_digest(building / name)] for name in metadata
    }
    provenance = {
        **info,
        "version": version("hipscat"),
        "generation_date": datetime.now(UTC).strftime("%Y.%m.%d"),
        "tool_args": {
            "tool_name": TOOL_NAME,
            "version": __version__,
            "runtime_args": {
                **plain_settings(margin.settings),
                "output_artifact_name": margin.name,
                "coarse_order": plan.task.cell_order,
                "packages": {"python": platform.python_version()}
                | {name: version(name) for name in _PACKAGES},
                "plan": plan.key,
                "state": plan.state,
                "files": listed,
            },
        },
    }
    text = json.dumps(provenance, indent=4, ensure_ascii=False)
    write_text(building / PROVENANCE, text + "\n")
    write_text(margin.placed, text + "\n")


def _delete_remains(margin: Margin) -> None:
    """Delete the shards, and what earlier plans and interrupted runs have left behind."""
    for other in margin.intermediate.iterdir():
        if other.is_dir() and other != margin.work and (other / "plan.npz").exists():
            shutil.rmtree(other, ignore_errors=True)
    for suffix in ("building", "replaced"):
        for other in margin.place.parent.glob(f".{margin.name}.*.{suffix}"):
            shutil.rmtree(other, ignore_errors=True)
    shutil.rmtree(margin.work / "shards", ignore_errors=True)
