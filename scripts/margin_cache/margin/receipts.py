"""Receipts of reduce jobs, and which jobs of a margin are done."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from margin_cache.margin.existing_output import existing_files, is_complete
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import job_of
from margin_cache.storage.files import has_size, is_locked, read_json

Bools = NDArray[np.bool_]


class Receipt(NamedTuple):
    """Size and digest of a reduce job's footers; rows, bytes and digest of its files by path."""

    footers: int
    footers_digest: str
    files: dict[str, tuple[int, int, str]]


def read_receipt(path: Path) -> Receipt | None:
    """Return a receipt, or None if it is missing, damaged, or of another job or plan."""
    try:
        record = read_json(path)
        if record["job"] != job_of(path):
            return None
        files = {
            str(name): (int(rows), int(size), str(digest))
            for name, (rows, size, digest) in record["files"].items()
        }
        return Receipt(int(record["footers"]), str(record["footers_digest"]), files)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def missing_receipts(margin: Margin) -> list[Path]:
    """Return the receipts that reduce jobs still have to write; none if the margin is complete.

    A receipt whose files are gone or have another size counts as missing. It is deleted together
    with the done file, because Snakemake would take their jobs for done. Nothing is deleted while a
    run uses this plan. A dry run may delete them too: no valid file is lost.
    """
    missing = []
    if not is_complete(margin):
        existing = existing_files(margin)
        missing = [
            margin.files.receipt(job)
            for job in margin.plan.reduce_names
            if not _is_valid(margin, job, existing)
        ]
    if not is_locked(margin.files.plan_lock):
        with suppress(OSError):  # another user's
            for path in (margin.done_file, *missing):
                path.unlink(missing_ok=True)
    return missing


def _is_valid(margin: Margin, job: str, existing: Mapping[str, list[Any]]) -> bool:
    """Return whether all files in the receipt of a reduce job exist."""
    receipt = read_receipt(margin.files.receipt(job))
    return (
        receipt is not None
        and has_size(margin.files.footers(job), receipt.footers)
        and all(
            has_size(margin.files.staging_dir / path, size)
            or is_in_output(margin, path, [size, digest], existing)
            for path, (_, size, digest) in receipt.files.items()
        )
    )


def is_in_output(
    margin: Margin, path: str, listed: list[Any], existing: Mapping[str, list[Any]]
) -> bool:
    """Return whether the output, whose ``existing_files`` are given, has a file of a receipt."""
    return existing.get(path) == listed and margin.output.has(path, listed)


def done_jobs(margin: Margin) -> tuple[Bools, Bools]:
    """Return whether each map job, and each reduce job, is done.

    A map job without a shard is done if no reduce job needs it: shards are deleted at the end.
    """
    plan, files = margin.plan, margin.files
    is_reduced = np.array([files.receipt(name).exists() for name in plan.reduce_names], dtype=bool)
    is_needed = np.zeros(len(plan.map_names), dtype=bool)
    is_needed[plan.needs[np.repeat(~is_reduced, np.diff(plan.need_bounds))]] = True
    is_mapped = np.array(
        [
            not needed or files.shard(name).exists()
            for name, needed in zip(plan.map_names, is_needed.tolist(), strict=True)
        ],
        dtype=bool,
    )
    return is_mapped, is_reduced
