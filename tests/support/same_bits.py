"""Comparison of Arrow arrays bit by bit: NaN equals itself only with the same payload."""

import pyarrow as pa
import pyarrow.compute as pc

_BITS = {pa.float16(): pa.uint16(), pa.float32(): pa.uint32(), pa.float64(): pa.uint64()}


def difference(one: pa.Array | pa.ChunkedArray, two: pa.Array | pa.ChunkedArray) -> str:
    """What differs between two arrays; nothing if no bit of a value does."""
    one, two = (
        each.combine_chunks() if isinstance(each, pa.ChunkedArray) else each for each in (one, two)
    )
    if one.type != two.type:
        return f"types {one.type} and {two.type}"
    if len(one) != len(two):
        return f"lengths {len(one)} and {len(two)}"
    if not one.is_null().equals(two.is_null()):
        return f"nulls of {one.type}"
    kind = one.type
    if pa.types.is_dictionary(kind):
        return difference(one.dictionary_decode(), two.dictionary_decode())
    if pa.types.is_struct(kind):
        return _first(one.flatten(), two.flatten())
    if pa.types.is_map(kind):
        return _first(_entries(one), _entries(two))
    if pa.types.is_fixed_size_list(kind):
        return difference(one.flatten(), two.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if not pc.list_value_length(one).equals(pc.list_value_length(two)):
            return f"lengths of lists of {kind}"
        return difference(one.flatten(), two.flatten())
    if kind in _BITS:
        one, two = one.view(_BITS[kind]), two.view(_BITS[kind])
    return "" if one.equals(two) else f"values of {kind}"


def _first(ones: list[pa.Array], twos: list[pa.Array]) -> str:
    return next(filter(None, map(difference, ones, twos)), "")


def _entries(maps: pa.MapArray) -> list[pa.Array]:
    """Lengths, keys and items of the maps that are not null."""
    there = maps.drop_null()
    if not len(there):
        return []
    start, end = there.offsets[0].as_py(), there.offsets[-1].as_py()
    lengths = pc.subtract(there.offsets[1:], there.offsets[:-1])
    return [lengths, there.keys[start:end], there.items[start:end]]
