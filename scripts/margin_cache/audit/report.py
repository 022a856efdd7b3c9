"""The audit of a whole margin, pixel by pixel."""

from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from margin_cache.audit.catalogs import of_the_file, open_catalog
from margin_cache.audit.coverage import nested, overlapping, partitions_around, rest_of_sky
from margin_cache.audit.findings import Findings, MarginReport, PixelReport
from margin_cache.audit.inventory import description_defects, metadata_defects, schema_defects
from margin_cache.audit.judgement import judge_pixel
from margin_cache.audit.pixels import Pixel
from margin_cache.audit.request import AuditRequest, SkyRange, is_chosen
from margin_cache.audit.surroundings import MOST_ROWS, NearbyRows, frame, positions
from margin_cache.audit.values import row_digests
from margin_cache.errors import MarginCacheError


def audit_margin(request: AuditRequest) -> MarginReport:
    """Check a margin against its primary: in the partitions, and in all of the sky beside them.

    Raises:
        MarginCacheError: A catalog cannot be opened, the primary cannot be read, or the margin
            does not tell its threshold.
    """
    found = [audit_piece(request, piece) for piece in request.pieces]
    pixels = [pixel for each in found for pixel in each.pixels]
    return conclude(request, Findings(sum(each.candidates for each in found), pixels))


def audit_piece(request: AuditRequest, piece: SkyRange) -> Findings:
    """Look at the pixels of a piece of the sky, or at a sample of them.

    Raises:
        MarginCacheError: As `audit_margin`.
    """
    return _Audit(request).findings(piece)


def conclude(request: AuditRequest, found: Findings) -> MarginReport:
    """Return what is wrong with a margin, of which all pieces have been looked at.

    Raises:
        MarginCacheError: As `audit_margin`; or a piece is lacking, or no pixel was looked at.
    """
    return _Audit(request).conclude(found)


class _Audit:
    """A margin and its primary while they are compared."""

    def __init__(self, request: AuditRequest) -> None:
        primary, margin = open_catalog(Path(request.primary)), open_catalog(Path(request.margin))
        self.request, self.primary, self.margin = request, primary, margin
        self.cell_order = request.cell_order
        limit = margin.threshold if request.threshold is None else request.threshold
        if not limit:
            raise MarginCacheError(
                f"{request.margin}: no threshold in its metadata; give audit_threshold"
            )
        self.limit = limit
        finest = max((order for order, _ in primary.pixels), default=0)
        if self.cell_order is not None and self.cell_order < finest:
            raise MarginCacheError(
                f"{request.margin}: cells of order {self.cell_order} are larger than partitions of "
                f"order {finest}; give a margin_order from {finest} on"
            )
        self.schema = primary.schema(primary.pixels[0])
        name = primary.index_of(primary.pixels[0])
        free = of_the_file(self.schema) | {name}
        self.columns = [each for each in self.schema.names if each not in free]
        self.listed, self.partitions = set(margin.pixels), set(primary.pixels)
        self.wrong = overlapping(margin.pixels, primary.pixels)
        self.read_rows: OrderedDict[Pixel, pd.DataFrame] = OrderedDict()
        self.listed_near: dict[Pixel, list[Pixel]] = defaultdict(list)
        self.surroundings = NearbyRows(primary, limit, self.columns, self.indexes_near)

    def findings(self, piece: SkyRange) -> Findings:
        """Judge the pixels of a piece that can have rows."""
        sound = {*self.primary.pixels, *self.margin.pixels} - set(self.wrong)
        pixels = filter(piece.has, nested(sound | set(rest_of_sky(sound))))
        near = {
            pixel: around
            for pixel, around in partitions_around(list(pixels), self.primary.pixels, self.limit)
            if around or pixel in self.listed
        }
        fraction, seed = self.request.fraction, self.request.seed
        chosen = {pixel: near[pixel] for pixel in near if is_chosen(pixel, fraction, seed)}
        for pixel, around in chosen.items():
            for partition in around if pixel in self.listed else []:
                self.listed_near[partition].append(pixel)
        return Findings(len(near), [self.judge(*each) for each in chosen.items()])

    def conclude(self, found: Findings) -> MarginReport:
        """Judge the metadata, by the rows of all files."""
        request, reports = self.request, found.pixels
        seen = {each.pixel for each in reports}
        sound = self.listed - set(self.wrong)
        lacking = sound - seen if request.fraction >= 1 else set()
        if lacking or len(seen) != len(reports):
            raise MarginCacheError(
                f"{request.margin}: the audit has lost pixels, or has them twice; start it again, "
                "with another tmp_dir"
            )
        if not reports:
            raise MarginCacheError(
                f"audit_fraction: none of {found.candidates} pixels is in the sample; give more, "
                "or another audit_seed"
            )
        rows = {each.pixel: each.rows for each in reports if each.is_listed and not each.error}
        metadata = [
            f"pixel {pixel} is listed, but overlaps partitions of the primary"
            for pixel in self.wrong
        ]
        for pixel in nested(self.listed - seen):
            try:
                rows[pixel] = self.margin.count(pixel)
            except MarginCacheError as error:
                metadata.append(str(error))
        metadata += description_defects(self.primary, self.margin, self.schema)
        metadata += metadata_defects(self.margin, rows, self.limit)
        return MarginReport(
            threshold=self.limit,
            cell_order=self.cell_order,
            pixels=reports,
            metadata=metadata,
            candidates=found.candidates,
            fraction=request.fraction,
            seed=request.seed,
        )

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
