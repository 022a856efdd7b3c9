"""LSDB's own tests of margins fare with ours as with theirs."""

import os
from pathlib import Path

import pytest
from support.lsdb_tests import COARSE_COUNTS, lsdb_outcome

FILES = {
    "test_cone_search": "catalog",
    "test_margin_catalog": "catalog",
    "test_from_dataframe": "loaders/dataframe",
    "test_read_hats": "loaders/hats",
    "test_to_collection": "io",
}

TESTS = "margin or test_save_collection"


@pytest.mark.parametrize("kind", ["coarse", "exact"])
def test_lsdbs_own_tests_of_margins(kind: str, tmp_path: Path) -> None:
    if not (os.environ.get("CI") or os.environ.get("PEERS")):
        pytest.skip("LSDB's tests need an environment of their own, with PEERS=1, or in CI")
    files = [f"tests/lsdb/{folder}/{name}.py" for name, folder in FILES.items()]
    outcome = lsdb_outcome(tmp_path / kind, kind == "exact", [*files, "-k", TESTS])
    assert outcome.unexpected(kind == "exact") == []
    assert outcome.passed | outcome.failed >= COARSE_COUNTS
