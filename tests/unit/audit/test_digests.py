from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from margin_cache.audit.compare import plain_type, row_digests

NOT_UTF_8 = pa.py_buffer(b"\xe9ab")
ENDS = pa.py_buffer(np.array([0, 1, 2, 3], np.int32))

COLUMNS = {
    "integer": ([1, 2, 3], 7, pa.int64()),
    "unsigned": ([1, 2, 2**64 - 1], 7, pa.uint64()),
    "float": ([1.5, float("nan"), 3.0], 7.0, pa.float32()),
    "truth": ([True, False, False], True, pa.bool_()),
    "text": (["a", "b", ""], "c", pa.string()),
    "list": ([[1.0], [], [2.0, 3.0]], [1.5], pa.list_(pa.float64())),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_changed_value_changes_the_digest_of_its_row_only(name: str) -> None:
    values, other, kind = COLUMNS[name]
    before = row_digests(pa.table({name: pa.array(values, kind)}), [name])
    assert len(set(before)) == len(set(map(repr, values)))
    for new in (other, None):
        changed = [*values[:1], new, *values[2:]]
        after = row_digests(pa.table({name: pa.array(changed, kind)}), [name])
        assert list(before != after) == [False, True, False]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**30, 1, 0], pa.int32()).cast(pa.date32()),
        *(pa.array([2**60, 1, 0], pa.timestamp(unit)) for unit in ("s", "ms", "us")),
        pa.array([2**60, 1, 0], pa.duration("ms")),
        pa.array([[2**60], [1], []], pa.list_(pa.timestamp("us"))),
        pa.array([{"a": 2**60}, {"a": 1}, None], pa.struct({"a": pa.timestamp("s")})),
        pa.Array.from_buffers(pa.string(), 3, [None, ENDS, NOT_UTF_8]),
    ],
    ids=lambda column: str(column.type),
)
def test_values_that_python_cannot_represent_are_distinguished(column: pa.Array) -> None:
    """Dates after the year 9999, and text that is not UTF-8."""
    assert len(set(row_digests(pa.table({"a": column}), ["a"]))) == 3


@pytest.mark.parametrize("name", COLUMNS)
def test_chosen_rows_have_the_digests_that_they_have_among_all(name: str) -> None:
    values, _, kind = COLUMNS[name]
    table = pa.table({"a": pa.array([*values, None], kind)})
    rows = np.array([1, 3])
    assert np.array_equal(row_digests(table, ["a"], rows), row_digests(table, ["a"])[rows])


@pytest.mark.parametrize(
    ("values", "kind", "other"),
    [
        ([1, -2, None], pa.int64(), pa.int8()),
        ([1.5, float("nan"), None], pa.float64(), pa.float16()),
        (["a", "", None], pa.string(), pa.large_string()),
        (["a", "", None], pa.string(), pa.string_view()),
        (["a", "", None], pa.string(), pa.dictionary(pa.int8(), pa.string())),
        ([b"ab", b"cd", None], pa.binary(), pa.binary(2)),
        ([[1.5, None], [0.0, 2.0], None], pa.list_(pa.float32()), pa.list_(pa.float64(), 2)),
        ([[1.5, None], [], None], pa.list_(pa.float32()), pa.large_list(pa.float64())),
        ([[], None, [1.5, None]], pa.list_(pa.float32()), pa.list_view(pa.float64())),
        (
            [{"a": "x"}, {"a": None}, None],
            *(pa.struct({"a": kind}) for kind in (pa.string(), pa.large_string())),
        ),
        ([[("a", 1)], [], None], *(pa.map_(pa.string(), kind) for kind in (pa.int64(), pa.int8()))),
    ],
    ids=str,
)
def test_equal_values_of_other_layouts_and_widths_have_equal_digests(
    values: list[Any], kind: pa.DataType, other: pa.DataType
) -> None:
    digests = [row_digests(pa.table({"a": pa.array(values, one)}), ["a"]) for one in (kind, other)]
    assert np.array_equal(*digests) and len(set(digests[0])) == 3
    assert plain_type(kind) == plain_type(other)


def test_zero_is_not_null_and_columns_are_not_interchangeable() -> None:
    table = pa.table({"a": [0, None, 1], "b": [1, 1, 0]}, pa.schema({"a": "int32", "b": "int32"}))
    assert len(set(row_digests(table, ["a", "b"]))) == 3
    swapped = table.rename_columns(["b", "a"])
    assert row_digests(table, ["a", "b"])[0] != row_digests(swapped, ["a", "b"])[0]


def test_a_digest_does_not_depend_on_other_rows() -> None:
    table = pa.table({"a": pa.array([1, None, 3], pa.int16()), "b": ["x", "y", None]})
    whole, part = row_digests(table, ["a", "b"]), row_digests(table.slice(2), ["a", "b"])
    assert np.array_equal(whole[2:], part)
