"""Skies written as HATS catalogs and collections.

The layout is that of hats-import 0.11.1, and with other options that of other makers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support import skies
from support.write_hipscat import pixel_file

INDEX_COLUMN = "_healpix_29"
INDEX_ORDER = 29
# Given, so that the same rows make the same bytes.
CREATION_DATE = "2025-11-01T12:00UTC"


def write_hats(
    path: str | Path,
    name: str,
    table: pa.Table,
    partitions: skies.IntArray,
    *,
    suffix: str = ".parquet",
    files_per_partition: int = 1,
    index_column: str | None = INDEX_COLUMN,
    index_order: int = INDEX_ORDER,
    properties: Collection[str] = ("hats.properties", "properties"),
    metadata: bool = True,
    partition_info: bool = True,
    pandas_metadata: bool = True,
    row_group_size: int | None = None,
    compression: str = "zstd",
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write `table` as the HATS catalog `path`/`name`.

    Each file holds the spatial index and then the table's columns, sorted by the former. Rows
    keep their order within an order-29 pixel. Partitions without rows get no file.

    Args:
        path: directory to write the catalog's directory in.
        name: name of the catalog and of its directory, which must be absent or empty.
        table: rows of any Arrow types that take() knows; positions `ra` and `dec` [deg].
        partitions: [order, pixel], shape (n, 2), disjoint, in nested order.
        suffix: what the names of partitions end with; "/" if each is a directory of files.
        files_per_partition: number of files in such a directory, which get the rows in turn.
        index_column: name of the spatial index; None for a catalog without one.
        index_order: order of the nested pixels in the spatial index.
        properties: names of the files that get the catalog's properties.
        metadata: whether there is a _metadata file.
        partition_info: whether there is a partition_info.csv.
        pandas_metadata: whether pandas shall read the spatial index as the index.
        row_group_size: most rows per row group; the writer's own default when None.
        compression: Parquet codec.
        options: of PyArrow's writer; they come before row_group_size and compression.
    Raises:
        FileExistsError: if the catalog's directory is not empty.
        ValueError: if a row falls outside all partitions, or partitions overlap.
    """
    if suffix != "/" and files_per_partition != 1:
        raise ValueError("only a partition that is a directory can have several files")
    root = Path(path) / name
    if root.is_dir() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty")
    partitions = np.asarray(partitions, dtype=np.int64).reshape(-1, 2)
    pixels = order_29_pixels(table)
    sorting = np.argsort(pixels, kind="stable")
    pixels = pixels[sorting]
    first, last = skies.row_bounds(pixels >> 2 * (INDEX_ORDER - skies.INDEX_ORDER), partitions)
    # take() looks up the chunk of every row, so many chunks would cost time per partition; and
    # the chunks of a dictionary column may each have their own dictionary.
    table = table.unify_dictionaries().combine_chunks()
    if index_column is not None:
        index = np.empty_like(pixels)
        index[sorting] = pixels >> 2 * (INDEX_ORDER - index_order)
        table = table.add_column(0, index_column, pa.array(index))
    if pandas_metadata:
        table = table.cast(_pandas_schema(table.schema, index_column))

    dataset = root / "dataset"
    dataset.mkdir(parents=True, exist_ok=True)
    footers: list[pq.FileMetaData] = []
    filled = last > first
    for (order, pixel), start, stop in zip(
        partitions[filled].tolist(), first[filled], last[filled], strict=True
    ):
        rows = sorting[start:stop]
        for number, file in enumerate(_files(order, pixel, suffix, files_per_partition)):
            (dataset / file).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(
                table.take(pa.array(rows[number::files_per_partition])),
                dataset / file,
                **{"row_group_size": row_group_size, "compression": compression, **(options or {})},
                metadata_collector=footers,
            )
            footers[-1].set_file_path(file)
    # Parquet has no type for some Arrow types (seconds), so the files' schema is read back.
    schema = pq.read_schema(dataset / file) if footers else table.schema
    pq.write_metadata(schema, dataset / "_common_metadata")
    if metadata:
        pq.write_metadata(schema, dataset / "_metadata", metadata_collector=footers)
    if partition_info:
        lines = [f"{order},{pixel}\n" for order, pixel in partitions[filled].tolist()]
        (root / "partition_info.csv").write_text("Norder,Npix\n" + "".join(lines))
    index_properties = (
        {}
        if index_column is None
        else {"hats_col_healpix": index_column, "hats_col_healpix_order": index_order}
    )
    size = sum(file.stat().st_size for file in dataset.rglob("Norder=*/**/*") if file.is_file())
    values = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": table.num_rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        **index_properties,
        "hats_npix_suffix": suffix,
        "hats_order": partitions[filled, 0].max(initial=0),
        "moc_sky_fraction": f"{(0.25 ** partitions[filled, 0] / 12).sum():.5f}",
        "hats_builder": "hats_skies.py",
        "hats_creation_date": CREATION_DATE,
        "hats_estsize": size // 1024,
        "hats_release_date": "2025-08-22",
        "hats_version": "v1.0",
    }
    for file in properties:
        _write_properties(root / file, "HATS catalog", values)


def write_collection(path: str | Path, name: str, primary_name: str) -> None:
    """Make the directory `path`/`name` a collection, with the primary catalog `primary_name`."""
    root = Path(path) / name
    root.mkdir(parents=True, exist_ok=True)
    values = {"obs_collection": name, "hats_primary_table_url": primary_name}
    _write_properties(root / "collection.properties", "HATS Collection", values)


def order_29_pixels(table: pa.Table) -> skies.IntArray:
    """Nested pixel of order 29 of each row; shape (n,)."""
    ra, dec = (table[column].to_numpy().astype(np.float64) for column in ("ra", "dec"))
    return skies.nested_pixels(ra, dec, INDEX_ORDER)


def _files(order: int, pixel: int, suffix: str, count: int) -> Iterator[str]:
    """Paths of a partition's files inside the directory of Parquet files."""
    name = pixel_file(order, pixel).removesuffix(".parquet") + suffix
    if suffix != "/":
        yield name
        return
    # Nothing says what these files are to be called.
    yield from (
        f"{name}part {number}{('.parquet', '.pq', '')[number % 3]}" for number in range(count)
    )


def _pandas_schema(schema: pa.Schema, index_column: str | None) -> pa.Schema:
    """`schema` with the metadata that pandas.DataFrame.to_parquet writes."""
    # An empty frame has the same metadata, and no row has to pass through pandas.
    frame = schema.empty_table().to_pandas()
    if index_column is not None:
        frame = frame.set_index(index_column)
    kept = True if index_column is not None else None
    metadata = pa.Table.from_pandas(frame, schema, preserve_index=kept).schema.metadata
    return schema.with_metadata({**(schema.metadata or {}), b"pandas": metadata[b"pandas"]})


def _write_properties(path: Path, comment: str, values: Mapping[str, object]) -> None:
    lines = [f"#{comment}\n", *(f"{key}={value}\n" for key, value in values.items())]
    path.write_text("".join(lines), encoding="utf-8")
