"""A small catalog, and a margin of it that is planned, for the tests of the stages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin import store_output
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.prepare import prepare_margins
from support.margins import configuration
from support.memory_store import PLACE, Stores
from support.small_skies import small_catalog
from support.stages import release_locks, run_map_jobs, run_reduce_jobs

PreparedMargin = Callable[..., Margin]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return small_catalog(tmp_path / "sky", rows=600, max_rows=100)


@pytest.fixture
def prepare(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedMargin:
    """Prepares a margin of the catalog and saves it; what is given changes the configuration."""
    monkeypatch.chdir(tmp_path)

    def prepared(**changes: Any) -> Margin:
        config = configuration(catalog, partitions_per_job=6) | changes
        config["input_catalog_path"] = str(config["input_catalog_path"])
        (margin,) = prepare_margins(settings_of_margins(config))
        save_margin(margin)
        return margin

    return prepared


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """Object stores in memory, for margins at URLs."""
    stores = Stores()
    monkeypatch.setattr(store_output, "connect", stores.connect)
    monkeypatch.setattr(store_output.atexit, "register", lambda call: None)
    yield stores
    release_locks()


@pytest.fixture
def in_store(prepare: PreparedMargin, stores: Stores) -> PreparedMargin:
    """Prepares a margin that is written to a store."""
    return lambda **changes: prepare(**{"output_path": PLACE, **changes})


@pytest.fixture
def finished(prepare: PreparedMargin) -> Margin:
    """A margin that is complete, with its intermediate files."""
    margin = prepare(delete_intermediate_parquet_files=False)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    finish_margin(margin)
    return margin
