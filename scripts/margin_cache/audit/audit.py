"""The audit of a margin, pixel by pixel, and of its metadata."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from margin_cache.audit.catalogs import (
    AuditedCatalog,
    is_threshold,
    open_pair,
)
from margin_cache.audit.columns import (
    PIXEL_COLUMNS,
    SOURCE_COLUMNS,
    PrimaryColumns,
    name_pixel,
)
from margin_cache.audit.compare import compare_rows
from margin_cache.audit.files import UnreadableFile
from margin_cache.audit.findings import AuditReport, PixelFindings, RangeFindings
from margin_cache.audit.metadata import description_defects, metadata_defects
from margin_cache.audit.nearby_rows import NearbyRows, RowCache, no_rows
from margin_cache.audit.pixels import (
    Pixel,
    SkyRange,
    is_in_sample,
    nearby_partitions,
    overlapping_pixels,
    restrict,
    sort_nested,
    uncovered_sky,
)
from margin_cache.audit.request import AuditRequest
from margin_cache.audit.verdict import StoreOptions
from margin_cache.errors import MarginCacheError


def audit_sky_range(
    request: AuditRequest, sky_range: SkyRange, options: StoreOptions = (None, None)
) -> RangeFindings:
    """Check the pixels of a range of the sky, or a sample of them."""
    return _Audit(request, options).check_sky_range(sky_range)


def conclude(
    request: AuditRequest, findings: RangeFindings, options: StoreOptions = (None, None)
) -> AuditReport:
    """Check the metadata, after all sky ranges were checked."""
    return _Audit(request, options).conclude(findings)


class _Audit:
    """A margin and its primary while they are compared."""

    def __init__(self, request: AuditRequest, options: StoreOptions) -> None:
        self.request = request
        primary, self.margin = open_pair(request.primary, request.margin, options)
        threshold = request.threshold or self.margin.threshold or math.nan
        if not is_threshold(threshold):
            raise MarginCacheError(
                f"{request.margin}: the threshold must be a number of arcsec above 0, not "
                f"{self.margin.threshold}. Set audit_threshold."
            )
        self.threshold = threshold
        self.cell_order = _cell_order(request, self.margin)
        only_pixels = request.only_pixels
        chosen = self.margin.only_pixels if only_pixels is None else only_pixels
        self.primary = replace(primary, pixels=restrict(primary.pixels, chosen))
        is_restricted = len(self.primary.pixels) < len(primary.pixels)
        self.only_partitions = len(self.primary.pixels) if is_restricted else None
        self.is_partial = is_restricted and only_pixels is None
        self.index_column = primary.index_column_of(primary.pixels[0])
        self.columns = PrimaryColumns(primary, self.index_column)
        self.listed, self.partitions = set(self.margin.pixels), set(self.primary.pixels)
        self.overlapping = overlapping_pixels(self.margin.pixels, self.primary.pixels)
        self.listed_near: dict[Pixel, list[Pixel]] = defaultdict(list)
        """Pixels that the margin lists, by the partitions near them."""
        # Rows are the same by the primary's columns, whatever the margin's metadata name.
        self.compared_margin = replace(self.margin, position_columns=primary.position_columns)
        self.margin_rows = RowCache(self.read_margin)
        self.column_defects: dict[Pixel, list[str]] = {}
        """How the columns of a pixel's margin differ from the primary's, once they are read."""
        self.nearby_rows = NearbyRows(
            self.primary,
            self.threshold,
            self.index_column,
            self.columns.compared,
            self.margin_indexes,
        )

    def check_sky_range(self, sky_range: SkyRange) -> RangeFindings:
        known = (self.partitions | self.listed) - set(self.overlapping)
        pixels = filter(sky_range.contains, sort_nested(known | set(uncovered_sky(known))))
        nearby = nearby_partitions(list(pixels), self.primary.pixels, self.threshold)
        candidates = {
            pixel: partitions for pixel, partitions in nearby if partitions or pixel in self.listed
        }
        fraction, seed = self.request.fraction, self.request.seed
        chosen = {
            pixel: partitions
            for pixel, partitions in candidates.items()
            if is_in_sample(pixel, fraction, seed)
        }
        for pixel, partitions in chosen.items():
            for partition in partitions if pixel in self.listed else []:
                self.listed_near[partition].append(pixel)
        return RangeFindings(len(candidates), [self.check_pixel(*item) for item in chosen.items()])

    def check_pixel(self, pixel: Pixel, partitions: list[Pixel]) -> PixelFindings:
        """Compare the rows of a pixel with the rows of the partitions near it."""
        rows, reason = no_rows(), ""
        if pixel in self.listed:
            try:
                rows = self.margin_rows.rows(pixel)
            except UnreadableFile as error:
                reason = str(error)
        primary = self.nearby_rows.rows(pixel, partitions)
        primary = pd.concat([primary, self.nearby_rows.distant_rows(rows, pixel, primary)])
        if not rows["is_compared"].all():
            primary = primary.assign(digest=np.uint64(0))
        return PixelFindings(
            pixel=pixel,
            is_partition=pixel in self.partitions,
            is_listed=pixel in self.listed,
            rows=len(rows),
            row_defects=compare_rows(primary, rows, *pixel, self.threshold, self.cell_order),
            is_unsorted=self.index_column is not None and not rows["index"].is_monotonic_increasing,
            schema=self.column_defects.get(pixel, []),
            error=reason,
        )

    def read_margin(self, pixel: Pixel) -> pd.DataFrame:
        """Read the rows of a pixel's margin, as `compare_rows` expects them."""
        margin, schemas = self.compared_margin, self.margin.schemas(pixel)
        lines = (line for schema in schemas for line in self.columns.defects(schema))
        self.column_defects[pixel] = list(dict.fromkeys(lines))
        is_compared = all(map(self.columns.are_comparable, schemas))
        columns = margin.names_of_positions(self.index_column)
        if is_compared and margin.is_hipscat:
            columns += [name for name in PIXEL_COLUMNS if name in schemas[0].names]
        table = margin.read(pixel, columns)
        rows = margin.positions_in(table, pixel, self.index_column).assign(is_compared=is_compared)
        if not is_compared:
            return rows
        names = self.columns.names_in_margin(schemas[0])
        if margin.is_hipscat:
            names = [*names, *SOURCE_COLUMNS]
        digests = margin.digests(pixel, names, np.ones(len(rows), bool))
        if margin.is_hipscat:
            digests[~name_pixel(table, pixel)] += np.uint64(1)
        return rows.assign(digest=digests)

    def margin_indexes(self, partition: Pixel) -> npt.NDArray[np.uint64]:
        """Return the spatial indexes that the margin has for pixels near a partition."""
        indexes = [np.empty(0, np.uint64)]
        for pixel in self.listed_near[partition]:
            try:
                indexes.append(self.margin_rows.rows(pixel)["index"].to_numpy())
            except UnreadableFile:
                continue  # `check_pixel` reports it
        return np.concatenate(indexes)

    def conclude(self, findings: RangeFindings) -> AuditReport:
        request, results = self.request, findings.pixels
        checked = {result.pixel for result in results}
        missing = self.listed - set(self.overlapping) - checked if request.fraction >= 1 else set()
        if missing or len(checked) != len(results):
            raise MarginCacheError(
                f"{request.margin}: pixels are missing from the findings, or occur twice. Start "
                "the audit again, with another tmp_dir."
            )
        if not results:
            raise MarginCacheError(
                f"audit_fraction: none of {findings.candidates} pixels is in the sample. Set a "
                "larger fraction, or another audit_seed."
            )
        rows = {
            result.pixel: result.rows for result in results if result.is_listed and not result.error
        }
        unreadable = []
        for pixel in sort_nested(self.listed - checked):
            try:
                rows[pixel] = self.margin.count(pixel)
            except UnreadableFile as error:
                unreadable.append(str(error))
        contradictions = [
            *(
                f"pixel {pixel} is listed, but overlaps partitions of the primary"
                for pixel in self.overlapping
            ),
            *metadata_defects(self.margin, rows),
        ]
        description = description_defects(self.primary, self.margin, self.columns, self.threshold)
        if self.is_partial:
            description.append(
                f"the margin was made of {len(self.partitions)} partitions only, and compared with "
                "these (debug_filter_pixel_list in its provenance_info.json). A crossmatch of "
                "other partitions loses pairs"
            )
        claimed = self.margin.threshold or 0.0
        return AuditReport(
            threshold=self.threshold,
            cell_order=self.cell_order,
            pixels=results,
            metadata=[*description, *contradictions],
            candidates=findings.candidates,
            unreadable=unreadable,
            contradictions=len(contradictions),
            claimed_threshold=claimed
            if math.isfinite(claimed) and claimed > self.threshold
            else None,
            only_partitions=self.only_partitions,
        )


def _cell_order(request: AuditRequest, margin: AuditedCatalog) -> int | None:
    """Return the order of the cells of a coarse margin; None for an exact margin."""
    is_coarse = request.is_coarse
    if is_coarse is None:
        is_coarse = margin.is_coarse or request.cell_order is not None
    if not is_coarse:
        return None
    return margin.cell_order if request.cell_order is None else request.cell_order
