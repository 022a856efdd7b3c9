"""Rows of margins are read in two ways."""

import pytest
from margin_cache.parquet import row_selection


@pytest.fixture(params=["Polars", "PyArrow"])
def each_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read with Polars, then with PyArrow, however few they are."""
    by_polars = request.param == "Polars"
    monkeypatch.setattr(row_selection, "_are_few", lambda part, rows: by_polars)
