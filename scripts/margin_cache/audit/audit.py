"""The audit of a margin, pixel by pixel, and of its metadata."""

import math
from collections import OrderedDict
from dataclasses import replace

import healpy
import numpy as np
import pyarrow as pa

from margin_cache.audit import catalogs, metadata
from margin_cache.audit.catalogs import AuditedCatalog
from margin_cache.audit.compare import (
    ROW,
    Digests,
    Mask,
    Rows,
    compare_rows,
    row_codes,
    row_digests,
)
from margin_cache.audit.distance import near_boundary, nearby_partitions
from margin_cache.audit.files import UnreadableFile
from margin_cache.audit.findings import AuditReport, PixelFindings, RangeFindings
from margin_cache.audit.metadata import PrimaryColumns
from margin_cache.audit.request import (
    AuditRequest,
    Pixel,
    SkyRange,
    StoreOptions,
    first_descendant,
    is_in_sample,
    overlapping_pixels,
    restrict,
    sort_nested,
    uncovered_sky,
)
from margin_cache.errors import MarginCacheError

MAX_CACHED_ROWS = 5_000_000  # some 170 MB


class Audit:
    """A margin and its primary while they are compared."""

    def __init__(self, request: AuditRequest, options: StoreOptions = (None, None)) -> None:
        self.request = request
        primary, self.margin = catalogs.open_pair(request.primary, request.margin, options)
        claimed = self.margin.threshold or math.nan
        self.threshold = request.threshold or claimed
        if not catalogs.is_threshold(self.threshold):
            raise MarginCacheError(
                f"{request.margin}: the threshold in its metadata must be a number of arcsec above "
                f"0, not {self.margin.threshold}. Set audit_threshold."
            )
        # What is more than the margin was made for, by its metadata.
        self.claimed_threshold = claimed if self.threshold < claimed < math.inf else None
        is_coarse = request.is_coarse
        if is_coarse is None:
            is_coarse = self.margin.is_coarse or request.cell_order is not None
        cell_order = self.margin.cell_order if request.cell_order is None else request.cell_order
        self.cell_order = cell_order if is_coarse else None
        chosen = self.margin.only_pixels if request.only_pixels is None else request.only_pixels
        self.primary = replace(primary, pixels=restrict(primary.pixels, chosen))
        number = len(self.primary.pixels)
        self.only_partitions = number if number < len(primary.pixels) else None
        self.columns = PrimaryColumns(primary)
        self.listed, self.partitions = set(self.margin.pixels), set(self.primary.pixels)
        self.overlapping = overlapping_pixels(self.margin.pixels, self.primary.pixels)
        # Rows are the same by the primary's columns, whatever the margin's metadata name.
        self.compared_margin = replace(self.margin, position_columns=primary.position_columns)
        reach = self.claimed_threshold or self.threshold
        if self.cell_order is not None:
            diameter = 2 * healpy.max_pixrad(1 << self.cell_order, degrees=True)
            reach = min(max(reach, 3600 * diameter), 3600 * 180)
        self.primary_rows = PrimaryRows(self.primary, self.columns, reach)

    def check_sky_range(self, sky_range: SkyRange) -> RangeFindings:
        known = (self.partitions | self.listed) - set(self.overlapping)
        pixels = filter(sky_range.contains, sort_nested(known | set(uncovered_sky(known))))
        nearby = nearby_partitions(list(pixels), self.primary.pixels, self.threshold)
        candidates = [item for item in nearby if item[1] or item[0] in self.listed]
        fraction, seed = self.request.fraction, self.request.seed
        chosen = [item for item in candidates if is_in_sample(item[0], fraction, seed)]
        return RangeFindings(len(candidates), [self.check_pixel(*item) for item in chosen])

    def check_pixel(self, pixel: Pixel, partitions: list[Pixel]) -> PixelFindings:
        rows, is_compared = np.empty(0, ROW), True
        schema: list[str] = []
        reason = ""
        if pixel in self.listed:
            try:
                schemas = self.margin.schemas(pixel)
                lines = (line for one in schemas for line in self.columns.defects(one))
                schema = list(dict.fromkeys(lines))
                is_compared = all(map(self.columns.are_comparable, schemas))
                rows = self._read_margin(pixel, schemas[0] if is_compared else None)
            except UnreadableFile as error:
                reason = str(error)
        primary = self.primary_rows.rows(pixel, partitions, rows)
        if not is_compared:
            primary["digest"] = 0
        index = rows["index"]
        is_unsorted = self.columns.index is not None and bool((index[1:] < index[:-1]).any())
        return PixelFindings(
            pixel=pixel,
            is_partition=pixel in self.partitions,
            is_listed=pixel in self.listed,
            rows=len(rows),
            row_defects=compare_rows(primary, rows, *pixel, self.threshold, self.cell_order),
            is_unsorted=is_unsorted,
            schema=schema,
            error=reason,
        )

    def _read_margin(self, pixel: Pixel, schema: pa.Schema | None) -> Rows:
        """Read the rows of a pixel's margin, with digests if the schema of its files is given."""
        margin = self.compared_margin
        rows = margin.positions(pixel, self.columns.index)
        if schema is None:
            return rows
        names = self.columns.names_in_margin(schema)
        if margin.is_hipscat:
            names = [*names, *metadata.SOURCE_COLUMNS]
        rows["digest"] = margin.digests(pixel, names, np.ones(len(rows), bool))
        if margin.is_hipscat:
            own = [name for name in metadata.PIXEL_COLUMNS if name in schema.names]
            rows["digest"] += ~metadata.name_pixel(margin.read(pixel, own), pixel)
        return rows

    def conclude(self, findings: RangeFindings) -> AuditReport:
        """Check the metadata, after all sky ranges were checked."""
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
            f"pixel {pixel} is listed, but overlaps partitions of the primary"
            for pixel in self.overlapping
        ]
        contradictions += metadata.metadata_defects(self.margin, rows)
        description = metadata.description_defects(
            self.primary, self.margin, self.columns, self.threshold
        )
        if self.only_partitions is not None and request.only_pixels is None:
            description.append(
                f"the margin was made of {len(self.partitions)} partitions only, and compared with "
                "these (debug_filter_pixel_list in its provenance_info.json). A crossmatch of "
                "other partitions loses pairs"
            )
        return AuditReport(
            threshold=self.threshold,
            cell_order=self.cell_order,
            pixels=results,
            metadata=[*description, *contradictions],
            candidates=findings.candidates,
            unreadable=unreadable,
            contradictions=len(contradictions),
            claimed_threshold=self.claimed_threshold,
            only_partitions=self.only_partitions,
        )


