"""Headers of pages are read as they are written, and none that is damaged does harm."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.parquet import page_headers
from margin_cache.parquet.page_headers import NotTaken, read_page
from margin_cache.parquet.pages import RowTaker
from support.column_chunks import chunks_of


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damaged_headers_do_no_harm(
    compression: str, dictionary: bool, nullable: bool, tmp_path: Path
) -> None:
    """Each bit of them is flipped. Wrong values are taken only where PyArrow reads the same."""
    path = tmp_path / "table.parquet"
    numbers = np.arange(5000) % 3000
    schema = pa.schema([pa.field("x", pa.int64(), nullable=nullable)])
    pq.write_table(
        pa.table([numbers], schema=schema),
        path,
        use_dictionary=dictionary,
        compression=compression,
        data_page_size=8000,
        write_batch_size=100,
        write_statistics=False,
    )
    ((_, _, chunk),) = chunks_of(path)
    assert chunk is not None
    whole, rows = path.read_bytes(), np.arange(1000, 5000, 700)
    column = memoryview(whole)[chunk.start : chunk.start + chunk.size]
    places, end = [], 0
    while end < chunk.size:
        page = read_page(column, end)
        places += range(end, page.begin)
        end = page.end
    refused = 0
    for place in places:
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[chunk.start + place] ^= 1 << bit
            file = pa.BufferReader(bytes(damaged))
            try:
                taken = RowTaker(file, rows).take(chunk)
            except NotTaken:
                refused += 1
                continue
            if taken.tolist() != numbers[rows].tolist():
                assert taken.tolist() == pq.read_table(file)["x"].to_numpy()[rows].tolist()
    assert refused > 4 * len(places)


def test_a_header_with_an_endless_number_is_not_read_to_its_end() -> None:
    data = memoryview(bytes([0x15]) + b"\xff" * 1000)
    with pytest.raises(NotTaken, match="too many bytes"):
        page_headers._read_struct(data, 0)
