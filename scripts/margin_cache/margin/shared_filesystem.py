"""Whether the machine that runs a job sees the files of its run.

On a cluster they must be on file systems that all nodes see. Without a look at them a job would
make directories of its own there, and another would miss what it has written.
"""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from margin_cache.errors import RetryableError

PATIENCE = 10.0
"""How long a file server may take to show what another machine has written [s]."""


def wait_until(is_visible: Callable[[], bool], directory: Path) -> bool:
    """Look for something until it is seen; tell whether it is.

    Args:
        is_visible: the look.
        directory: where it is, which is listed to have a file server asked again.
    """
    end = time.monotonic() + PATIENCE
    while not is_visible():
        if time.monotonic() >= end:
            return False
        time.sleep(min(1.0, PATIENCE / 5))
        with suppress(OSError):
            next(directory.iterdir(), None)
    return True


def not_visible(key: str, path: Path) -> RetryableError:
    """Return the error for a path that this machine does not see; another node may see it."""
    node = os.environ.get("SLURMD_NODENAME", platform.node())
    return RetryableError(
        f"{key}: {path.absolute()} is not visible on {node}, which runs a job; it must be on a "
        "file system that all nodes see"
    )


def check_visible(directory: Path, partition: str = "") -> None:
    """Check that the machine that runs a job sees the files of its run.

    Args:
        directory: one that the main process has made beside the margin.
        partition: a partition file that the job reads; empty if it reads none.

    Raises:
        RetryableError: one is not visible here.
    """
    if not wait_until(directory.exists, directory.parent):
        raise not_visible("output_path", directory.parent)
    if partition:
        path = Path(partition)
        if not wait_until(path.exists, path.parent):
            raise not_visible("input_catalog_path", path)
