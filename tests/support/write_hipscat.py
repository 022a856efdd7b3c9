"""Skies written as HiPSCat catalogs, laid out as hipscat-import 0.3.5 does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from support.skies import INDEX_ORDER, IntArray, nested_pixels, row_bounds

INDEX_COLUMN = "_hipscat_index"
# The index is a 64-bit integer: 4 + 2 * 19 bits of pixel, the rest counts rows in that pixel.
COUNTER_BITS = 64 - (4 + 2 * INDEX_ORDER)
PIXELS_PER_DIR = 10_000


def _index_values(pixels: IntArray) -> npt.NDArray[np.uint64]:
    """`_hipscat_index` of rows sorted by order-19 pixel, shape (n,)."""
    counter = np.arange(pixels.size) - np.searchsorted(pixels, pixels)
    return (pixels.astype(np.uint64) << np.uint64(COUNTER_BITS)) + counter.astype(np.uint64)


def _with_pixel_columns(
    rows: pa.Table, order: int, pixel: int, index: npt.NDArray[np.uint64]
) -> pa.Table:
    """Append the four columns hipscat-import adds, in the order it adds them."""
    n = rows.num_rows
    directory = pixel // PIXELS_PER_DIR * PIXELS_PER_DIR
    return (
        rows.append_column("Norder", pa.array(np.full(n, order, dtype=np.uint8)))
        .append_column("Dir", pa.array(np.full(n, directory, dtype=np.uint64)))
        .append_column("Npix", pa.array(np.full(n, pixel, dtype=np.uint64)))
        .append_column(INDEX_COLUMN, pa.array(index))
    )


def _pandas_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with the metadata pandas.DataFrame.to_parquet writes for a `_hipscat_index`."""
    # An empty frame has the same metadata, and no row has to pass through pandas.
    frame = schema.remove_metadata().empty_table().to_pandas().set_index(INDEX_COLUMN)
    metadata = pa.Table.from_pandas(frame, schema=schema.remove_metadata()).schema.metadata
    return schema.with_metadata({**(schema.metadata or {}), b"pandas": metadata[b"pandas"]})


def pixel_file(order: int, pixel: int) -> str:
    """Path of a partition's file inside its catalog."""
    return f"Norder={order}/Dir={pixel // PIXELS_PER_DIR * PIXELS_PER_DIR}/Npix={pixel}.parquet"


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _write_partition_info(root: Path, partitions: IntArray) -> None:
    lines = [f"{k},{p},{p // PIXELS_PER_DIR * PIXELS_PER_DIR}\n" for k, p in partitions.tolist()]
    (root / "partition_info.csv").write_text("Norder,Npix,Dir\n" + "".join(lines))


def write_hipscat(
    path: str | Path,
    name: str,
    table: pa.Table,
    partitions: IntArray,
    *,
    row_group_size: int | None = None,
    compression: str = "snappy",
    compression_level: int | None = None,
    column_encoding: Mapping[str, str] | None = None,
    ra_column: str = "ra",
    dec_column: str = "dec",
    epoch: str = "J2000",
    index_is_pandas_index: bool = True,
) -> None:
    """Write `table` as the HiPSCat catalog `path`/`name`, as hipscat-import 0.3.5 lays it out.

    Each file holds the table's columns and then Norder, Dir, Npix and `_hipscat_index`, and is
    sorted by the latter. Rows keep their order within an order-19 pixel. Partitions without
    rows get no file and are not listed.

    Args:
        path: directory to write the catalog's directory in.
        name: name of the catalog and of its directory, which must be absent or empty.
        table: rows of any Arrow types that take() knows; positions [deg] in `ra_column` and
            `dec_column`.
        partitions: [order, pixel], shape (n, 2), disjoint, in nested order.
        row_group_size: most rows per row group; the writer's own default when None.
        compression, compression_level: Parquet codec and its level.
        column_encoding: Parquet encoding by column, for smaller files; the data are the same.
        ra_column, dec_column: names of the position columns.
        epoch: epoch of the positions, for catalog_info.json.
        index_is_pandas_index: whether pandas shall read `_hipscat_index` as the index.
    Raises:
        FileExistsError: if the catalog's directory is not empty.
        ValueError: if a row falls outside all partitions, or partitions overlap.
    """
    root = Path(path) / name
    if root.is_dir() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty")
    partitions = np.asarray(partitions, dtype=np.int64).reshape(-1, 2)
    position = (table[c].to_numpy().astype(np.float64) for c in (ra_column, dec_column))
    pixels = nested_pixels(*position)
    sorting = np.argsort(pixels, kind="stable")
    pixels = pixels[sorting]
    first, last = row_bounds(pixels, partitions)
    index = _index_values(pixels)
    # take() looks up the chunk of every row, so many chunks would cost time per partition; and
    # the chunks of a dictionary column may each have their own dictionary.
    table = table.unify_dictionaries().combine_chunks()
    schema = _with_pixel_columns(table.slice(0, 0), 0, 0, index[:0]).schema
    if index_is_pandas_index:
        schema = _pandas_schema(schema)

    root.mkdir(parents=True, exist_ok=True)
    footers: list[pq.FileMetaData] = []
    filled = last > first
    for (order, pixel), start, stop in zip(
        partitions[filled].tolist(), first[filled], last[filled], strict=True
    ):
        file = root / pixel_file(order, pixel)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = table.take(pa.array(sorting[start:stop]))
        pq.write_table(
            _with_pixel_columns(rows, order, pixel, index[start:stop]).replace_schema_metadata(
                schema.metadata
            ),
            file,
            row_group_size=row_group_size,
            compression=compression,
            compression_level=compression_level,
            use_dictionary=_dictionary_columns(schema, column_encoding),
            column_encoding=dict(column_encoding) if column_encoding else None,
            metadata_collector=footers,
        )
        # hipscat cuts the catalog's path off the file's path, which leaves the slash.
        footers[-1].set_file_path("/" + pixel_file(order, pixel))
    _write_partition_info(root, partitions[filled])
    _write_info(root, name, table.num_rows, epoch, ra_column, dec_column)
    # Parquet has no type for some Arrow types (seconds), so the files' schema is read back.
    schema = pq.read_schema(file) if footers else schema
    pq.write_metadata(schema, root / "_metadata", metadata_collector=footers)
    pq.write_metadata(schema, root / "_common_metadata")


def _dictionary_columns(
    schema: pa.Schema, column_encoding: Mapping[str, str] | None
) -> bool | list[str]:
    """Columns that Parquet may dictionary-encode: it refuses to where an encoding is given."""
    if not column_encoding:
        return True
    return [column for column in schema.names if column not in column_encoding]


def _write_info(
    root: Path, name: str, rows: int, epoch: str, ra_column: str, dec_column: str
) -> None:
    """Write catalog_info.json and provenance_info.json."""
    info = {
        "catalog_name": name,
        "catalog_type": "object",
        "total_rows": rows,
        "epoch": epoch,
        "ra_column": ra_column,
        "dec_column": dec_column,
    }
    _write_json(root / "catalog_info.json", info)
    # No date and no versions: the same rows shall make the same bytes.
    _write_json(root / "provenance_info.json", {**info, "tool_args": {"tool_name": "skies.py"}})
