"""Random arrays of random Arrow types, with all values that floats have, and nulls."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Generator = np.random.Generator

_INTEGERS = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
]
_FLOATS = [pa.float16(), pa.float32(), pa.float64()]
_TIMES = [
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp("us", zone) for zone in ("UTC", "+05:30", "America/Santiago")),
    *(pa.timestamp("ns", "UTC"), pa.timestamp("ms", "UTC")),
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
]
_TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
_OTHERS = [
    *(pa.bool_(), pa.null(), pa.binary(5), pa.binary(16)),
    *(pa.decimal128(9, 2), pa.decimal128(18, 0), pa.decimal128(38, 10), pa.decimal256(50, 5)),
    *(pa.decimal32(7, 2), pa.decimal64(15, 3)),
]
_DICTIONARIES = [
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int16(), pa.large_string()),
    pa.dictionary(pa.int32(), pa.int64()),
    pa.dictionary(pa.int32(), pa.float64()),
]
_WORDS = ["", "a", "é" * 50, "NGC 224", "x" * 300, "\0", "0", "false", "null"]


def random_type(rng: Generator, depth: int = 2) -> pa.DataType:
    """A type: of numbers mostly, as columns of catalogs have; some with others inside."""
    groups = [_INTEGERS, _FLOATS, _FLOATS, _TEXTS, _TIMES, _OTHERS]
    if depth and rng.random() < 0.3:
        return _nested_type(rng, depth - 1)
    if depth == 2:
        groups.append(_DICTIONARIES)
    group = groups[rng.integers(len(groups))]
    return group[rng.integers(len(group))]


def _nested_type(rng: Generator, depth: int) -> pa.DataType:
    kind = rng.integers(7)
    inner = random_type(rng, depth)
    field = pa.field(
        str(rng.choice(["item", "element", "x"])), inner, nullable=bool(rng.random() < 0.8)
    )
    if pa.types.is_null(inner):
        field = pa.field("item", pa.int32())
    if kind == 0:
        return pa.large_list(field)
    if kind == 1:
        return pa.list_(field, int(rng.integers(1, 4)))
    if kind == 2:
        keys = [pa.string(), pa.int32(), pa.date32()][rng.integers(3)]
        return pa.map_(keys, field.type)
    if kind in (3, 4):
        names = ["a", "b.c", "é", "row"][: rng.integers(1, 5)]
        return pa.struct([pa.field(name, random_type(rng, depth)) for name in names])
    return pa.list_(field)


def random_array(
    rng: Generator, kind: pa.DataType, n: int, null_share: float | None = None
) -> pa.Array:
    """An array of a type.

    Args:
        rng: random numbers.
        kind: its type.
        n: number of its values.
        null_share: share of nulls, None for any.
    """
    if null_share is None:
        null_share = float(rng.choice([0, 0, 0.05, 0.5, 0.95, 1]))
    mask = rng.random(n) < null_share
    if pa.types.is_null(kind):
        return pa.nulls(n)
    if pa.types.is_nested(kind):
        return _nested_array(rng, kind, mask)
    if pa.types.is_dictionary(kind):
        values = random_array(rng, kind.value_type, int(rng.integers(1, 20)), 0)
        codes = pa.array(rng.integers(0, len(values), n), kind.index_type, mask=mask)
        return pa.DictionaryArray.from_arrays(codes, values)
    # Of few values, which dictionaries are good for, or of as many as there are rows.
    count = int(rng.choice([1, 5, max(n, 1), max(n, 1)]))
    distinct = _values(rng, kind, count)
    places = rng.permutation(n) if count >= n else rng.integers(0, count, n)
    if rng.random() < 0.3:
        places.sort()
    return distinct.take(pa.array(places, mask=mask))


def _values(rng: Generator, kind: pa.DataType, n: int) -> pa.Array:
    """Values of a type without children, none of them null."""
    if pa.types.is_boolean(kind):
        return pa.array(rng.random(n) < 0.5)
    if kind in _TEXTS:
        words = [_word(rng) for _ in range(n)]
        return pa.array(words).cast(kind)
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([rng.bytes(kind.byte_width) for _ in range(n)], kind)
    if pa.types.is_decimal(kind):
        digits = min(kind.precision, 17)
        integers = rng.integers(-(10**digits) + 1, 10**digits, n)
        wide = pa.decimal256(76, kind.scale)
        shifted = pa.array(integers).cast(pa.decimal256(76, 0)).cast(wide)
        return _scaled(shifted, integers, kind)
    if pa.types.is_date64(kind):
        return pa.array(rng.integers(-(10**5), 10**5, n) * 86_400_000).view(kind)
    if pa.types.is_time(kind):
        day = 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return pa.array(rng.integers(0, day, n).astype(f"i{kind.bit_width // 8}")).view(kind)
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.array(rng.integers(-(10**10), 10**10, n)).view(kind)
    return _bits(rng, kind, n)


def _scaled(_: pa.Array, integers: npt.NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    """Decimals whose digits are those of integers."""
    width = kind.bit_width // 8
    raw = b"".join(int(number).to_bytes(width, "little", signed=True) for number in integers)
    return pa.Array.from_buffers(kind, len(integers), [None, pa.py_buffer(raw)])


def _bits(rng: Generator, kind: pa.DataType, n: int) -> pa.Array:
    """Numbers of any bits, small numbers, or those that are special among floats."""
    width = kind.bit_width // 8
    style = rng.integers(3)
    if style == 0:
        raw = rng.integers(0, 256, n * width, np.uint8).view(f"i{width}")
    elif pa.types.is_floating(kind):
        special = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.5]
        raw = rng.choice(special, n) if style == 1 else np.round(rng.normal(0, 100, n), 1)
        raw = raw.astype(f"f{width}").view(f"i{width}")
    else:
        raw = rng.integers(0, 100, n).astype(f"i{width}")
    return pa.array(raw).view(kind)


def _word(rng: Generator) -> str:
    if rng.random() < 0.5:
        return _WORDS[rng.integers(len(_WORDS))]
    return "".join(rng.choice(list("abcé 0"), rng.integers(0, 30)))


def _nested_array(rng: Generator, kind: pa.DataType, mask: npt.NDArray[np.bool_]) -> pa.Array:
    n = len(mask)
    nulls = pa.array(mask)
    if pa.types.is_struct(kind):
        children = [_child(rng, field, n) for field in kind]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=nulls)
    if pa.types.is_fixed_size_list(kind):
        child = _child(rng, kind.value_field, n * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(child, type=kind, mask=nulls)
    lengths = rng.integers(0, 4, n)
    lengths[mask] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total = int(offsets[-1])
    if pa.types.is_map(kind):
        keys = random_array(rng, kind.key_type, total, 0)
        items = _child(rng, kind.item_field, total)
        offsets = pa.array(offsets.astype(np.int32), mask=np.append(mask, False))
        return pa.MapArray.from_arrays(offsets, keys, items, type=kind)
    large = pa.types.is_large_list(kind)
    array = pa.LargeListArray if large else pa.ListArray
    places = pa.array(offsets.astype(np.int64 if large else np.int32))
    return array.from_arrays(places, _child(rng, kind.value_field, total), type=kind, mask=nulls)


def _child(rng: Generator, field: pa.Field, n: int) -> pa.Array:
    return random_array(rng, field.type, n, None if field.nullable else 0)
