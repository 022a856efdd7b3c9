"""What the main process does before the first job: it checks and plans margins, and locks them."""

import json
import os
import platform
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from margin_cache.catalog.columns import read_schema, schema_source
from margin_cache.catalog.formats import check_hats_keys, format_of, read_catalog_info
from margin_cache.catalog.hats import OPTIONAL_FILES, additional_properties
from margin_cache.catalog.model import INDEX_TOLERANCE, CatalogInfo
from margin_cache.catalog.partitions import (
    check_consistency,
    check_whole,
    read_partitions,
    restrict,
)
from margin_cache.config.model import (
    MarginSettings,
    Table,
    choose_margin_order,
    given_keys,
    guaranteed_threshold,
)
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import finest_margin_order
from margin_cache.margin.existing import check_output, missing_shards, restore_backup
from margin_cache.margin.model import Margin, save_margin, with_primary_tables
from margin_cache.margin.output import describe_run
from margin_cache.margin.paths import TMP_DIR, PlanFiles
from margin_cache.margin.remote import find_sources
from margin_cache.parquet.primary_options import (
    MOST_FILES,
    check_write_options,
    read_primary_options,
)
from margin_cache.planning.jobs import make_plan
from margin_cache.planning.model import (
    MarginParameters,
    Plan,
    content_id,
    library_version,
    load_plan,
    plan_id,
)
from margin_cache.storage.files import acquire_lock, is_locked, read_json, unique_id
from margin_cache.storage.urls import absolute_location, do_overlap, is_url

_lock_descriptors: list[int] = []
"""File descriptors of the locks of this process, which last until it ends."""


def prepare_margins(
    all_settings: Iterable[MarginSettings],
    config_files: Iterable[Path] = (),
    numbers: Sequence[int] = (),
) -> list[Margin]:
    """Check the catalogs and the directories of margins, and plan them; nothing is written.

    The settings are from ``config_files``, where ``numbers`` are their indices in ``margins``, if
    that has further entries.
    """
    all_settings, config_files = with_primary_tables(all_settings), list(config_files)
    sources = [
        find_sources(settings, number, config_files)
        for number, settings in zip(numbers or range(len(all_settings)), all_settings, strict=True)
    ]
    _connect_catalogs(all_settings)
    read_catalog = cache(_Catalog)
    margins = []
    for settings, margin_sources in zip(all_settings, sources, strict=True):
        info = read_catalog_info(settings.input_catalog_path)
        check_hats_keys(info, given_keys(settings, Table.HATS))
        catalog = read_catalog(info, settings.debug_filter_pixel_list)
        name = margin_name(info, settings)
        directory = Path(settings.tmp_dir or TMP_DIR, name)
        is_alone = len(all_settings) == 1
        plan, changed = _plan(catalog, _parameters(catalog, settings), directory, is_alone)
        catalog.check(changed)
        margins.append(Margin(settings, name, plan, margin_sources))
    check_directories(margins)
    return list(_with_defaults(margins))


def _connect_catalogs(all_settings: Iterable[MarginSettings]) -> None:
    """List the remote catalogs of margins, each once, and check that a URL means one catalog."""
    all_options: dict[str, Mapping[str, Any]] = {}
    for settings in all_settings:
        url, options = settings.input_catalog_path, settings.input_storage_options
        if is_url(url) and all_options.get(url) != options:
            # Slow to import, and not needed for local catalogs.
            from margin_cache.catalog.remote import connect_catalog

            table = connect_catalog(url, options).location
            for place in (url, absolute_location(url), absolute_location(table)):
                # With other options it can be another catalog, in another store.
                if all_options.setdefault(place, options) != options:
                    raise MarginCacheError(
                        f"input_storage_options: two margins have different ones for {url}, so it "
                        "is not known which catalog is meant. Give both the same options, or make "
                        "the margins in two runs."
                    )


class _Catalog:
    """A catalog, or some pixels of it, as planning reads it once for all of its margins."""

    def __init__(self, info: CatalogInfo, pixels: tuple[tuple[int, int], ...]) -> None:
        self.info = info
        self.partitions = self._all_partitions = read_partitions(info)
        if pixels:
            self.partitions = restrict(self.partitions, pixels)
        # Before their footers are read, because the error for a truncated file is clearer.
        check_whole(info, self.partitions.take(slice(MOST_FILES)))
        self.schema = read_schema(info, self.partitions)
        source = info.files.name(schema_source(info, self.partitions))
        self.margin_schema = format_of(info).margin_schema(self.schema, source)
        self.primary_options = read_primary_options(info, self.partitions)
        self._are_checked = np.zeros(len(self.partitions), dtype=bool)

    def check(self, changed: NDArray[np.bool_]) -> None:
        """Check partitions that have changed since an older plan, if that has not been done."""
        changed = changed & ~self._are_checked
        if changed.any():
            check_whole(self.info, self.partitions.take(np.flatnonzero(changed)))
            if not self._are_checked.any():
                check_consistency(self.info, self._all_partitions)
            self._are_checked |= changed