class PrimaryRows:
    """The rows of a primary that can be in the margins of pixels outside of their partition.

    They are within ``reach`` (arcsec) of the boundary of their partition, because every point
    outside of it is nearer to the boundary than to the row.
    """

    def __init__(self, primary: AuditedCatalog, columns: PrimaryColumns, reach: float) -> None:
        self._primary, self._columns, self._reach = primary, columns, reach
        self._partitions = sort_nested(primary.pixels)
        self._starts = np.array([first_descendant(pixel) for pixel in self._partitions], np.int64)
        self._cache: OrderedDict[Pixel, Rows] = OrderedDict()

    def rows(self, pixel: Pixel, partitions: list[Pixel], margin: Rows) -> Rows:
        """Return the rows of partitions near a pixel, and all others that its margin has.

        The latter are wrong. They are looked up where the margin's rows are by their positions,
        then in the partitions near the pixel.
        """
        tables = [np.empty(0, ROW)]
        for partition in partitions:
            tables.append(self._near_rows(partition).copy())
            tables[-1]["own"] = partition == pixel
        margin = margin[~_are_in(margin, np.concatenate(tables))]
        for partition in dict.fromkeys([*self._partitions_at(margin), *partitions]):
            if not len(margin):
                break
            rows = self._positions(partition)
            is_found = np.isin(rows["index"], margin["index"])
            is_found[is_found] = _are_in(rows[is_found], margin)
            tables.append(self._with_digests(partition, rows, is_found))
            tables[-1]["own"] = partition == pixel
            margin = margin[~_are_in(margin, tables[-1])]
        return np.concatenate(tables)

    def _near_rows(self, partition: Pixel) -> Rows:
        """Read the rows near the boundary of a partition, unless they were read before."""
        if partition not in self._cache:
            rows = self._positions(partition)
            is_near = near_boundary(rows["ra"], rows["dec"], *partition, self._reach)
            self._cache[partition] = self._with_digests(partition, rows, is_near)
            while len(self._cache) > 1 and sum(map(len, self._cache.values())) > MAX_CACHED_ROWS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(partition)
        return self._cache[partition]

    def _partitions_at(self, rows: Rows) -> list[Pixel]:
        """Return the partitions that contain the positions of rows, or are next before them."""
        rows = rows[catalogs.are_positions(rows["ra"], rows["dec"])]
        points = catalogs.index_of_positions(rows["ra"], rows["dec"]).astype(np.int64)
        numbers = np.unique(np.searchsorted(self._starts, points, side="right") - 1)
        return [self._partitions[number] for number in numbers[numbers >= 0]]

    def _positions(self, partition: Pixel) -> Rows:
        """Read the positions of a partition, all of which must be possible."""
        primary = self._primary
        rows = primary.positions(partition, self._columns.index)
        is_valid = catalogs.are_positions(rows["ra"], rows["dec"])
        if not is_valid.all():
            raise MarginCacheError(
                f"{primary.path(partition)}: {' or '.join(primary.position_columns)} is null, NaN "
                f"or impossible in {np.count_nonzero(~is_valid)} of {len(rows)} rows. Correct "
                "them, or remove them from the catalog."
            )
        return rows

    def _with_digests(self, partition: Pixel, rows: Rows, is_selected: Mask) -> Rows:
        """Return selected rows, in HiPSCat with the partition, which the margin names."""
        rows = rows[is_selected]
        digests: Digests = self._primary.digests(partition, self._columns.compared, is_selected)
        if self._primary.is_hipscat:
            values = metadata.values_of_pixel(partition)
            table = pa.table({name: np.full(len(rows), value) for name, value in values.items()})
            digests = row_digests(table, list(values), digests=digests)
        rows["digest"] = digests
        return rows


def _are_in(rows: Rows, others: Rows) -> Mask:
    """Return which rows have the index and position of one of the others."""
    codes = row_codes(np.concatenate([rows, others]))
    return np.isin(codes[: len(rows)], codes[len(rows) :])
