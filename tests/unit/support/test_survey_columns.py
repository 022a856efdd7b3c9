"""The skies of the benchmark have what real catalogs have, and are written as they are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support import benchmark_skies
from support.survey_columns import KINDS, light_curves, survey_columns
from support.write_hats import write_hats

ROWS = 4000


@pytest.fixture(scope="module")
def columns() -> dict[str, pa.Array]:
    return survey_columns(np.random.default_rng(1), ROWS, 2 * len(KINDS))


def test_columns_are_of_all_types(columns: dict[str, pa.Array]) -> None:
    assert len(columns) == 2 * len(KINDS) and {len(values) for values in columns.values()} == {ROWS}
    assert {values.type for values in columns.values()} == {
        *(pa.float32(), pa.float64(), pa.int16(), pa.int32(), pa.bool_(), pa.string()),
        pa.timestamp("us"),
    }


def test_most_floats_have_nulls_and_some_have_none(columns: dict[str, pa.Array]) -> None:
    shares = [
        values.null_count / ROWS for values in columns.values() if pa.types.is_floating(values.type)
    ]
    assert sum(share > 0.05 for share in shares) > 0.6 * len(shares)
    assert 0.0 in shares and max(shares) > 0.6


def test_strings_are_of_few_and_of_many_values(columns: dict[str, pa.Array]) -> None:
    counts = sorted(
        pc.count_distinct(values).as_py()
        for values in columns.values()
        if pa.types.is_string(values.type)
    )
    assert counts[0] < 20 and counts[-1] > 0.99 * ROWS


def test_light_curves_are_nested_and_some_are_missing() -> None:
    curves = light_curves(np.random.default_rng(1), ROWS)
    assert curves.type == pa.struct({"time": pa.list_(pa.float64()), "mag": pa.list_(pa.float32())})
    assert 0 < curves.null_count < ROWS / 4


def test_wide_has_150_columns() -> None:
    table, partitions = benchmark_skies.wide(20)
    assert (table.num_columns, len(partitions)) == (150, 8)
    assert pa.types.is_nested(table.schema.field("light_curve").type)


def test_each_honest_sky_is_written_in_both_habits() -> None:
    skies = benchmark_skies.SKIES
    for name in ("small", "survey", "large", "wide"):
        assert skies[name].habit == "hats" and skies[f"{name}_arrow"].habit == "arrow"
        assert skies[name].make is skies[f"{name}_arrow"].make


@pytest.mark.parametrize(
    ("name", "codec", "encoding", "page_index"),
    [("small", "ZSTD", "BYTE_STREAM_SPLIT", True), ("small_arrow", "SNAPPY", "PLAIN", False)],
)
def test_habits_are_those_of_the_files(
    name: str, codec: str, encoding: str, page_index: bool, tmp_path: Path
) -> None:
    table, partitions = benchmark_skies.survey(ROWS, 18, 10**6)
    options = benchmark_skies.writer_options(benchmark_skies.SKIES[name], table.schema)
    write_hats(tmp_path, "sky", table, partitions, options=options)
    file = next(tmp_path.rglob("Npix=*.parquet"))
    group = pq.read_metadata(file).row_group(0)
    found = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in found.values()} == {codec}
    assert encoding in found["flux_003"].encodings
    assert ("DELTA_BINARY_PACKED" in found["_healpix_29"].encodings) == page_index
    assert found["ra"].has_offset_index == page_index
