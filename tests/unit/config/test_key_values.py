"""Values are checked against any model, and what is wrong is said with the name of the key."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from margin_cache.config.key_values import annotations_of, check_keys, check_values
from margin_cache.config.keys import Key, Limits, Table
from margin_cache.errors import MarginCacheError


@dataclass(frozen=True)
class Model:
    """A model of keys of some types."""

    count: Annotated[int, Limits(ge=1), Key(Table.HOW)] = 1
    share: Annotated[float, Limits(ge=0, le=1), Key(Table.HOW)] = 0.5
    name: Annotated[str, Limits(min_length=1), Key(Table.HOW)] = "a"
    way: Annotated[Literal["up", "down"], Key(Table.HOW)] = "up"
    wanted: Annotated[bool, Key(Table.HOW)] = False


def test_annotations_are_those_of_all_keys() -> None:
    assert list(annotations_of(Model)) == ["count", "share", "name", "way", "wanted"]


@pytest.mark.parametrize(
    ("key", "value", "checked"),
    [
        ("count", 3, 3),
        ("count", 3.0, 3),
        ("count", "3", 3),
        ("share", 1, 1.0),
        ("share", "0.25", 0.25),
        ("name", 2024, "2024"),
        ("wanted", "true", True),
        ("way", "down", "down"),
    ],
)
def test_values_get_the_type_of_their_key(key: str, value: Any, checked: Any) -> None:
    found = check_values({key: value}, Model, "")[key]
    assert found == checked
    assert type(found) is type(checked)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("count", 0, "count: 0 is less than the least value, 1"),
        ("count", True, "count: true is not of type integer"),
        ("count", 1.5, "count: 1.5 is not of type integer"),
        ("share", 1.5, "share: 1.5 is more than the greatest value, 1"),
        ("share", float("nan"), "share: "),
        ("name", "", 'name: "" is empty'),
        ("name", "a\0", "has a NUL character"),
        ("name", None, "name: has no value"),
        ("way", "left", 'way: "left" is not one of'),
        ("wanted", 1, "wanted: 1 is not of type boolean"),
        ("cuont", 1, "cuont: there is no such key; the nearest is count"),
    ],
)
def test_what_is_wrong_is_said_with_the_key(key: str, value: Any, said: str) -> None:
    with pytest.raises(MarginCacheError) as caught:
        check_values({key: value}, Model, "margins[2]: ")
    assert str(caught.value).startswith("margins[2]: ")
    assert said in str(caught.value)


def test_keys_for_dask_are_told_what_snakemake_has() -> None:
    with pytest.raises(MarginCacheError, match="instead, give snakemake --cores N"):
        check_keys({"dask_n_workers": 3}, annotations_of(Model), "")
