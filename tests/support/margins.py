"""Margins on disk: what tests call them, and what of them is compared."""

import hashlib
from pathlib import Path
from typing import Any

NAME = "margin"
Digests = dict[str, str]


def configuration(catalog: Path, **changes: Any) -> dict[str, Any]:
    return {
        "input_catalog_path": catalog,
        "output_artifact_name": NAME,
        "margin_threshold": 60.0,
        **changes,
    }


def tree_digest(path: str | Path) -> dict[str, str]:
    """SHA-256 of every file below a directory, by its relative path; {} if there is none."""
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(Path(path).rglob("*"))
        if file.is_file()
    }


def margin_digests(directory: Path, name: str = NAME) -> Digests:
    """SHA-256 of every file of a margin but its provenance, which has the date and the jobs."""
    digests = tree_digest(directory / "results" / name)
    digests.pop("provenance_info.json", None)
    return digests


def remains(directory: Path) -> list[str]:
    """What a run that succeeds leaves nothing of: temporary files, shards, hidden directories."""
    hidden = list((directory / "results").glob(".*"))
    inner = [*directory.glob("results/**/*"), *directory.glob("intermediate/**/*")]
    loose = [path for path in inner if path.suffix in (".tmp", ".arrow")]
    return sorted({path.relative_to(directory).as_posix() for path in hidden + loose})


def partition_paths(catalog: Path) -> list[Path]:
    """The Parquet files of a catalog, whatever they are called."""
    files = catalog.glob("dataset/Norder=*/Dir=*/**/*")
    return sorted(file for file in files if file.is_file())
