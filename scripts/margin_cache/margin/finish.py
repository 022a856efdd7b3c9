"""Finishing: the metadata of a margin, and putting it where it belongs.

Until then the margin is in a hidden directory, so no reader finds an incomplete catalog, and an
older margin stays in place.
"""

import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from margin_cache import __version__
from margin_cache.catalog.formats import format_of
from margin_cache.catalog.hats import WITHOUT_ROWS, make_optional_files
from margin_cache.catalog.model import MarginSummary
from margin_cache.catalog.spec import (
    COMMON_METADATA,
    METADATA,
    NPIX,
    PARTITION_INFO,
    HatsKey,
    HipscatKey,
)
from margin_cache.errors import DamagedFileError, MarginCacheError, RetryableError
from margin_cache.healpix.nested import Ints, as_pixels
from margin_cache.margin.existing import (
    RUN_ID,
    TOOL_NAME,
    UNFINISHED,
    Receipt,
    catalog_record,
    check_output,
    clean_up,
    existing_files,
    is_complete,
    is_in_output,
    listing,
    read_provenance,
    read_receipt,
    record_catalog,
)
from margin_cache.margin.model import Margin, settings_as_json
from margin_cache.margin.output import SizeAndDigest
from margin_cache.margin.paths import PROVENANCE
from margin_cache.parquet.footers import MOST_FOOTER_BYTES, join_footers
from margin_cache.planning.model import Plan
from margin_cache.process import one_line
from margin_cache.storage.files import (
    atomic_path,
    delete_directory,
    exclusive_lock,
    file_digest,
    has_size,
    link_or_copy,
    unique_id,
    write_json,
    write_text,
)

Receipts = Mapping[str, Receipt]
Sizes = dict[str, SizeAndDigest]
"""Size and digest of each file, by its path in the margin."""


def finish_margin(margin: Margin) -> dict[str, Any]:
    """Put a margin together from the files of the reduce jobs, and put it where it belongs.

    If the margin is complete, and the reduce jobs have not written all its files anew, only
    register it in its collection and clean up. Return the content of the done file.
    """
    plan, paths, output = margin.plan, margin.files, margin.output
    # A second copy of the job waits, and then finds the margin complete. If that is at a URL, a job
    # of another plan waits as well.
    with exclusive_lock(margin.intermediate_dir if paths.url else paths.plan):
        output.refresh()
        before = output.state()
        if not is_complete(margin) or _is_reduced_anew(margin):
            check_output(margin)
            _put_together(margin, before)
        else:
            record_catalog(margin)
        # Another run may have replaced the margin since.
        description = output.read_json(PROVENANCE)
        made = read_provenance(output)
        if made is None or UNFINISHED in made or made["content_id"] != plan.content_id:
            raise _changed(margin)
        _register(margin)
        output.release()
        clean_up(margin, paths.staging_lock)
        summary = {
            "output_dir": paths.location,
            "rows": int(description.get(HipscatKey.ROWS, description.get(HatsKey.ROWS))),
            "files": sum(f"{NPIX}=" in path for path in existing_files(margin)),
            **listing(margin),
        }
        write_json(margin.done_file, summary)
    return summary


def _changed(margin: Margin) -> MarginCacheError:
    return MarginCacheError(
        f"{margin.files.location}: was changed meanwhile, perhaps by another run. Start the run "
        "again to finish what is left."
    )


def _register(margin: Margin) -> None:
    """Register a complete margin in its collection; an error says that only this has failed."""
    try:
        margin.output.register(margin.plan.parameters.catalog, margin.may_be_default)
    except (MarginCacheError, OSError) as error:
        kind = RetryableError if isinstance(error, RetryableError) else MarginCacheError
        reason = one_line(error).removeprefix("error: ").rstrip(".")
        raise kind(
            f"{reason}. The margin {margin.files.location} is complete; only its registration in "
            "the collection around it is missing. Start the run again when that file can be "
            "written, or add the margin to all_margins there."
        ) from None


def describe_made(done: Mapping[str, Any]) -> str:
    """Return the line about a margin in the log of the job that has finished it."""
    return f"{done['output_dir']}: {done['rows']} rows in {done['files']} files"


