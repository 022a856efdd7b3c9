"""Margins of remote catalogs, made in this process, and what is compared of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from margin_cache.storage import missing_parts

from support.margins import tree_digest
from support.workflow_runs import without_snakemake

NAME = "margin"


@contextmanager
def own_mirrors(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[None]:
    """Work in a directory, with mirrors that end with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    sources: list[Any] = []
    with monkeypatch.context() as patch:
        patch.chdir(directory)
        patch.setattr(missing_parts, "_sources", sources)
        try:
            yield
        finally:
            for source in sources:
                source.store.close()


def made_in(
    monkeypatch: pytest.MonkeyPatch, directory: Path, catalog: str | Path, **config: Any
) -> dict[str, str]:
    """Make a margin, all but its metadata; return digests of its files."""
    config = {
        "input_catalog_path": str(catalog),
        "output_artifact_name": NAME,
        "margin_threshold": 60.0,
        **config,
    }
    with own_mirrors(monkeypatch, directory):
        (digests,) = [tree_digest(m.files.staging_dir) for m in without_snakemake(config)]
    return only_parquet(digests)


def only_parquet(digests: Mapping[str, str]) -> dict[str, str]:
    """Those digests of a margin's files that do not depend on where its primary lies."""
    return {name: digest for name, digest in digests.items() if "Norder=" in name}


def size_of(catalog: Path) -> int:
    """Bytes of all files of a catalog."""
    return sum(file.stat().st_size for file in catalog.rglob("*") if file.is_file())
