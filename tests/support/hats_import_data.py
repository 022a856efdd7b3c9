"""The test data of hats-import, from its source distribution."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

VERSION = "0.11.1"


def hats_import_data(directory: Path) -> Path:
    """Fetch the distribution with pip, and unpack its test data into a directory.

    HATS_IMPORT_SOURCE may name a distribution that is there already.
    """
    given = os.environ.get("HATS_IMPORT_SOURCE")
    if given:
        archive = Path(given)
    elif os.environ.get("CI") or os.environ.get("PEERS"):
        fetch = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "hats-import")
        name = f"hats-import=={VERSION}"
        subprocess.run([sys.executable, *fetch, "--dest", directory, name], check=True)
        archive = directory / f"hats_import-{VERSION}.tar.gz"
    else:
        pytest.skip("hats-import's test data are fetched with PEERS=1, or in CI")
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / f"hats_import-{VERSION}" / "tests" / "data"
