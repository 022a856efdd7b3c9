"""The audit of a margin, pixel by pixel, and of its metadata."""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from margin_cache.audit.catalogs import (
    AuditedCatalog,
    are_positions,
    index_of_positions,
    is_threshold,
    open_pair,
)
from margin_cache.audit.compare import compare_rows
from margin_cache.audit.digests import Digests, row_digests
from margin_cache.audit.distance import near_boundary
from margin_cache.audit.files import UnreadableFile
from margin_cache.audit.findings import AuditReport, PixelFindings, RangeFindings
from margin_cache.audit.metadata import (
    PIXEL_COLUMNS,
    SOURCE_COLUMNS,
    PrimaryColumns,
    description_defects,
    metadata_defects,
    name_pixel,
    values_of_pixel,
)
from margin_cache.audit.pixels import (
    Pixel,
    SkyRange,
    first_descendant,
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

MAX_CACHED_ROWS = 5_000_000  # of each cache; some 200 MB


class Audit:
    """A margin and its primary while they are compared."""

    def __init__(self, request: AuditRequest, options: StoreOptions = (None, None)) -> None:
        self.request = request
        primary, self.margin = open_pair(request.primary, request.margin, options)
        self.threshold = request.threshold or self.margin.threshold or math.nan
        if not is_threshold(self.threshold):
            raise MarginCacheError(
                f"{request.margin}: the threshold must be a number of arcsec above 0, not "
                f"{self.margin.threshold}. Set audit_threshold."
            )
        is_coarse = request.is_coarse
        if is_coarse is None:
            is_coarse = self.margin.is_coarse or request.cell_order is not None
        cell_order = self.margin.cell_order if request.cell_order is None else request.cell_order
        self.cell_order = cell_order if is_coarse else None
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
        """Check the pixels of a range of the sky, or a sample of them."""
        known = (self.partitions | self.listed) - set(self.overlapping)
        pixels = filter(sky_range.contains, sort_nested(known | set(uncovered_sky(known))))
        nearby = nearby_partitions(list(pixels), self.primary.pixels, self.threshold)
        candidates = [item for item in nearby if item[1] or item[0] in self.listed]
        fraction, seed = self.request.fraction, self.request.seed
        chosen = [item for item in candidates if is_in_sample(item[0], fraction, seed)]
        for pixel, partitions in chosen:
            for partition in partitions if pixel in self.listed else []:
                self.listed_near[partition].append(pixel)
        return RangeFindings(len(candidates), [self.check_pixel(*item) for item in chosen])

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
        own = [name for name in PIXEL_COLUMNS if name in schemas[0].names]
        names = own if is_compared and margin.is_hipscat else []
        rows, table = margin.positions(pixel, self.index_column, names)
        rows = rows.assign(is_compared=is_compared)
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
        contradictions += metadata_defects(self.margin, rows)
        description = description_defects(self.primary, self.margin, self.columns, self.threshold)
        if self.is_partial:
            description.append(
                f"the margin was made of {len(self.partitions)} partitions only, and compared with "
                "these (debug_filter_pixel_list in its provenance_info.json). A crossmatch of "
                "other partitions loses pairs"
            )
        claimed = self.margin.threshold or 0.0
        is_more = math.isfinite(claimed) and claimed > self.threshold
        return AuditReport(
            threshold=self.threshold,
            cell_order=self.cell_order,
            pixels=results,
            metadata=[*description, *contradictions],
            candidates=findings.candidates,
            unreadable=unreadable,
            contradictions=len(contradictions),
            claimed_threshold=claimed if is_more else None,
            only_partitions=self.only_partitions,
        )


class RowCache:
    """Rows by pixel. Those used last are kept, MAX_CACHED_ROWS together."""

    def __init__(self, read: Callable[[Pixel], pd.DataFrame]) -> None:
        self._read = read
        self._tables: OrderedDict[Pixel, pd.DataFrame] = OrderedDict()

    def rows(self, pixel: Pixel) -> pd.DataFrame:
        if pixel not in self._tables:
            self._tables[pixel] = self._read(pixel)
            while len(self._tables) > 1 and sum(map(len, self._tables.values())) > MAX_CACHED_ROWS:
                self._tables.popitem(last=False)
        self._tables.move_to_end(pixel)
        return self._tables[pixel]


@dataclass
class NearbyRows:
    """The rows of a primary that can matter for pixels outside of their partition.

    They are near the boundary of their partition, because every point outside of it is nearer to
    the boundary than to the row; or the margin has their index, rightly or not.

    Attributes:
        threshold: Arcsec.
        index_column: Spatial index; None if it is computed.
        columns: Columns whose values are compared.
        margin_indexes: Returns the spatial indexes that the margin has for pixels near a partition.
    """

    primary: AuditedCatalog
    threshold: float
    index_column: str | None
    columns: list[str]
    margin_indexes: Callable[[Pixel], npt.NDArray[np.uint64]]

    def __post_init__(self) -> None:
        self._cache = RowCache(self._read)
        self._positions = RowCache(self._read_positions)

    def rows(self, pixel: Pixel, partitions: list[Pixel]) -> pd.DataFrame:
        """Return the rows of partitions near a pixel, as `compare_rows` expects them."""
        tables = [no_rows(), *map(self._cache.rows, partitions)]
        is_own = [False, *(partition == pixel for partition in partitions)]
        return pd.concat(tables).assign(own=np.repeat(is_own, list(map(len, tables))))

    def distant_rows(self, rows: pd.DataFrame, pixel: Pixel, nearby: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the primary that a margin has, but that are not among the nearby ones.

        They are looked up in the partitions in which the margin's rows lie by their positions.
        """
        rows = rows[~rows["index"].isin(nearby["index"])]
        tables = [nearby[:0]]
        for partition in self._partitions_at(rows):
            positions = self._positions.rows(partition)
            is_nearby = positions["index"].isin(nearby["index"])
            is_known = (positions["index"].isin(rows["index"]) & ~is_nearby).to_numpy()
            if is_known.any():
                digests = self._digests(partition, is_known)
                tables.append(positions[is_known].assign(digest=digests, own=partition == pixel))
        return pd.concat(tables)

    def _partitions_at(self, rows: pd.DataFrame) -> list[Pixel]:
        """Return the partitions that contain the positions of rows, or are next before them."""
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        points = index_of_positions(ra, dec)[are_positions(ra, dec)].astype(np.int64)
        partitions = sort_nested(self.primary.pixels)
        starts = np.array([first_descendant(pixel) for pixel in partitions], np.int64)
        numbers = np.unique(np.searchsorted(starts, points, side="right") - 1)
        return [partitions[number] for number in numbers[numbers >= 0]]

    def _read(self, partition: Pixel) -> pd.DataFrame:
        rows = self._read_positions(partition)
        is_in_margin = rows["index"].isin(self.margin_indexes(partition)).to_numpy()
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        is_near = near_boundary(ra, dec, *partition, self.threshold)
        if is_in_margin.any():
            rows.loc[is_in_margin, "digest"] = self._digests(partition, is_in_margin)
        return rows[is_in_margin | is_near].copy()

    def _read_positions(self, partition: Pixel) -> pd.DataFrame:
        """Read the positions of a partition, all of which must be possible."""
        primary = self.primary
        rows, _ = primary.positions(partition, self.index_column)
        is_valid = are_positions(rows["ra"].to_numpy(), rows["dec"].to_numpy())
        if not is_valid.all():
            raise MarginCacheError(
                f"{primary.path(partition)}: {' or '.join(primary.position_columns)} is null, NaN "
                f"or impossible in {np.count_nonzero(~is_valid)} of {len(rows)} rows. Correct "
                "them, or remove them from the catalog."
            )
        return rows

    def _digests(self, partition: Pixel, is_selected: npt.NDArray[np.bool_]) -> Digests:
        """Return digests of rows; in HiPSCat also of the partition, which the margin names."""
        digests = self.primary.digests(partition, self.columns, is_selected)
        if not self.primary.is_hipscat:
            return digests
        values = values_of_pixel(partition)
        table = pa.table({name: np.full(len(digests), value) for name, value in values.items()})
        return row_digests(table, list(values), digests=digests)


def no_rows() -> pd.DataFrame:
    """Return a table without rows, with the types of `AuditedCatalog.positions`."""
    types = {"index": np.uint64, "ra": np.float64, "dec": np.float64, "digest": np.uint64}
    rows = pd.DataFrame({name: np.empty(0, kind) for name, kind in types.items()})
    return rows.assign(is_compared=True)