def margin_name(info: CatalogInfo, settings: MarginSettings) -> str:
    """Return ``output_artifact_name``, or the catalog's name with the threshold."""
    if settings.output_artifact_name:
        return settings.output_artifact_name
    guaranteed = guaranteed_threshold(settings)
    # The threshold of an order has too many digits for a name.
    precision = None if guaranteed == settings.margin_threshold else 6
    threshold = np.format_float_positional(
        guaranteed, precision=precision, fractional=False, trim="-"
    )
    name = f"{info.name}_{threshold}arcs"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{,127}", name):
        raise MarginCacheError(
            f"output_artifact_name: the catalog's name {info.name!r} cannot be part of a directory "
            'name. Give a name of at most 128 letters, digits, ".", "_" and "-".'
        )
    return name


def _parameters(catalog: _Catalog, settings: MarginSettings) -> MarginParameters:
    options = settings.write_table_kwargs
    check_write_options(catalog.primary_options, options, catalog.margin_schema)
    return MarginParameters(
        catalog=catalog.info,
        threshold=guaranteed_threshold(settings),
        margin_order=_margin_order(catalog, settings),
        fine_filtering=settings.fine_filtering,
        primary_options=catalog.primary_options,
        partitions_per_job=settings.partitions_per_job,
        job_size_mb=settings.job_size_mb,
        create_metadata=settings.create_metadata,
        write_table_kwargs=options,
        npix_suffix=settings.npix_suffix,
        npix_parquet_name=settings.npix_parquet_name,
        properties=additional_properties(settings.addl_hats_properties),
        optional_files=[key for key in OPTIONAL_FILES if getattr(settings, key)],
        run_id="" if settings.resume else unique_id(),
    )


def _margin_order(catalog: _Catalog, settings: MarginSettings) -> int:
    threshold, index_order = settings.margin_threshold, catalog.info.index_order
    highest = int(catalog.partitions.orders.max())
    if not settings.fine_filtering and index_order <= highest:
        raise MarginCacheError(
            f"fine_filtering: false needs a spatial index of order {highest + 1} or more, finer "
            f"than all partitions. The catalog's has order {index_order}. Use fine_filtering: true."
        )
    order = choose_margin_order(settings.margin_order, threshold, index_order)
    if settings.fine_filtering:
        # By their index, rows of the exact margin may be farther away than the threshold.
        return min(order, finest_margin_order(threshold + INDEX_TOLERANCE))
    if order > highest:
        return order
    origin = "" if settings.margin_order >= 0 else f" (for {threshold:g} arcsec)"
    raise MarginCacheError(
        f"margin_order: {order}{origin} is not above {highest}, the highest order of the catalog's "
        "partitions, but fine_filtering: false needs a finer one. Use a higher margin_order, a "
        "smaller threshold, or fine_filtering: true."
    )


def _plan(
    catalog: _Catalog, parameters: MarginParameters, directory: Path, is_alone: bool
) -> tuple[Plan, NDArray[np.bool_]]:
    """Return the plan of a margin, and which partitions have changed since it was saved."""
    library, schema, partitions = library_version(), catalog.schema, catalog.partitions
    own_id = plan_id(library, parameters, content_id(parameters, schema, partitions))
    try:
        saved = load_plan(PlanFiles(directory / own_id).plan)
    except (OSError, MarginCacheError):
        plan = make_plan(parameters, schema, partitions, library, is_alone)
        return plan, np.ones(len(partitions), dtype=bool)
    # Jobs keep their partitions though sizes may have changed, or all would be done again.
    return replace(saved, partitions=partitions), partitions.changed_from(saved.partitions)


def check_directories(margins: Sequence[Margin]) -> None:
    """Check that outputs and intermediate directories overlap with no catalog and no other one.

    Settings that name a margin to audit may serve for that only: the output directory of the
    margin that they describe is not checked.
    """
    # Locations that are taken, and what they are.
    owners = {
        absolute_location(margin.plan.parameters.catalog.path): "the input catalog"
        for margin in margins
    }
    for margin in margins:
        files = margin.files
        if not margin.settings.audit_catalog_path:
            output = files.location
            if Path(output).is_symlink() or Path(output).is_file():
                raise MarginCacheError(
                    f"output_path: {output} is a link or a file. Give a directory."
                )
            _take("output_path", output, "another margin of this run", owners)
        # A margin at a URL is put together in tmp_dir.
        for path in (files.plan_dir, files.output_dir) if files.url else (files.plan_dir,):
            _take("tmp_dir", str(path), f"the tmp_dir of {margin.name}", owners)


