"""Receipts of reduce jobs, as they are read."""

from pathlib import Path
from typing import NamedTuple

from margin_cache.margin.paths import job_of
from margin_cache.storage.files import read_json


class Receipt(NamedTuple):
    """What a reduce job says that it has written.

    Attributes:
        footers: size of its footers in bytes.
        footers_digest: their digest.
        files: for each file's path in the catalog its rows, bytes and digest.
        marks: for each path the ETag of the object, if the margin is written to a URL.
    """

    footers: int
    footers_digest: str
    files: dict[str, tuple[int, int, str]]
    marks: dict[str, str]


def read_receipt(path: Path) -> Receipt | None:
    """Return a receipt, or None if it is missing, damaged, or that of another job or plan."""
    try:
        record = read_json(path)
        if record["job"] != job_of(path):
            return None
        files = {
            str(name): (int(rows), int(size), str(digest))
            for name, (rows, size, digest) in record["files"].items()
        }
        marks = {str(name): str(mark) for name, mark in record.get("marks", {}).items()}
        return Receipt(int(record["footers"]), str(record["footers_digest"]), files, marks)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
