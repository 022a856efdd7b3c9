"""The audit of a whole margin, pixel by pixel."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from margin_cache.audit.catalogs import OF_THE_FILE, AuditedCatalog, open_catalog
from margin_cache.audit.coverage import Pixel, nested, overlapping, partitions_around, rest_of_sky
from margin_cache.audit.inventory import metadata_defects, schema_defects
from margin_cache.audit.judgement import Judgement, judge_pixel
from margin_cache.audit.surroundings import MOST_ROWS, Surroundings, frame, positions
from margin_cache.audit.values import row_digests
from margin_cache.errors import MarginCacheError


@dataclass(frozen=True)
class PixelReport:
    """What the audit has found in a pixel.

    Attributes:
        pixel: Order and nested number.
        is_partition: Whether the primary has it; if not, it is a piece of the sky beside it.
        is_listed: Whether the margin lists it.
        rows: Rows of its file.
        judgement: Its faulty rows.
        is_unsorted: Whether the file's rows are in another order than that of the spatial index.
        schema: What is wrong with the file's columns.
        error: Why its file cannot be read; empty if it can.
    """

    pixel: Pixel
    is_partition: bool
    is_listed: bool
    rows: int
    judgement: Judgement
    is_unsorted: bool
    schema: list[str]
    error: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong with the pixel's rows and file."""
        return self.judgement.is_clean and not (self.is_unsorted or self.schema or self.error)


@dataclass(frozen=True)
class MarginReport:
    """What the audit has found in a margin."""

    threshold: float
    cell_order: int | None
    pixels: list[PixelReport]
    metadata: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong at all."""
        return not self.metadata and all(report.is_clean for report in self.pixels)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows, or pixels, of each kind of defect there are."""
        found = [report.judgement for report in self.pixels]
        return {
            "missing": sum(len(each.missing) for each in found),
            "false": sum(len(each.false) for each in found),
            "double": sum(len(each.double) for each in found),
            "changed": sum(len(each.changed) for each in found),
            "unsorted": sum(report.is_unsorted for report in self.pixels),
            "schema": sum(bool(report.schema) for report in self.pixels),
            "unreadable": sum(bool(report.error) for report in self.pixels),
            "metadata": len(self.metadata),
        }

    @property
    def undecided(self) -> int:
        """How many rows are too near to the threshold to be judged."""
        return sum(report.judgement.undecided for report in self.pixels)

    @property
    def missing_beside(self) -> int:
        """How many of the missing rows are those of pixels outside the primary's partitions."""
        beside = [report for report in self.pixels if not report.is_partition]
        return sum(len(report.judgement.missing) for report in beside)


def audit_margin(
    primary_path: Path, margin_path: Path, threshold: float | None, cell_order: int | None = None
) -> MarginReport:
    """Check a margin against its primary: in the partitions, and in all of the sky beside them.

    Args:
        primary_path: Directory of the primary.
        margin_path: Directory of the margin.
        threshold: Arcsec; None to take it from the margin's metadata.
        cell_order: Order of the cells of a coarse margin; None for an exact one.

    Raises:
        MarginCacheError: A catalog cannot be opened, the primary cannot be read, or the margin
            does not tell its threshold.
    """
    primary, margin = open_catalog(primary_path), open_catalog(margin_path)
    limit = margin.threshold if threshold is None else threshold
    if not limit:
        raise MarginCacheError(f"{margin_path}: no threshold in its metadata; give --threshold")
    finest = max((order for order, _ in primary.pixels), default=0)
    if cell_order is not None and cell_order < finest:
        raise MarginCacheError(
            f"{margin_path}: cells of order {cell_order} are larger than partitions of order "
            f"{finest}; give a --cell-order from {finest} on"
        )
    return _Audit(primary, margin, limit, cell_order).report()


