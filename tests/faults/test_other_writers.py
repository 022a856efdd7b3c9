"""Partitions that another program has written, with whatever types and options it has."""

import datetime as dt
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.faults import SEED, Tally, number, outcome_after, outcome_of_end
from support.faulty_margins import Site, as_pyarrow_reads, make_margin, run_in_child, small_site

TYPES = (
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    *(pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time),
    *(pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Datetime("ns"), pl.Duration("us")),
    *(pl.Categorical, pl.Decimal(12, 3), pl.List(pl.Int64), pl.List(pl.String)),
    *(pl.Array(pl.Float32, 3), pl.Struct({"a": pl.Int8, "b": pl.List(pl.Float64)})),
)
DAY = dt.datetime(2026, 1, 1)


def value(rng: random.Random, kind: pl.DataType) -> object:
    """A random value of a type; None now and then."""
    if rng.random() < 0.2:
        return None
    if isinstance(kind, pl.List):
        return [value(rng, kind.inner) for _ in range(rng.randrange(4))]
    if isinstance(kind, pl.Array):
        return [rng.random() for _ in range(3)]
    if isinstance(kind, pl.Struct):
        return {field.name: value(rng, field.dtype) for field in kind.fields}
    if kind.is_integer():
        return rng.randrange(128)
    if kind.is_float():
        return rng.choice((0.0, -0.0, float("nan"), float("inf"), rng.random()))
    texts = {pl.Boolean: True, pl.Binary: b"\0", pl.Date: DAY.date(), pl.Time: DAY.time()}
    if type(kind) in texts:
        return texts[type(kind)]
    if isinstance(kind, pl.Datetime):
        return DAY + dt.timedelta(seconds=rng.randrange(10**6))
    if isinstance(kind, pl.Duration):
        return dt.timedelta(seconds=rng.randrange(10**6))
    if kind.is_decimal():
        return rng.randrange(1000)
    return rng.choice(("", "a", "é" * 50, str(rng.random())))


def write_by_polars(path: Path, kinds: list[pl.DataType], rng: random.Random) -> None:
    """Write a partition again by Polars, with further columns."""
    frame = pl.from_arrow(pq.ParquetFile(path).read())
    columns = [
        pl.Series(f"c{number}", [value(rng, kind) for _ in range(len(frame))], kind, strict=False)
        for number, kind in enumerate(kinds)
    ]
    frame.with_columns(columns).write_parquet(
        path,
        compression=rng.choice(("zstd", "snappy", "lz4", "gzip", "brotli", "uncompressed")),
        row_group_size=rng.choice((7, 64, None)),
        data_page_size=rng.choice((100, None)),
        statistics=rng.choice((True, False, "full")),
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return small_site(tmp_path_factory.mktemp("writers") / "site", partitions_per_job=50)


def test_margins_of_catalogs_by_polars_are_as_pyarrow_reads_them(
    site: Site, tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    counted = tally("types from other writers")
    rng = random.Random(f"{SEED} writers")
    for case in range(number(4, 60)):
        copy = site.copy(tmp_path / "site")
        kinds = [pl.DataType.from_python(kind) if kind is str else kind for kind in TYPES]
        kinds = [kind() if isinstance(kind, type) else kind for kind in rng.sample(kinds, 6)]
        for path in sorted((copy.directory / "sky").rglob("Npix=*.parquet")):
            write_by_polars(path, kinds, rng)
        for name in ("_metadata", "_common_metadata"):
            (copy.directory / "sky" / name).unlink()
        outcome = outcome_of_end(*run_in_child(lambda copy=copy: make_margin(copy)))
        if not outcome:
            outcome = outcome_after("", lambda copy=copy: as_pyarrow_reads(copy, tmp_path))
        counted.add(f"case {case}, {', '.join(map(str, kinds))}", outcome)
        shutil.rmtree(copy.directory)


def test_random_values_are_of_all_types() -> None:
    """Or the test above would be one of fewer."""
    rng = random.Random(0)
    kinds = [kind() if isinstance(kind, type) else kind for kind in TYPES]
    for kind in kinds:
        series = pl.Series("c", [value(rng, kind) for _ in range(50)], kind, strict=False)
        assert 0 < series.null_count() < 50, kind
        assert pa.table(series.to_frame()).num_rows == 50
