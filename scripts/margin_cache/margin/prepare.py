"""Checks the catalogs and directories of margins and plans the jobs, in the main process."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from margin_cache.catalog.columns import read_schema, schema_source
from margin_cache.catalog.consistency import check_consistency
from margin_cache.catalog.formats import check_hats_keys, format_of
from margin_cache.catalog.hats import additional_properties
from margin_cache.catalog.model import INDEX_TOLERANCE, CatalogInfo
from margin_cache.catalog.optional_files import OPTIONAL_FILES
from margin_cache.catalog.partitions import check_whole, read_partitions, restrict
from margin_cache.config.model import (
    MarginSettings,
    Table,
    choose_margin_order,
    given_keys,
    guaranteed_threshold,
)
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import finest_margin_order
from margin_cache.margin.model import Margin, NamedMargin, name_margins, with_primary_tables
from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.storage_options import find_sources
from margin_cache.parquet.primary_options import (
    MOST_FILES,
    check_write_options,
    read_primary_options,
)
from margin_cache.planning.jobs import make_plan
from margin_cache.planning.model import (
    MarginParameters,
    content_id,
    library_version,
    load_plan,
    plan_id,
)
from margin_cache.storage.files import unique_id
from margin_cache.storage.urls import absolute_location, is_url, join_url


def prepare_margins(
    all_settings: Iterable[MarginSettings],
    config_files: Iterable[Path] = (),
    numbers: Sequence[int] = (),
) -> list[Margin]:
    """Check the catalogs and the directories of margins, and plan them.

    The settings are from ``config_files``, where ``numbers`` are their indices in ``margins``, if
    that has further entries.
    """
    all_settings, config_files = with_primary_tables(all_settings), list(config_files)
    sources = find_sources(all_settings, config_files, numbers)
    remote = [settings for settings in all_settings if is_url(settings.input_catalog_path)]
    if remote:
        # Slow to import, and not needed for local catalogs.
        from margin_cache.margin.remote_input import connect_catalogs

        connect_catalogs(remote)
    margins = name_margins(all_settings)
    check_directories(margins)
    return _with_defaults(
        [
            replace(_prepare(margin), options_source=source, output_source=output_source)
            for margin, (source, output_source) in zip(margins, sources, strict=True)
        ]
    )


def _with_defaults(margins: Iterable[Margin]) -> list[Margin]:
    """Let only the first margin of each collection become its default margin."""
    collections: set[str] = set()
    checked = []
    for margin in margins:
        collection = margin.output.collection(margin.plan.parameters.catalog)
        is_first = collection is None or collection.location not in collections
        checked.append(margin if is_first else replace(margin, may_be_default=False))
        if collection is not None:
            collections.add(collection.location)
    return checked


def check_directories(margins: Iterable[NamedMargin]) -> None:
    """Check that outputs and intermediate directories overlap with no catalog and no other one.

    Settings that name a margin to audit may serve for that only: the output directory of the
    margin that they describe is not checked.
    """
    margins = list(margins)
    # Locations that are taken, and what they are.
    owners = {absolute_location(info.url or info.path): "the input catalog" for info, *_ in margins}
    for _, settings, name, directory in margins:
        if not settings.audit_catalog_path:
            output = join_url(settings.output_path, name)
            if Path(output).is_symlink() or Path(output).is_file():
                raise MarginCacheError(
                    f"output_path: {output} is a link or a file. Give a directory."
                )
            _take("output_path", absolute_location(output), "another margin of this run", owners)
        _take("tmp_dir", absolute_location(str(directory)), f"the tmp_dir of {name}", owners)


def _take(key: str, location: str, owner: str, owners: dict[str, str]) -> None:
    """Check that a directory or URL overlaps with no other one, and add it to these."""
    for other, other_owner in owners.items():
        if f"{location}/".startswith(f"{other}/") or f"{other}/".startswith(f"{location}/"):
            raise MarginCacheError(
                f"{key}: {location} overlaps with {other_owner}, {other}. Choose another {key}"
                f"{' or output_artifact_name' if key == 'output_path' else ''}."
            )
    owners[location] = owner


def _margin_order(info: CatalogInfo, settings: MarginSettings, highest: int) -> int:
    """Return the order of the coarse filter's cells in a margin."""
    threshold = settings.margin_threshold
    if not settings.fine_filtering and info.index_order <= highest:
        raise MarginCacheError(
            f"fine_filtering: false needs a spatial index of order {highest + 1} or more, finer "
            f"than all partitions. The catalog's has order {info.index_order}. Use "
            "fine_filtering: true."
        )
    order = choose_margin_order(settings.margin_order, threshold, info.index_order)
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


def _prepare(margin: NamedMargin) -> Margin:
    info, settings, name, directory = margin
    catalog_format = format_of(info)
    check_hats_keys(info, given_keys(settings, Table.HATS))
    partitions = all_partitions = read_partitions(info)
    if settings.debug_filter_pixel_list:
        partitions = restrict(partitions, settings.debug_filter_pixel_list)
    # Before their footers are read, because the error for a truncated file is clearer.
    check_whole(info, partitions.take(np.arange(min(MOST_FILES, len(partitions)))))
    schema = read_schema(info, partitions)
    source = info.files.name(schema_source(info, partitions))
    margin_schema = catalog_format.margin_schema(schema, source)
    parameters = MarginParameters(
        catalog=info,
        threshold=guaranteed_threshold(settings),
        margin_order=_margin_order(info, settings, int(partitions.orders.max())),
        fine_filtering=settings.fine_filtering,
        primary_options=read_primary_options(info, partitions),
        partitions_per_job=settings.partitions_per_job,
        job_size_mb=settings.job_size_mb,
        create_metadata=settings.create_metadata,
        write_table_kwargs=settings.write_table_kwargs,
        npix_suffix=settings.npix_suffix,
        npix_parquet_name=settings.npix_parquet_name,
        properties=additional_properties(settings.addl_hats_properties),
        optional_files=[key for key in OPTIONAL_FILES if getattr(settings, key)],
        run_id="" if settings.resume else unique_id(),
    )
    check_write_options(parameters.primary_options, settings.write_table_kwargs, margin_schema)
    library = library_version()
    own_id = plan_id(library, parameters, content_id(parameters, schema, partitions))
    try:
        saved = load_plan(PlanFiles(directory / own_id).plan)
        changed = partitions.changed_from(saved.partitions)
        # Jobs keep their partitions though sizes may have changed, or all would be done again.
        plan = replace(saved, partitions=partitions)
    except (OSError, MarginCacheError):
        changed = np.ones(len(partitions), dtype=bool)
        plan = make_plan(parameters, schema, partitions, library)
    if changed.any():
        check_whole(info, partitions.take(np.flatnonzero(changed)))
        check_consistency(info, all_partitions)
    return Margin(settings, name, directory, plan, is_plan_new=bool(changed.any()))