def _take(key: str, location: str, owner: str, owners: dict[str, str]) -> None:
    """Check that a directory or URL overlaps with no other one, and add it to these."""
    location = absolute_location(location)
    for other, other_owner in owners.items():
        if do_overlap(location, other):
            raise MarginCacheError(
                f"{key}: {location} overlaps with {other_owner}, {other}. Choose another {key}"
                f"{' or output_artifact_name' if key == 'output_path' else ''}."
            )
    owners[location] = owner


def _with_defaults(margins: Iterable[Margin]) -> Iterator[Margin]:
    """Let only the first margin of each collection become its default margin."""
    locations: set[str] = set()
    for margin in margins:
        collection = margin.output.collection(margin.plan.parameters.catalog)
        if collection is not None:
            if collection.location in locations:
                margin = replace(margin, may_be_default=False)
            locations.add(collection.location)
        yield margin


def share_map_jobs(
    margins: Mapping[str, Margin], incomplete: Collection[str], are_made_anew: bool
) -> dict[str, Margin]:
    """Let margins of one catalog be made from the shards of the widest one, which reads it once.

    The margins are by the directories of their plans. Of complete ones, shards are used if they are
    still there. A margin that has all shards that it needs goes on with them.
    """
    shared = dict(margins)
    wider = [margin for plan_dir, margin in margins.items() if plan_dir not in incomplete]
    for plan_dir in sorted(incomplete, key=lambda plan_dir: _width(margins[plan_dir])):
        margin = margins[plan_dir]
        if are_made_anew or len(missing_shards(margin, margin.files)):
            for other in wider:
                if other.plan.has_rows_of(margin.plan) and (
                    str(other.files.plan_dir) in incomplete
                    or not len(missing_shards(margin, other.files))
                ):
                    shared[plan_dir] = replace(margin, shards_of=other.files.plan_dir)
        if shared[plan_dir] is margin:
            wider.append(margin)
    return shared


def finish_by_reducing(
    margins: Mapping[str, Margin], to_reduce: Collection[str]
) -> dict[str, Margin]:
    """Let the only reduce job of a margin finish it too, which saves the start of a job.

    Not of a margin whose shards others use, because it deletes them, nor of one in a store: small
    ones are sent from where Snakemake runs, whose network may be the only one.
    """
    used = {str(margin.shards_of) for margin in margins.values()}
    return {
        plan_dir: replace(
            margin,
            is_finished_by_reducing=plan_dir in to_reduce
            and plan_dir not in used
            and len(margin.plan.reduce_names) == 1
            and not margin.files.url,
        )
        for plan_dir, margin in margins.items()
    }


def _width(margin: Margin) -> tuple[bool, int, float]:
    """Return a key that sorts by width, the widest first: it has the rows of the others."""
    parameters = margin.plan.parameters
    if parameters.fine_filtering:
        return True, 0, -parameters.threshold
    return False, parameters.margin_order, 0.0


def start_margin(margin: Margin) -> None:
    """Lock a margin for this run, and write what its jobs need."""
    try:
        lock_margin(margin)
        restore_backup(margin.files)
        margin.output.refresh()
        check_output(margin)
        margin.output.acquire(_this_run(margin))
        save_margin(margin)
        shutil.rmtree(margin.files.downloads_dir, ignore_errors=True)
    except OSError as error:
        raise MarginCacheError(
            f"{error.filename or margin.files.plan_dir}: cannot be written "
            f"({error.strerror or error}). "
            "Choose another tmp_dir or output_path, or free disk space."
        ) from None


def lock_margin(margin: Margin) -> None:
    """Lock a margin's plan directory and staging directory until this process ends."""
    files = margin.files
    for path in (files.plan_lock, files.staging_lock):
        for other in files.staging_locks():
            if other != files.staging_lock and is_locked(other):
                raise _in_use(other)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = acquire_lock(path, json.dumps(_this_run(margin)))
        if descriptor is None:
            raise _in_use(path)
        _lock_descriptors.append(descriptor)


def _this_run(margin: Margin) -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "directory": str(Path.cwd()),
        "output": margin.files.url or str(margin.files.output_dir.resolve()),
    }


def _in_use(lock: Path) -> MarginCacheError:
    run = read_json(lock)
    made = run.get("output") if isinstance(run, dict) else None
    return MarginCacheError(
        f"{made or lock.parent} is being made by another run ({describe_run(run)}). Wait until "
        "that run has ended, or choose another output_artifact_name or tmp_dir."
    )
