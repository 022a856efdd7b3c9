"""Positions of rows are read without other columns; wrong ones are counted."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.catalog.columns import coordinates
from margin_cache.catalog.model import CatalogInfo, Partition
from margin_cache.catalog.partitions import partition_files, state_of
from margin_cache.errors import MarginCacheError
from margin_cache.healpix.nested import Pixel
from margin_cache.parquet import partition_file
from margin_cache.parquet.partition_file import FilePositions, PartitionFile, open_files
from margin_cache.parquet.row_selection import select_rows
from support import skies
from support.catalog_infos import HATS, HIPSCAT, write_partition
from support.partition_files import open_file

Doubles = npt.NDArray[np.float64]

ROWS = 1000
PIXEL = Pixel(1, 5)


@dataclass
class Catalog:
    """A catalog with one partition, PIXEL."""

    info: CatalogInfo
    table: pa.Table

    @cached_property
    def path(self) -> Path:
        return write_partition(self.info, *PIXEL, self.table)

    @cached_property
    def partition(self) -> Partition:
        assert self.path.exists()
        return Partition(PIXEL, state_of(self.info, partition_files(self.info, PIXEL)))

    def files(self, schema: pa.Schema | None = None) -> list[PartitionFile]:
        return list(open_files(self.info, self.partition, schema or self.table.schema))

    def batches(self, part: PartitionFile) -> Iterator[pa.Table]:
        return partition_file.read_positions(self.info, PIXEL, part)

    def read(self) -> pa.Table:
        """The positions of all rows."""
        return pa.concat_tables(t for part in self.files() for t in self.batches(part))

    def check_coordinates(self) -> None:
        """Check the last rows, as a job does with candidates."""
        partition_file.check_coordinates(self.info, [self.last()])

    def last(self) -> FilePositions:
        """The positions of the last rows."""
        (part,) = self.files()
        names = [self.info.index_column] if self.info.index_column else []
        table = part.file.read(columns=[*names, "ra", "dec"])[-100:]
        rows = np.arange(len(self.table) - len(table), len(self.table))
        return FilePositions(PIXEL, part, rows, table)

    def refused(self) -> str:
        """What is said of rows that are wrong, after the name of the file."""
        with pytest.raises(MarginCacheError) as caught:
            self.read()
        file, _, said = str(caught.value).partition(": ")
        assert file == str(self.path)
        return said


@pytest.fixture(params=[HIPSCAT, HATS], ids=["hipscat", "hats"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    rng = np.random.default_rng(1)
    at = np.tile(PIXEL, (ROWS, 1))
    ra, dec = skies.pixel_positions(at, *rng.uniform(0.1, 0.9, (2, ROWS)))
    columns = {"ra": ra, "dec": dec.astype(np.float32), "id": np.arange(ROWS)}
    if request.param is HIPSCAT:
        columns["_hipscat_index"] = skies.nested_pixels(ra, dec).astype(np.uint64) << np.uint64(22)
    return Catalog(replace(request.param, path=str(tmp_path)), pa.table(columns))


def with_values(table: pa.Table, name: str, values: dict[int, float | None]) -> pa.Table:
    """A table with some other values, by row, in a column."""
    column = table[name].to_pylist()
    for row, value in values.items():
        column[row] = value
    kind = table.schema.field(name).type
    return table.set_column(table.column_names.index(name), name, pa.array(column, kind))


# --- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1 << 16, 300])
def test_index_and_coordinates_of_all_rows_are_read_batch_by_batch(
    batch: int, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_file, "BATCH_ROWS", batch)
    found = catalog.read()
    names = [name for name in ("_hipscat_index", "ra", "dec") if name in catalog.table.schema.names]
    assert found.equals(catalog.table.select(names))
    (part,) = catalog.files()
    sizes = [table.num_rows for table in catalog.batches(part)]
    assert max(sizes) <= batch and sum(sizes) == ROWS


def test_row_groups_are_read_in_order(catalog: Catalog) -> None:
    pq.write_table(catalog.table, catalog.path, row_group_size=300)
    (part,) = catalog.files()
    assert (part.path, part.file.num_row_groups) == (str(catalog.path), 4)
    found = pa.concat_tables(catalog.batches(part))
    assert found["ra"].equals(catalog.table["ra"])


def test_a_damaged_file_is_named(catalog: Catalog) -> None:
    content = bytearray(catalog.path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    catalog.path.write_bytes(content)
    (part,) = catalog.files()
    with pytest.raises(MarginCacheError, match=re.escape(f"{catalog.path}: cannot be read (")):
        list(catalog.batches(part))


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ra", "dec"])
@pytest.mark.parametrize("value", [None, np.nan, np.inf, -np.inf, 1e300, 721.0])
def test_rows_without_a_position_are_counted(
    name: str, value: float | None, catalog: Catalog
) -> None:
    if name == "dec" and value == 1e300:
        value = 90.001
    catalog.table = with_values(catalog.table, name, {3: value, 999: value})
    pq.write_table(catalog.table, catalog.path, row_group_size=300)
    said = "ra or dec is null, NaN or impossible in at least 2 of 1000 rows"
    assert catalog.refused().startswith(said)


@pytest.mark.parametrize("catalog", [HATS], indirect=True)
def test_longitudes_beyond_a_whole_turn_are_accepted(catalog: Catalog) -> None:
    ra = catalog.table["ra"].to_pylist()
    turned = {0: ra[0] - 720, 1: ra[1] + 360, 2: ra[2] - 360}
    catalog.table = with_values(catalog.table, "ra", turned)
    assert catalog.read().num_rows == ROWS


@pytest.mark.parametrize("catalog", [HIPSCAT], indirect=True)
def test_the_poles_are_accepted(catalog: Catalog) -> None:
    """Only candidates are compared with their index."""
    catalog.table = with_values(catalog.table, "dec", {0: 90.0, 1: -90.0})
    assert catalog.read().num_rows == ROWS


@pytest.mark.parametrize("catalog", [HIPSCAT], indirect=True)
@pytest.mark.parametrize("beyond", ["before", "behind"])
def test_rows_of_another_pixel_are_counted(beyond: str, catalog: Catalog) -> None:
    order, pixel = PIXEL
    shift = 22 + 2 * (19 - order)
    ends = {0: pixel << shift, 1: ((pixel + 1) << shift) - 1}
    catalog.table = with_values(catalog.table, "_hipscat_index", ends)
    assert catalog.read().num_rows == ROWS
    outside = (pixel << shift) - 1 if beyond == "before" else (pixel + 1) << shift
    table = with_values(catalog.table, "_hipscat_index", {7: outside, 8: outside, 9: outside})
    other = Catalog(catalog.info, table)
    assert other.refused().startswith(
        "_hipscat_index is outside the partition's pixel in at least 3 of 1000"
    )


@pytest.mark.parametrize("catalog", [HIPSCAT], indirect=True)
def test_rows_without_an_index_are_counted(catalog: Catalog) -> None:
    catalog.table = with_values(catalog.table, "_hipscat_index", {7: None, 500: None})
    assert catalog.refused().startswith("_hipscat_index is null in at least 2 of 1000 rows")


def test_an_index_coarser_than_the_partition_is_not_checked(tmp_path: Path) -> None:
    """It does not determine whether a row is in the pixel."""
    info = replace(HIPSCAT, path=str(tmp_path), index_order=0, index_shift=0)
    table = pa.table({"ra": [1.0], "dec": [2.0], "_hipscat_index": pa.array([7], pa.int64())})
    assert Catalog(info, table).read().num_rows == 1


def in_galactic(ra: Doubles, dec: Doubles) -> tuple[Doubles, Doubles]:
    """Positions in another frame: around another pole."""
    pole = skies.vectors_from_sky(np.array([192.859]), np.array([27.128]))[0]
    axes = np.stack([np.cross([0, 0, 1], pole), np.cross(pole, np.cross([0, 0, 1], pole)), pole])
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    return skies.sky_from_vectors(skies.vectors_from_sky(ra, dec) @ axes.T)


@pytest.mark.parametrize("catalog", [HIPSCAT], indirect=True)
@pytest.mark.parametrize(
    "mistake",
    [
        lambda ra, dec: (dec, ra % 90),
        lambda ra, dec: (np.deg2rad(ra), np.deg2rad(dec)),
        lambda ra, dec: (ra / 15, dec),
        lambda ra, dec: (ra, -dec),
        lambda ra, dec: (ra, dec + 20 / 3600),
        in_galactic,
    ],
    ids=["swapped", "radians", "hours", "sign", "shifted", "frame"],
)
def test_coordinates_that_contradict_the_index_are_counted(
    mistake: Callable[[Doubles, Doubles], tuple[Doubles, Doubles]], catalog: Catalog
) -> None:
    catalog.check_coordinates()
    ra, dec = mistake(*coordinates(catalog.info, catalog.table))
    table = catalog.table.set_column(0, "ra", pa.array(ra)).set_column(1, "dec", pa.array(dec))
    wrong = Catalog(catalog.info, table)
    pq.write_table(with_values(table, "ra", {3: None}), wrong.path, row_group_size=300)
    with pytest.raises(MarginCacheError) as caught:
        wrong.check_coordinates()
    count = re.fullmatch(
        re.escape(str(wrong.path)) + r": ra and dec are more than 5 arcsec from the position "
        r"of _hipscat_index in at least (\d+) of \d+ rows\. Check that these are the right .*",
        str(caught.value),
    )
    assert count and 90 < int(count[1]) <= 100


@pytest.mark.parametrize("catalog", [HIPSCAT], indirect=True)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coordinates_may_be_rounded(dtype: type, catalog: Catalog) -> None:
    """Rows are at borders of the partition and of cells, where rounding matters."""
    rng = np.random.default_rng(2)
    u, v = rng.integers(0, 2049, (2, ROWS)) / 2048
    ra, dec = skies.pixel_positions(np.tile(PIXEL, (ROWS, 1)), u * 0.999999 + 5e-7, v * 0.98 + 0.01)
    index = skies.nested_pixels(ra, dec).astype(np.uint64) << np.uint64(22)
    off = skies.offset_positions(ra, dec, np.full(ROWS, 4.8 * skies.ARCSEC), rng)
    for shift, (lon, lat) in enumerate(((ra, dec), off)):
        kind = np.float64 if shift else dtype
        columns = {"ra": lon.astype(kind), "dec": lat.astype(kind), "_hipscat_index": index}
        catalog.table = pa.table({**columns, "id": np.arange(ROWS)})
        catalog.__dict__.pop("path", None)
        catalog.__dict__.pop("partition", None)
        catalog.check_coordinates()


def test_coordinates_are_compared_in_cells_no_finer_than_the_index(tmp_path: Path) -> None:
    info = replace(HIPSCAT, path=str(tmp_path), index_order=3, index_shift=0)
    (ra,), (dec,) = skies.pixel_positions(np.array([[3, 81]]), np.array([0.5]), np.array([0.5]))
    catalog = Catalog(info, pa.table({"ra": [ra], "dec": [dec], "_hipscat_index": [81]}))
    catalog.check_coordinates()
    catalog = Catalog(info, with_values(catalog.table, "_hipscat_index", {0: 82}))
    with pytest.raises(
        MarginCacheError, match=r"ra and dec are more than 5 arcsec from .* in at least 1 of 1 rows"
    ):
        catalog.check_coordinates()


@pytest.mark.parametrize("order", [1, 16])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("catalog", [HIPSCAT], indirect=True)
def test_among_files_checked_together_the_wrong_one_is_named(
    place: int, order: int, catalog: Catalog, tmp_path: Path
) -> None:
    """Also among files of partitions with cells of another order."""
    good = replace(catalog.last(), pixel=Pixel(16, 0))
    others = [good, replace(good, pixel=PIXEL)]
    partition_file.check_coordinates(catalog.info, others)
    ra = pa.array(np.asarray(catalog.table["ra"]) + 1)
    info = replace(catalog.info, path=str(tmp_path / "wrong"))
    wrong = Catalog(info, catalog.table.set_column(0, "ra", ra))
    others.insert(place, replace(wrong.last(), pixel=Pixel(order, 0)))
    with pytest.raises(
        MarginCacheError, match=f"^{wrong.path}: ra and dec are .* at least 100 of 1000 rows"
    ):
        partition_file.check_coordinates(catalog.info, others)


@pytest.mark.parametrize("catalog", [HATS], indirect=True)
def test_without_an_index_coordinates_may_not_contradict_the_partition(catalog: Catalog) -> None:
    """All rows count, not only those near a border."""
    assert catalog.read().num_rows == ROWS
    wrong = Catalog(catalog.info, with_values(catalog.table, "dec", {0: -80.0, 700: -80.0}))
    catalog.path.unlink()
    with pytest.raises(MarginCacheError) as caught:
        wrong.read()
    assert str(caught.value) == (
        f"{wrong.path}: ra and dec are more than 5 arcsec from the partition's pixel in at "
        "least 2 of 1000 rows. Check that these are the right columns, in degrees and in the frame "
        "of the partitions (ICRS). If they are right in other files, this one may be damaged: copy "
        "it again."
    )


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_a_partition_that_changed_after_planning_is_refused(change: str, catalog: Catalog) -> None:
    assert len(catalog.files()) == 1
    stat = catalog.path.stat()
    if change == "gone":
        catalog.path.unlink()
    else:
        rows = catalog.table.slice(500) if change == "size" else catalog.table
        pq.write_table(rows, catalog.path)
        later = 0 if change == "size" else 10**9
        os.utime(catalog.path, ns=(stat.st_mtime_ns, stat.st_mtime_ns + later))
    assert catalog.refused() == "was changed after the run began. Start the run again."


def test_a_partition_of_another_schema_is_refused(catalog: Catalog) -> None:
    schema = catalog.table.schema.append(pa.field("more", pa.int8()))
    with pytest.raises(MarginCacheError, match="lacks the column more"):
        catalog.files(schema)


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_file_of_which_pyarrow_reads_fewer_rows_is_named(value: int, tmp_path: Path) -> None:
    """As with a damaged page header, which PyArrow does not report when it reads batches."""
    path = tmp_path / "table.parquet"
    table = pa.table({"index": np.arange(55), "ra": np.linspace(0, 1, 55)})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    content = path.read_bytes()
    unread = 0
    for place in range(4, 30):
        path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
        part = open_file(path)
        try:
            whole = pq.ParquetFile(path).read()
        except (pa.ArrowException, OSError):
            unread += 1
            with pytest.raises(MarginCacheError, match=re.escape(f"{path}: cannot be read (")):
                list(partition_file.read_batches(part, [0], table.schema.names))
        else:
            batches = partition_file.read_batches(part, [0], table.schema.names)
            assert pa.Table.from_batches(batches).equals(whole)
    assert unread


def test_a_damaged_row_group_is_named(catalog: Catalog) -> None:
    content = bytearray(catalog.path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    catalog.path.write_bytes(content)
    assert catalog.refused().startswith("cannot be read (")


def test_positions_have_only_their_columns(tmp_path: Path) -> None:
    """Parquet also reads nested columns whose path is equal to such a name."""
    numbers = pa.array(np.arange(45.0, 46.0, 0.1))
    dec = pa.array(np.arange(5.0, 6.0, 0.1))
    both = pa.StructArray.from_arrays([numbers, numbers], ["ra", "epoch"])
    table = pa.table({"coord.ra": numbers, "dec": dec, "coord": both})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    part = open_file(path)
    info = replace(HATS, ra_column="coord.ra", dec_column="dec", index_column=None)
    (taken,) = partition_file.read_positions(info, Pixel(0, 0), part)
    assert taken.schema.names == ["coord.ra", "dec"]
    assert select_rows(part, taken, None, np.arange(10), table.schema).equals(table)
