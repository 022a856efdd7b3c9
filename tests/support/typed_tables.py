"""Tables with columns of every type, and with light curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from support.skies import IntArray, uniform_sky

NULL_SHARE = 0.1
UNITS = ("s", "ms", "us", "ns")
FIXED_WIDTH = 7  # of fixed-size binary values [bytes]
BANDS = ("g", "r", "i")


def parquet_holds(data_type: pa.DataType) -> bool:
    """Whether this pyarrow writes columns of a type to Parquet."""
    try:
        pq.write_table(pa.schema({"column": data_type}).empty_table(), pa.BufferOutputStream())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def _scalar_types() -> dict[str, pa.DataType]:
    """Types without children, by column name."""
    integers = (f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
    return {
        **{name: getattr(pa, name)() for name in integers},
        "float16": pa.float16(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "large_string": pa.large_string(),
        "binary": pa.binary(),
        "large_binary": pa.large_binary(),
        "fixed_size_binary": pa.binary(FIXED_WIDTH),
        "date32": pa.date32(),
        "date64": pa.date64(),
        "time32_s": pa.time32("s"),
        "time32_ms": pa.time32("ms"),
        "time64_us": pa.time64("us"),
        "time64_ns": pa.time64("ns"),
        **{f"timestamp_{unit}": pa.timestamp(unit) for unit in UNITS},
        **{f"timestamp_{unit}_utc": pa.timestamp(unit, tz="UTC") for unit in UNITS},
        "timestamp_us_santiago": pa.timestamp("us", tz="America/Santiago"),
        **{f"duration_{unit}": pa.duration(unit) for unit in UNITS},
        "decimal32": pa.decimal32(9, 2),
        "decimal64": pa.decimal64(18, 3),
        "decimal128": pa.decimal128(24, 5),
        "decimal256": pa.decimal256(50, 5),
        "dictionary_int8": pa.dictionary(pa.int8(), pa.string()),
        "dictionary_int32": pa.dictionary(pa.int32(), pa.string()),
        "null": pa.null(),
    }


def _integers(data_type: pa.DataType, rng: np.random.Generator, n: int) -> IntArray:
    """Random integers that casts turn into values of a type, of both signs where it has them."""
    if pa.types.is_integer(data_type):
        limits = np.iinfo(data_type.to_pandas_dtype())
        return rng.integers(limits.min, limits.max, n, dtype=limits.dtype, endpoint=True)
    if pa.types.is_timestamp(data_type) or pa.types.is_duration(data_type):
        century = 100 * 365 * 86_400 * 1000 ** UNITS.index(data_type.unit)
        return rng.integers(-century, century, n)
    if pa.types.is_date(data_type) or pa.types.is_decimal(data_type):
        return rng.integers(-20_000, 20_000, n)
    if pa.types.is_time(data_type):
        # Whole seconds: Python's times, to which pandas converts, have no nanoseconds.
        return rng.integers(0, 86_400, n) * 1000 ** UNITS.index(data_type.unit)
    return rng.integers(0, 100, n)


def _bytes_array(
    width: int, rng: np.random.Generator, mask: npt.NDArray[np.bool_]
) -> pa.FixedSizeBinaryArray:
    """Random words of `width` bytes, null where `mask`; shape of `mask`."""
    words = rng.integers(0, 256, (mask.size, width), dtype=np.uint8)
    values = [None if null else word.tobytes() for word, null in zip(words, mask, strict=True)]
    return pa.array(values, type=pa.binary(width))


def _scalar_array(
    data_type: pa.DataType, rng: np.random.Generator, mask: npt.NDArray[np.bool_]
) -> pa.Array:
    """Random values of a type without children, null where `mask`; shape of `mask`."""
    n = mask.size
    if pa.types.is_null(data_type):
        return pa.nulls(n)
    if pa.types.is_floating(data_type):
        return pa.array(rng.normal(0.0, 10.0, n).astype(data_type.to_pandas_dtype()), mask=mask)
    if data_type == pa.binary(FIXED_WIDTH):
        return _bytes_array(FIXED_WIDTH, rng, mask)
    numbers = pa.array(_integers(data_type, rng, n), mask=mask)
    if pa.types.is_date(data_type):
        return numbers.cast(pa.int32()).cast(pa.date32()).cast(data_type)
    if pa.types.is_time32(data_type):
        return numbers.cast(pa.int32()).cast(data_type)
    if pa.types.is_decimal(data_type):
        return numbers.cast(pa.decimal128(24, data_type.scale)).cast(data_type)
    if pa.types.is_dictionary(data_type):
        return numbers.cast(pa.string()).dictionary_encode().cast(data_type)
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type):
        return numbers.cast(pa.string()).cast(data_type)
    return numbers.cast(data_type)


def _offsets(lengths: IntArray, dtype: type) -> pa.Array:
    """Offsets of lists from their lengths; shape (n,) gives (n + 1,)."""
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(dtype))


def _nested_arrays(
    rng: np.random.Generator, make_mask: Callable[[int], npt.NDArray[np.bool_]], n: int
) -> dict[str, pa.Array]:
    """Random arrays of `n` rows with children, nulls in parents and children, by column name."""
    lengths = rng.integers(0, 5, n)
    total = int(lengths.sum())
    mask = pa.array(make_mask(n))

    def floats(size: int) -> pa.Array:
        return _scalar_array(pa.float32(), rng, make_mask(size))

    def struct(size: int, nulls: pa.Array) -> pa.Array:
        word = _scalar_array(pa.string(), rng, make_mask(size))
        return pa.StructArray.from_arrays([floats(size), word], ["flux", "band"], mask=nulls)

    keys = pa.array(np.char.add("key ", np.arange(total).astype(str)).astype(object), pa.string())
    short, long = _offsets(lengths, np.int32), _offsets(lengths, np.int64)
    inner = pa.ListArray.from_arrays(_offsets(np.full(total, 2), np.int32), floats(2 * total))
    return {
        "list_float": pa.ListArray.from_arrays(short, floats(total), mask=mask),
        "list_list_float": pa.ListArray.from_arrays(short, inner, mask=mask),
        "large_list_float": pa.LargeListArray.from_arrays(long, floats(total), mask=mask),
        "list_view_float": pa.ListViewArray.from_arrays(
            short[:-1], pa.array(lengths.astype(np.int32)), floats(total), mask=mask
        ),
        "fixed_size_list": pa.FixedSizeListArray.from_arrays(floats(3 * n), 3, mask=mask),
        "struct": struct(n, mask),
        "list_struct": pa.ListArray.from_arrays(
            short, struct(total, pa.array(make_mask(total))), mask=mask
        ),
        "map": pa.MapArray.from_arrays(short, keys, floats(total), mask=mask),
    }


def typed_table(n: int, seed: int) -> pa.Table:
    """Rows uniform on the sphere, with a column of every Arrow type that Parquet can hold.

    Parquet knows no seconds and no date64: columns of these are read back with milliseconds and
    as date32. The string and binary views are left out: Parquet holds them, but pyarrow's
    take() and filter() do not know them (as of pyarrow 26).

    Args:
        n: number of rows.
        seed: of the random numbers.
    Returns:
        table of n rows: ra and dec [deg] without nulls, then columns with a tenth of nulls,
        named after their types.
    """
    rng = np.random.default_rng(seed)

    def make_mask(size: int) -> npt.NDArray[np.bool_]:
        return rng.random(size) < NULL_SHARE

    ra, dec = uniform_sky(rng, n)
    columns: dict[str, pa.Array] = {"ra": pa.array(ra), "dec": pa.array(dec)}
    for name, data_type in _scalar_types().items():
        if parquet_holds(data_type):
            columns[name] = _scalar_array(data_type, rng, make_mask(n))
    nested = _nested_arrays(rng, make_mask, n)
    columns |= {name: column for name, column in nested.items() if parquet_holds(column.type)}
    return pa.table(columns)


def light_curve_table(n: int, seed: int) -> pa.Table:
    """Objects uniform on the sphere, each with a light curve of 0 to 12 observations.

    Args:
        n: number of rows.
        seed: of the random numbers.
    Returns:
        table of id int64, ra and dec [deg], and lightcurve: a struct of the lists time [d] float64,
        mag float32 and band string, which are of equal lengths. A tenth of the light curves are
        null, more are empty, and a tenth of the magnitudes are null.
    """
    rng = np.random.default_rng(seed)
    ra, dec = uniform_sky(rng, n)
    lengths = np.maximum(rng.integers(-2, 13, n), 0)
    missing = rng.random(n) < NULL_SHARE
    lengths[missing] = 0
    total = int(lengths.sum())
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    children = {
        "time": pa.array(rng.uniform(60_000.0, 63_000.0, total)),
        "mag": pa.array(
            rng.normal(20.0, 2.0, total).astype(np.float32),
            mask=rng.random(total) < NULL_SHARE,
        ),
        "band": pa.array(BANDS).take(pa.array(rng.integers(0, len(BANDS), total))),
    }
    curves = pa.StructArray.from_arrays(
        [pa.ListArray.from_arrays(offsets, values) for values in children.values()],
        names=list(children),
        mask=pa.array(missing),
    )
    return pa.table({"id": np.arange(n), "ra": ra, "dec": dec, "lightcurve": curves})
