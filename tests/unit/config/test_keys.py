"""Annotations of keys say which table describes them, and which values they take."""

from typing import Annotated, get_type_hints

from margin_cache.config.keys import Key, Limits, Table, key_of
from pydantic import TypeAdapter, ValidationError


class Model:
    """A model with one key."""

    name: Annotated[str, Limits(pattern="^a+$(?!\\n)"), Key(Table.HOW, takes="many a")]


def test_a_key_is_found_among_other_notes() -> None:
    annotation = get_type_hints(Model, include_extras=True)["name"]
    assert key_of(annotation) == Key(Table.HOW, takes="many a")


def test_limits_are_those_of_pydantic_and_patterns_are_pythons() -> None:
    """Rust's cannot look ahead."""
    adapter = TypeAdapter(get_type_hints(Model, include_extras=True)["name"])
    assert adapter.validate_python("aaa") == "aaa"
    for wrong in ("b", "aaa\n"):
        try:
            adapter.validate_python(wrong)
        except ValidationError:
            continue
        raise AssertionError(wrong)
