"""What is said of the keys of the configuration: tables, limits, and words for defaults."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Table(StrEnum):
    """A table of config/README.md; the value stands in the comment that marks it there."""

    WHAT = "what is made"
    HATS = "further files and properties of HATS margins"
    HOW = "how it is made"
    AUDIT = "an audit"
    MAIL = "a mail at the end"
    SMTP = "the mail server"


@dataclass(frozen=True)
class Key:
    """What is said of a key beside its type, limits, default and description.

    Attributes:
        table: the table that describes it.
        default: text for the default in the table; empty for the default itself.
        takes: which values it takes; empty where its type and limits say all.
    """

    table: Table
    default: str = ""
    takes: str = ""


def key_of(annotation: Any) -> Key:
    """Return what an annotation says of a key."""
    return next(note for note in annotation.__metadata__ if isinstance(note, Key))


class Limits:
    """Limits of a value: an annotation that pydantic adds to its schema of the type.

    Not those of annotated_types, which all jobs would import without using them.
    """

    def __init__(self, **limits: Any) -> None:
        """Take limits by the names in pydantic's core schemas: ge, le, min_length, pattern, ..."""
        self.limits = limits

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return pydantic's schema of the annotated type, with the limits added."""
        schema = {**handler(source), **self.limits}
        if "pattern" in schema:
            # Or pydantic would take it for one in Rust's syntax, which cannot look ahead.
            schema["pattern"] = re.compile(schema["pattern"])
        return schema
