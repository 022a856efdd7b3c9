"""Margins of catalogs of all kinds, of which tests ask what they say about themselves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support import skies
from support.small_skies import small_catalog
from support.typed_tables import typed_table
from support.workflow_runs import run_workflow
from support.write_hipscat import write_hipscat

MARGINS = {"plain": 60.0, "typed": 20_000.0, "empty": 0.001, "zstd": 1800.0, "indexless": 60.0}


def typed_sky() -> tuple[pa.Table, skies.IntArray]:
    """Rows with every type, with NaN, and with metadata of fields and of the schema."""
    table = typed_table(1500, seed=8)
    strange = np.where(np.arange(1500) % 3 == 0, np.nan, -0.0)
    table = table.append_column("nan", pa.array(strange, from_pandas=False))
    table = table.append_column("id", pa.array(np.arange(1500)))
    described = table.schema.field("float32").with_metadata({b"unit": b"mag", b"ucd": b"phot"})
    schema = table.schema.set(table.schema.get_field_index("float32"), described)
    table = table.cast(schema.with_metadata({b"survey": "Übersicht".encode()}))
    return table, skies.adaptive_partitions(*positions(table), max_rows=200)


def lonely_sky() -> tuple[pa.Table, skies.IntArray]:
    """Twelve stars, each in the middle of a pixel of order 0."""
    partitions = np.column_stack([np.zeros(12, dtype=np.int64), np.arange(12)])
    ra, dec = skies.pixel_positions(partitions, np.full(12, 0.5), np.full(12, 0.5))
    return pa.table({"ra": ra, "dec": dec, "id": np.arange(12)}), partitions


def positions(table: pa.Table) -> tuple[skies.FloatArray, skies.FloatArray]:
    return table["ra"].to_numpy(), table["dec"].to_numpy()


def make_margins(out: Path) -> None:
    small_catalog(out / "plain")
    small_catalog(out / "zstd", rows=6000, max_rows=1500, compression="zstd", row_group_size=70)
    small_catalog(out / "indexless", index_is_pandas_index=False)
    write_hipscat(out, "typed", *typed_sky(), row_group_size=40, compression="gzip")
    write_hipscat(out, "empty", *lonely_sky(), compression="none", epoch="J1991.25")
    margins = [
        {"input_catalog_path": name, "output_artifact_name": name, "margin_threshold": threshold}
        for name, threshold in MARGINS.items()
    ]
    run_workflow(out, config={"output_path": "margins", "margins": margins}, check=True)


def files(catalog: Path) -> Iterator[tuple[int, int, pq.ParquetFile]]:
    """Order, pixel and content of each file, in no particular order."""
    for path in catalog.rglob("*.parquet"):
        match = re.fullmatch(
            r"Norder=(\d+)/Dir=(\d+)/Npix=(\d+)\.parquet", path.relative_to(catalog).as_posix()
        )
        assert match, path
        order, group, pixel = (int(part) for part in match.groups())
        assert group == pixel // 10000 * 10000
        yield order, pixel, pq.ParquetFile(path)


def description(margin: Path, name: str) -> dict[str, Any]:
    return json.loads((margin / name).read_text(encoding="utf-8"))
