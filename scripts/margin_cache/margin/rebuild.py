"""Making a finished margin again: the old one stays until the new one is whole.

The file ``again.json`` of the plan says that the margin in the output directory does not count. It
goes when the new one takes its place; a run that is interrupted before is gone on with.
"""

import shutil
from collections.abc import Iterable
from enum import IntEnum

from margin_cache.margin.model import Margin
from margin_cache.storage.files import read_json, write_json


class Rebuild(IntEnum):
    """What is made again; each with all that follows from it."""

    NOTHING = 0
    METADATA = 1
    FILES = 2
    SHARDS = 3


_BY_RULE = {
    "finish_margin": Rebuild.METADATA,
    "reduce_margins": Rebuild.FILES,
    "map_partitions": Rebuild.SHARDS,
}


def rebuild_wanted(everything: bool, rules: Iterable[str]) -> Rebuild:
    """Return what Snakemake's options ask to make again.

    Args:
        everything: whether it is all.
        rules: names of rules, in another workflow with a prefix, among other names.
    """
    if everything:
        return Rebuild.SHARDS
    wanted = (again for name in rules for rule, again in _BY_RULE.items() if name.endswith(rule))
    return max(wanted, default=Rebuild.NOTHING)


def start_rebuild(margin: Margin, again: Rebuild) -> None:
    """Delete the intermediate files that are made again, and have the finished margin not count.

    Args:
        margin: the margin, which this process has locked.
        again: what is made again; more than nothing.
    """
    paths = margin.files
    reuses = again < Rebuild.FILES and reuses_files(margin)
    margin.done_file.unlink(missing_ok=True)
    if again >= Rebuild.SHARDS:
        shutil.rmtree(paths.shards_dir, ignore_errors=True)
    if again >= Rebuild.FILES:
        shutil.rmtree(paths.receipts_dir, ignore_errors=True)
        for path in paths.staging_dir.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path != paths.staging_lock:
                path.unlink()
    # Last of all: if this is interrupted before, the finished margin is as good as it was.
    write_json(paths.rebuild_file, {"reuses_files": reuses})


def reuses_files(margin: Margin) -> bool:
    """Tell whether files of the margin in the output directory may become some of the new one."""
    record = read_json(margin.files.rebuild_file)
    return record is None or record == {"reuses_files": True}