def _is_reduced_anew(margin: Margin) -> bool:
    """Return whether all files of the margin are in the staging directory, as after --forceall."""
    receipts = [read_receipt(margin.files.receipt(job)) for job in margin.plan.reduce_names]
    files = [file for receipt in receipts if receipt for file in receipt.files.items()]
    staging_dir = margin.files.staging_dir
    return (
        None not in receipts
        and bool(files)
        and all(has_size(staging_dir / path, size) for path, (_, size, _) in files)
    )


def _put_together(margin: Margin, before: object) -> None:
    """Gather the files of a margin, write its metadata, and put it where it belongs.

    ``before`` is the state of the output before it was checked.
    """
    paths, output, existing = margin.files, margin.output, existing_files(margin)
    receipts = {}
    for job in margin.plan.reduce_names:
        if (receipt := read_receipt(paths.receipt(job))) is None:
            raise DamagedFileError(paths.receipt(job))
        receipts[job] = receipt
    directory = paths.finishing_dir(unique_id())

    def draft(etags: Mapping[str, str], token: str) -> dict[str, Any]:
        record = _provenance(margin, existing | tables, etags)
        record["tool_args"]["runtime_args"][UNFINISHED] = token
        return record

    try:
        _gather(margin, receipts, existing, directory)
        tables = _write_tables(margin, receipts, directory)
        etags = output.upload(directory, tables, draft)
        _write_description(margin, receipts, tables, etags, directory)
        # If this job has outlived its run, another run may have made the margin meanwhile, and
        # deleted what was gathered here.
        if not (directory / PARTITION_INFO).exists() or output.state() != before:
            raise _changed(margin)
        output.publish(directory, paths.backup_dir)
    finally:
        delete_directory(directory)


def _gather(margin: Margin, receipts: Receipts, existing: Sizes, directory: Path) -> None:
    """Put the files of the receipts, and no others, into a new directory.

    Hard links are used, so a job that has outlived its run, and writes into the staging directory
    from now on, changes nothing. Objects of the margin that are in their place already are left
    out. A file with another digest is deleted with its receipt, so that its job is done again.
    """
    directory.mkdir(parents=True)
    stale = []
    for job, receipt in receipts.items():
        for path, (_, size, digest) in receipt.files.items():
            file = staged = margin.files.staging_dir / path
            if not has_size(file, size):
                if not is_in_output(margin, path, [size, digest], existing):
                    raise DamagedFileError(file, "is missing or truncated")
                if margin.files.url:
                    continue
                file = margin.files.output_dir / path
            link_or_copy(file, directory / path)
            if file_digest(directory / path) != digest:
                # Without its receipt the job is done again.
                margin.files.receipt(job).unlink(missing_ok=True)
                staged.unlink(missing_ok=True)
                stale.append(staged)
    if stale:
        raise MarginCacheError(
            f"{stale[0]}: was made from another state of the catalog, or changed since (such "
            f"files: {len(stale)}). Start the run again; it makes what is missing."
        )


def _write_tables(margin: Margin, receipts: Receipts, directory: Path) -> Sizes:
    """Write the metadata that do not depend on the size of the margin.

    Return size and digest of all files of the margin but its description.
    """
    plan, info = margin.plan, margin.plan.parameters.catalog
    names = [info.parquet_path(COMMON_METADATA), PARTITION_INFO]
    with atomic_path(directory / names[0]) as temporary:
        pq.write_metadata(format_of(info).margin_schema(plan.schema, info.path), temporary)
    if plan.parameters.create_metadata and _write_footers(margin, receipts, directory):
        names.append(info.parquet_path(METADATA))
    pixels = as_pixels(*_pixels_with_rows(plan, receipts))
    write_text(directory / PARTITION_INFO, format_of(info).partition_list(pixels))
    files = {path: file for receipt in receipts.values() for path, file in receipt.files.items()}
    sizes: Sizes = {path: [size, digest] for path, (_, size, digest) in sorted(files.items())}
    return sizes | {name: _size_and_digest(directory / name) for name in names}


def _pixels_with_rows(plan: Plan, receipts: Receipts) -> tuple[Ints, Ints]:
    files = {path for receipt in receipts.values() for path in receipt.files}
    has_rows = [plan.margin_path(number) in files for number in range(len(plan.destination_orders))]
    return plan.destination_orders[has_rows], plan.destination_pixels[has_rows]


