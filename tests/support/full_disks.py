"""Disks that are full after some bytes."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.skips import lacking


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Have this process write no file beyond so many bytes: an error that names none says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A file system in memory; what is given mounts it anew with other options."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        lacking("no file system can be mounted here, which takes the rights of root")
    try:
        yield lambda other: subprocess.run(
            ["mount", "-o", f"remount,{other}", str(directory)], check=True
        )
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
