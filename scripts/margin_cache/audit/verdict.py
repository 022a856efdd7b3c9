"""The verdict of an audit, as `audit.json` has it: for the terminal and for reports."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from margin_cache.errors import MarginCacheError
from margin_cache.storage.files import read_json
from margin_cache.storage.urls import absolute_location, is_url

Options = Mapping[str, Any] | None
"""Options of a store, named as those of fsspec."""

StoreOptions = tuple[Options, Options]
"""Of the primary and of the margin."""

AUDIT_JSON, AUDIT_MAP = "audit.json", "audit.png"

CLEAN, SAFE, UNSAFE = "clean", "safe", "unsafe"

_MAX_EXAMPLES = 3  # lines about metadata, or about files, on the terminal


class Kind(NamedTuple):
    """A kind of defect: whether a crossmatch can be wrong by it, and what is counted."""

    is_unsafe: bool
    meaning: str


KINDS = {
    "missing": Kind(True, "rows within the threshold that the margin lacks"),
    "changed": Kind(True, "rows whose values differ from the catalog"),
    "foreign": Kind(True, "rows that the catalog does not have"),
    "duplicate": Kind(True, "rows that are there more often than in the catalog"),
    "unreadable": Kind(True, "files that are missing or damaged"),
    "columns": Kind(True, "files whose columns differ from the catalog"),
    "beyond": Kind(False, "rows beyond the threshold: the margin is larger than needed"),
    "unsorted": Kind(False, "files that are not sorted by the spatial index"),
    "metadata": Kind(False, "lines about the metadata: see below"),
}


def read_audit(results: Path) -> Mapping[str, Any] | None:
    """Read the results of an audit; None if there are none, or of another version."""
    content = read_json(results / AUDIT_JSON)
    names = {"verdict", "request", "kinds", "margin", "catalog", "claimed_threshold"}
    return content if isinstance(content, dict) and names <= content.keys() else None


def read_audit_of(
    results: Path, margin: str, primary: str, options: Options = None
) -> Mapping[str, Any] | None:
    """Read the results of an audit of a margin; None if the margin has changed since.

    ``primary`` is the catalog that it must have been compared with, and ``options`` are those of
    the margin's store.
    """
    audit = read_audit(results)
    paths = absolute_location(margin), absolute_location(primary)
    if audit is None or (audit["margin"].get("path"), audit["catalog"].get("path")) != paths:
        return None
    try:
        return audit if audit["margin"].get("state") == state_of(margin, options) else None
    except MarginCacheError:
        return None  # the margin cannot be read, or is not there


def is_passed(audit: Mapping[str, Any], is_strict: bool) -> bool:
    """Return whether a margin is safe or, if the audit is strict, clean."""
    return audit["verdict"] in ([CLEAN] if is_strict else [CLEAN, SAFE])


def describe(audit: Mapping[str, Any], results: Path) -> str:
    """Return the lines that tell the result of an audit."""
    margin = _as_seen_from_here(audit["margin"]["path"])
    lines = [*_table(audit), *explain(audit), f"details: {results / AUDIT_JSON}"]
    return "\n".join([f"audit: {headline(audit, margin)}", *map("  ".__add__, lines)])


def headline(audit: Mapping[str, Any], margin: str) -> str:
    """Return the verdict about a margin in one line."""
    verdict = {
        CLEAN: f"{margin} is clean",
        SAFE: f"{margin} is safe, with warnings",
        UNSAFE: f"{margin} is UNSAFE: a crossmatch with it can be wrong",
    }[audit["verdict"]]
    if audit["only_partitions"] is not None:
        verdict += f", for the {audit['only_partitions']} partitions that were chosen"
    claimed = audit["claimed_threshold"]
    if claimed and audit["verdict"] != UNSAFE:
        verdict += f", within {audit['threshold']:g} arcsec only: it claims {claimed:g} arcsec"
    is_sample = audit["pixels"]["checked"] < audit["pixels"]["all"]
    doubt = ", as far as a sample can tell" if is_sample and audit["verdict"] != UNSAFE else ""
    return verdict + doubt


def explain(audit: Mapping[str, Any]) -> list[str]:
    """Return lines about what was checked, and what the verdict does not say."""
    pixels, sample, order = audit["pixels"], audit["sample"], audit["cell_order"]
    kind = "" if order is None else f" (coarse margin, cells of order {order})"
    lines = [f"threshold: {audit['threshold']:g} arcsec{kind}"]
    if pixels["checked"] == pixels["all"]:
        lines.append(f"checked: all {pixels['all']} pixels that can have margin rows")
    else:
        lines.append(
            f"checked: a sample of {pixels['checked']} of {pixels['all']} pixels (seed "
            f"{sample['seed']})"
        )
    if audit["kinds"]["metadata"]["unsafe"]:
        lines.append(
            "the metadata contradict the files: rows may be missing outside of the sample. Audit "
            "all pixels"
        )
    if sample["unsafe_share_below"]:
        share = f"{100 * sample['unsafe_share_below']:.2g} %"
        lines.append(
            f"with 95 % confidence, less than {share} of the pixels are unsafe (rule of three)"
        )
    if audit["missing_outside_partitions"]:
        lines.append(
            "missing in pixels outside the partitions of the catalog: "
            f"{audit['missing_outside_partitions']} rows"
        )
    if audit["undecided"]:
        lines.append(f"{audit['undecided']} rows are too near to the threshold to be judged")
    return lines + _examples("metadata", audit["metadata"]) + _examples("file", audit["unreadable"])


def _table(audit: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, count in audit["kinds"].items():
        if count["pixels"]:
            rows = "-" if count["rows"] is None else count["rows"]
            lines.append(f"{kind:10} {rows:>9} {count['pixels']:>7}  {KINDS[kind].meaning}")
    return [f"{'kind':10} {'rows':>9} {'pixels':>7}", *lines] if lines else []


def _examples(word: str, lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_EXAMPLES
    shown = [f"{word}: {line}" for line in lines[:_MAX_EXAMPLES]]
    return [*shown, f"{word}: {more} more in {AUDIT_JSON}"] if more > 0 else shown


def _as_seen_from_here(path: str) -> str:
    """Return a path relative to the working directory if it is inside."""
    if is_url(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def state_of(location: str, options: Options = None) -> str:
    """Return a digest that changes with the files of a catalog, given by its path or URL."""
    if not is_url(location):
        return _state_on_disk(Path(location))
    # Slow to import, and not needed for catalogs on disk.
    from margin_cache.audit.files import state_at_url

    return state_at_url(location, options)


def _state_on_disk(directory: Path) -> str:
    """Return a digest of the names, sizes and times of change of all files below a directory."""
    lines = []
    try:
        directory.stat()
        for place, _, names in os.walk(directory, followlinks=True):
            for path in (Path(place, name) for name in names):
                status = path.stat() if path.exists() else path.lstat()
                # Unlike the time of modification, that of the status cannot be set.
                lines.append(f"{path.relative_to(directory)}/{status.st_size}/{status.st_ctime_ns}")
    except OSError as error:
        raise MarginCacheError(
            f"{error.filename or directory}: cannot be read ({error.strerror or error}). "
            "Give the directory of a catalog."
        ) from None
    return hashlib.blake2b(os.fsencode("\n".join(sorted(lines))), digest_size=16).hexdigest()