class _Audit:
    """A margin and its primary while they are compared."""

    def __init__(
        self, primary: AuditedCatalog, margin: AuditedCatalog, limit: float, cell_order: int | None
    ) -> None:
        self.primary, self.margin, self.limit, self.cell_order = primary, margin, limit, cell_order
        self.schema = primary.schema(primary.pixels[0])
        name = primary.index_of(primary.pixels[0])
        free = OF_THE_FILE | {name}
        self.columns = [each for each in self.schema.names if each not in free]
        self.listed, self.partitions = set(margin.pixels), set(primary.pixels)
        self.wrong = overlapping(margin.pixels, primary.pixels)
        self.read_rows: OrderedDict[Pixel, pd.DataFrame] = OrderedDict()
        self.listed_near: dict[Pixel, list[Pixel]] = defaultdict(list)
        self.surroundings = Surroundings(primary, limit, self.columns, self.indexes_near)

    def report(self) -> MarginReport:
        """Judge all pixels that can have rows, and what the metadata say."""
        sound = {*self.primary.pixels, *self.margin.pixels} - set(self.wrong)
        pixels = nested(sound | set(rest_of_sky(sound)))
        near = {
            pixel: around
            for pixel, around in partitions_around(pixels, self.primary.pixels, self.limit)
            if around or pixel in self.listed
        }
        for pixel, around in near.items():
            for partition in around if pixel in self.listed else []:
                self.listed_near[partition].append(pixel)
        reports = [self.judge(pixel, around) for pixel, around in near.items()]
        rows = {each.pixel: each.rows for each in reports if each.is_listed and not each.error}
        metadata = []
        for pixel in self.wrong:
            metadata.append(f"pixel {pixel} is listed, but overlaps partitions of the primary")
            try:
                rows[pixel] = len(self.margin.read(pixel))
            except MarginCacheError as error:
                metadata.append(str(error))
        metadata += metadata_defects(self.margin, rows, self.limit)
        return MarginReport(self.limit, self.cell_order, reports, metadata)

    def judge(self, pixel: Pixel, around: list[Pixel]) -> PixelReport:
        """Compare the rows of a pixel with those of the partitions around it."""
        rows, schema, error = frame([], [], [], []), [], ""
        if pixel in self.listed:
            try:
                schema = schema_defects(self.schema, self.margin.schema(pixel))
                rows = self.rows_of(pixel)
            except MarginCacheError as found:
                error = str(found)
        primary = self.surroundings.rows(pixel, around)
        if schema:  # values of other columns or types are other ones
            primary, rows = primary.assign(digest=np.uint64(0)), rows.assign(digest=np.uint64(0))
        judgement = judge_pixel(primary, rows, *pixel, self.limit, self.cell_order)
        return PixelReport(
            pixel=pixel,
            is_partition=pixel in self.partitions,
            is_listed=pixel in self.listed,
            rows=len(rows),
            judgement=judgement,
            is_unsorted=not rows["index"].is_monotonic_increasing,
            schema=schema,
            error=error,
        )

    def rows_of(self, pixel: Pixel) -> pd.DataFrame:
        """Return the rows that the margin has for a pixel, as `judge_pixel` takes them."""
        if pixel not in self.read_rows:
            table = self.margin.read(pixel)
            index = self.margin.index_of(pixel)
            lacking = {*self.primary.position} - set(table.column_names)
            if lacking:
                raise MarginCacheError(f"{self.margin.path(pixel)}: no column {min(lacking)}")
            rows = positions(table, index, self.primary.position)
            columns = [name for name in self.columns if name in table.column_names]
            self.read_rows[pixel] = rows.assign(digest=row_digests(table, columns))
            while len(self.read_rows) > 1 and sum(map(len, self.read_rows.values())) > MOST_ROWS:
                self.read_rows.popitem(last=False)
        self.read_rows.move_to_end(pixel)
        return self.read_rows[pixel]

    def indexes_near(self, partition: Pixel) -> npt.NDArray[np.uint64]:
        """Return the indexes that the margin has for pixels around a partition."""
        found = [np.empty(0, np.uint64)]
        for pixel in self.listed_near[partition]:
            try:
                found.append(self.rows_of(pixel)["index"].to_numpy())
            except MarginCacheError:
                continue  # it is judged, and said, with its own pixel
        return np.concatenate(found)
