"""Finishing: the metadata of a margin, and its move to its place.

Until the move the margin lies in a hidden directory, so a catalog that is not whole can never be
loaded, and one that it replaces stands until then.
"""

import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from margin_cache import __version__
from margin_cache.catalog.columns import read_schema
from margin_cache.catalog.formats import format_of
from margin_cache.catalog.model import MarginSummary
from margin_cache.errors import MarginCacheError
from margin_cache.stages.existing_output import (
    PROVENANCE,
    TOOL_NAME,
    check_output,
    find_file,
    is_complete,
    standing_files,
)
from margin_cache.stages.layout import Margin, plain_settings
from margin_cache.storage.files import (
    atomic_path,
    exclusive_lock,
    file_digest,
    is_temporary,
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
    # A second copy of the job waits, and then finds the margin complete.
    with exclusive_lock(margin.plan_path):
        files = _listed_files(margin)
        rows = sum(count for count, _, _ in files.values())
        if not is_complete(margin):
            check_output(margin)
            _gather(margin, files)
            _write_metadata(margin, files, rows)
            replace_directory(margin.building, margin.place, margin.replaced)
            format_of(margin.plan.task.catalog).register(margin.plan.task.catalog, margin.place)
        if margin.settings.delete_intermediate_parquet_files:
            _delete_remains(margin)
        summary = {"place": str(margin.place), "rows": rows, "files": len(files)}
        write_json(margin.finished, summary)
    return summary


def _listed_files(margin: Margin) -> dict[str, list[Any]]:
    """Return rows, size and digest of each file that the receipts list."""
    files: dict[str, list[Any]] = {}
    for name in margin.plan.reduce_names:
        receipt = read_json(margin.receipt(name))
        if receipt is None:
            raise MarginCacheError(
                f"{margin.receipt(name)}: is missing; start the run again, which makes it again"
            )
        files.update(receipt["files"])
    return files


def _gather(margin: Margin, files: Mapping[str, list[Any]]) -> None:
    """Make the building directory hold the listed files and no others."""
    standing = standing_files(margin)
    stale = []
    for path, (_, size, digest) in files.items():
        found = find_file(margin, path, size, digest, standing)
        if found is None:
            raise MarginCacheError(
                f"{margin.building / path}: is missing or truncated; start the run again, which "
                "makes it again"
            )
        if found != margin.building / path:
            link_or_copy(found, margin.building / path)
        elif file_digest(found) != digest:
            # By a job that a killed run has left, and that began before a partition was changed.
            found.unlink()
            stale.append(found)
    if stale:
        raise MarginCacheError(
            f"{stale[0]}: was made from another state of the catalog, as {len(stale) - 1} other "
            "files; start the run again, which makes them again"
        )
    margin.building.mkdir(parents=True, exist_ok=True)
    for path in list(margin.building.rglob("*")):
        if path.is_file() and path.relative_to(margin.building).as_posix() not in files:
            path.unlink()
    for directory in sorted(margin.building.rglob("*"), reverse=True):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _write_metadata(margin: Margin, files: Mapping[str, list[Any]], rows: int) -> None:
    """Write the metadata files of a margin into the building directory."""
    plan, building = margin.plan, margin.building
    info = plan.task.catalog
    dataset = building / info.dataset
    schema = format_of(info).margin_schema(read_schema(info, plan.partitions))
    with atomic_path(dataset / "_common_metadata") as temporary:
        pq.write_metadata(schema, temporary)
    names = [f"{info.dataset}/_common_metadata".lstrip("/"), "partition_info.csv"]
    if plan.task.create_metadata:
        _write_footers(margin, dataset / "_metadata")
        names.append(f"{info.dataset}/_metadata".lstrip("/"))
    written = np.array(
        [plan.margin_path(number) in files for number in range(len(plan.destination_orders))]
    )
    orders, pixels = plan.destination_orders[written], plan.destination_pixels[written]
    form = format_of(info)
    write_text(
        building / "partition_info.csv",
        form.partition_list(zip(orders.tolist(), pixels.tolist(), strict=True)),
    )
    summary = MarginSummary(
        primary=info,
        output_dir=margin.place,
        rows=rows,
        threshold=plan.task.threshold,
        order=int((orders if rows else plan.partitions.orders).max()),
        sky_fraction=float((1 / (12 * np.exp2(2 * orders))).sum()),
        size=sum(size for _, size, _ in files.values()),
    )
    description, more = form.write_description(building, summary)
    names += more
    listed = {path: [size, digest] for path, (_, size, digest) in sorted(files.items())} | {
        name: [(building / name).stat().st_size, file_digest(building / name)] for name in names
    }
    provenance = _provenance(margin, description, listed)
    write_json(building / PROVENANCE, provenance)
    write_json(margin.placed, provenance)


def _write_footers(margin: Margin, path: Path) -> None:
    """Write the footers of all files as one, from what the reduce jobs have kept of them."""
    first, *others = (margin.footers(name) for name in margin.plan.reduce_names)
    footers = pq.read_metadata(first)
    for other in others:
        footers.append_row_groups(pq.read_metadata(other))
    with atomic_path(path) as temporary:
        footers.write_metadata_file(temporary)


def _provenance(
    margin: Margin, description: Mapping[str, Any], files: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """Return what a margin was made of, with what, and what of it stands on disk."""
    plan = margin.plan
    return {
        **description,
        "version": format_of(plan.task.catalog).format_version(),
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
                "result": plan.result,
                "state": plan.state,
                "files": files,
            },
        },
    }


def _delete_remains(margin: Margin) -> None:
    """Delete the shards, and what earlier plans and interrupted runs have left behind."""
    for other in margin.intermediate.iterdir():
        if other.is_dir() and other != margin.work and (other / "plan.npz").exists():
            shutil.rmtree(other, ignore_errors=True)
    for suffix in ("building", "replaced"):
        for other in margin.place.parent.glob(f".{margin.name}.*.{suffix}"):
            shutil.rmtree(other, ignore_errors=True)
    shutil.rmtree(margin.work / "shards", ignore_errors=True)
    for directory in (margin.intermediate, margin.work, margin.work / "receipts"):
        for path in directory.glob(".*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)