def _write_description(
    margin: Margin, receipts: Receipts, tables: Sizes, etags: Mapping[str, str], directory: Path
) -> None:
    """Write the description of a margin, and its provenance."""
    parameters, listed = margin.plan.parameters, dict(tables)
    catalog_format = format_of(parameters.catalog)
    rows = sum(count for receipt in receipts.values() for count, _, _ in receipt.files.values())
    orders, _ = _pixels_with_rows(margin.plan, receipts)
    summary = MarginSummary(
        primary=parameters.catalog,
        output_dir=margin.files.output_dir,
        rows=rows,
        threshold=parameters.threshold,
        order=int((orders if rows else margin.plan.partitions.orders).max()),
        sky_fraction=float((1 / (12 * np.exp2(2 * orders))).sum()),
        size=sum(size for size, _ in listed.values()),
        npix_suffix=parameters.npix_suffix,
        properties=parameters.properties,
    )
    wanted = [key for key in parameters.optional_files if rows or key in WITHOUT_ROWS]
    if wanted:
        # hats needs the description of the catalog for these files.
        catalog_format.write_description(directory, summary)
        for name in make_optional_files(directory, margin.name, wanted):
            listed[name] = _size_and_digest(directory / name)
    provenance = _provenance(margin, listed, etags)
    # These files state the size of the margin, which includes their own. Writing them again
    # settles the number of its digits.
    for _ in range(3):
        description, described = catalog_format.write_description(directory, summary)
        all_files = listed | {name: _size_and_digest(directory / name) for name in described}
        provenance["tool_args"]["runtime_args"]["files"] = all_files
        write_json(directory / PROVENANCE, description | provenance)
        own_size = (directory / PROVENANCE).stat().st_size
        summary = replace(summary, size=own_size + sum(size for size, _ in all_files.values()))


def _size_and_digest(path: Path) -> list[Any]:
    return [path.stat().st_size, file_digest(path)]


def _write_footers(margin: Margin, receipts: Receipts, directory: Path) -> bool:
    """Write ``_metadata`` from the footers of the reduce jobs, unless readers would refuse it."""
    dataset = directory / margin.plan.parameters.catalog.dataset
    kept = [margin.files.footers(job) for job in receipts]
    for path, (job, receipt) in zip(kept, receipts.items(), strict=True):
        if file_digest(path) != receipt.footers_digest:
            # Without its receipt the job is done again.
            margin.files.receipt(job).unlink(missing_ok=True)
            raise DamagedFileError(path, "is damaged")
    size = sum(path.stat().st_size for path in kept)  # hardly less than that of the joined file
    if size > MOST_FOOTER_BYTES:
        print(
            f"{margin.files.location}: gets no _metadata, because readers of Parquet do not accept "
            f"its size of {size / 1e9:.1f} GB. Set create_metadata: false to omit this line.",
            file=sys.stderr,
        )
        return False
    with atomic_path(dataset / METADATA) as temporary:
        if not join_footers(dataset / COMMON_METADATA, kept, temporary):
            # PyArrow needs far more memory, but joins those of several versions of itself.
            first, *others = map(pq.read_metadata, kept)
            for other in others:
                first.append_row_groups(other)
            first.write_metadata_file(temporary)
    return True


def _provenance(margin: Margin, files: Sizes, etags: Mapping[str, str]) -> dict[str, Any]:
    """Return parameters, versions of packages, and files of a margin."""
    # Slow to import.
    from importlib.metadata import PackageNotFoundError, version

    plan, run_id = margin.plan, margin.plan.parameters.run_id
    packages = {"python": platform.python_version()}
    for name in ("snakemake", "hpgeom", "numpy", "pyarrow"):
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "version": format_of(plan.parameters.catalog).format_version(),
        "generation_date": datetime.now(UTC).strftime("%Y.%m.%d"),
        "tool_args": {
            "tool_name": TOOL_NAME,
            "version": __version__,
            "runtime_args": {
                **settings_as_json(margin.settings),
                "output_artifact_name": margin.name,
                "margin_order_used": plan.parameters.margin_order,
                "margin_threshold_used": plan.parameters.threshold,
                "packages": packages,
                "library": plan.library,
                "content_id": plan.content_id,
                **catalog_record(plan),
                "files": files,
                **({"objects": etags} if margin.files.url else {}),
                **({RUN_ID: run_id} if run_id else {}),
            },
        },
    }
