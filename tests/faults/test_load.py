"""Catalogs that are large in some way: partitions, columns, values, thresholds."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support import skies
from support.faults import LONG, SURVIVED, Tally, outcome_after, outcome_of_end
from support.faulty_margins import Site, as_pyarrow_reads, make_margin, run_in_child, small_site
from support.margins import NAME, configuration
from support.write_hipscat import write_hipscat

LIMIT = 1 << 30  # bytes of address space that a job gets beyond those it begins with


def with_columns(site: Site, columns: Callable[[int], dict[str, pa.Array]]) -> None:
    """Give all partitions of a catalog further columns; what is given makes them of some rows."""
    for path in (site.directory / "sky").rglob("Npix=*.parquet"):
        table = pq.ParquetFile(path).read()
        for name, values in columns(len(table)).items():
            table = table.append_column(name, values)
        pq.write_table(table, path)
    for name in ("_metadata", "_common_metadata"):
        (site.directory / "sky" / name).unlink()


def test_many_columns(tally: Callable[[str], Tally], tmp_path: Path) -> None:
    counted = tally("load")
    site = small_site(tmp_path / "site", partitions_per_job=50)
    names = [f"c{number}" for number in range(5000 if LONG else 300)]
    with_columns(site, lambda rows: {name: pa.array(np.arange(rows)) for name in names})
    outcome = outcome_of_end(*run_in_child(lambda: make_margin(site)))
    counted.add(
        f"{len(names)} columns", outcome_after(outcome, lambda: as_pyarrow_reads(site, tmp_path))
    )


def test_long_values(tally: Callable[[str], Tally], tmp_path: Path) -> None:
    counted = tally("load")
    site = small_site(tmp_path / "site", partitions_per_job=50)
    size = 10**7 if LONG else 10**6

    def one_long(rows: int) -> dict[str, pa.Array]:
        values = [b"x" * size if not row else b"" for row in range(rows)]
        return {"long": pa.array(values, pa.large_binary())}

    with_columns(site, one_long)
    outcome = outcome_of_end(*run_in_child(lambda: make_margin(site)))
    counted.add(
        f"a row of {size} bytes", outcome_after(outcome, lambda: as_pyarrow_reads(site, tmp_path))
    )


def test_a_threshold_larger_than_all_partitions(
    tally: Callable[[str], Tally], tmp_path: Path
) -> None:
    """Every row is in the margins of many pixels, then, once in each."""
    counted = tally("load")
    site = small_site(tmp_path / "site")
    site = Site(site.directory, site.config | {"margin_threshold": 36_000.0})
    outcome = outcome_of_end(*run_in_child(lambda: make_margin(site)))

    def right() -> None:
        files = list((site.directory / "results" / NAME).rglob("Npix=*.parquet"))
        tables = [pq.ParquetFile(file).read(["id"])["id"].to_numpy() for file in files]
        assert all(len(np.unique(ids)) == len(ids) for ids in tables)
        assert sum(map(len, tables)) > 600

    counted.add("36000 arcsec", outcome_after(outcome, right))


def test_many_tiny_partitions(tally: Callable[[str], Tally], tmp_path: Path) -> None:
    counted = tally("load")
    rng = np.random.default_rng(1)
    number = 10_000 if LONG else 200
    ra, dec = skies.uniform_sky(rng, 40_000)
    pixels = np.arange(number)
    partitions = np.column_stack([np.full(len(pixels), 5), pixels])
    kept = skies.inside(skies.nested_pixels(ra, dec), partitions)
    table = pa.table({"id": np.arange(kept.sum()), "ra": ra[kept], "dec": dec[kept]})
    write_hipscat(tmp_path / "site", "sky", table, partitions)
    site = Site(tmp_path / "site", configuration(Path("sky"), margin_threshold=300.0))
    outcome = outcome_of_end(*run_in_child(lambda: make_margin(site)))

    def right() -> None:
        files = list((site.directory / "results" / NAME).rglob("Npix=*.parquet"))
        assert len(files) > number / 3

    counted.add(f"{number} partitions", outcome_after(outcome, right))


def test_a_large_partition_in_little_memory(tally: Callable[[str], Tally], tmp_path: Path) -> None:
    counted = tally("load")
    site = small_site(tmp_path / "site", margin_threshold=5.0)
    path = sorted((site.directory / "sky" / "Norder=0").rglob("Npix=*.parquet"))[0]
    table = pq.ParquetFile(path).read()
    rows = 50_000_000 if LONG else 10**6
    index = np.sort(np.resize(table["_hipscat_index"].to_numpy(), rows))
    places = np.searchsorted(table["_hipscat_index"].to_numpy(), index)
    pq.write_table(table.take(pa.array(places)), path, row_group_size=rows)
    (site.directory / "sky" / "_metadata").unlink()
    info = site.directory / "sky" / "catalog_info.json"
    total = json.loads(info.read_text()) | {"total_rows": 600 - len(table) + rows}
    info.write_text(json.dumps(total))

    def limited() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, used + LIMIT))
        make_margin(site)

    outcome = outcome_of_end(*run_in_child(limited))
    counted.add(f"{rows} rows in 1 GB of address space", outcome or SURVIVED)
    shutil.rmtree(site.directory)
