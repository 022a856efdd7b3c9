"""A small catalog, and a margin of it that is planned, for the tests of the stages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.prepare import prepare_margins
from support.margins import configuration
from support.object_servers import BUCKET, S3
from support.small_skies import small_catalog
from support.stages import run_map_jobs, run_reduce_jobs

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
def in_s3(
    prepare: PreparedMargin, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PreparedMargin:
    """Prepares a margin that is written to S3, at a place of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    place = {
        "output_path": f"s3://{BUCKET}/{tmp_path.name}",
        "output_storage_options": {"endpoint_url": s3.endpoint},
    }
    return lambda **changes: prepare(**place | changes)


@pytest.fixture
def finished(prepare: PreparedMargin) -> Margin:
    """A margin that is complete, with its intermediate files."""
    margin = prepare(delete_intermediate_parquet_files=False)
    run_map_jobs(margin)
    run_reduce_jobs(margin)
    finish_margin(margin)
    return margin
