"""The test data of hats-import, from its source distribution."""

import os
from pathlib import Path

import pytest

from support.source_distributions import unpack_source

VERSION = "0.11.1"
ALLOWED = ("HATS_IMPORT_SOURCE", "CI", "PEERS")


def hats_import_data(directory: Path) -> Path:
    """Unpack the distribution's test data into a directory.

    HATS_IMPORT_SOURCE may name a distribution that is there already.
    """
    if not any(os.environ.get(name) for name in ALLOWED):
        pytest.skip("hats-import's test data are fetched with PEERS=1, or in CI")
    return unpack_source("hats-import", VERSION, directory) / "tests" / "data"
