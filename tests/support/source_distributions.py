"""Source distributions of packages whose own tests or data we use."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path


def unpack_source(package: str, version: str, directory: Path) -> Path:
    """Fetch a source distribution with pip, and unpack it into a directory.

    NAME_SOURCE, as HATS_IMPORT_SOURCE, may name an archive that is there already.

    Args:
        package: its name, as hats-import.
        version: which release.
        directory: where the archive and its files are put.
    Returns:
        the distribution's own directory.
    """
    module = package.replace("-", "_")
    name = f"{module}-{version}"
    given = os.environ.get(f"{module.upper()}_SOURCE")
    if given:
        archive = Path(given)
    else:
        archive = directory / f"{name}.tar.gz"
        fetch = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package)
        wanted = ("--dest", directory, f"{package}=={version}")
        subprocess.run([sys.executable, *fetch, *wanted], check=True)
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / name
