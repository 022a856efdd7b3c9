"""What Snakemake does not document, one function each, with what serves where it is missing.

Tried with the versions of `make test-versions`. A newer one that lacks an attribute gets the answer
that suits an ordinary run.
"""

import gc
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def is_main_process(workflow: Any) -> bool:
    """Return whether this process plans the jobs; others only run one of them."""
    return bool(getattr(workflow, "is_main_process", "--mode" not in sys.argv))


def is_dry_run(workflow: Any) -> bool:
    """Return whether no job will run, because of `--dry-run`; known in input functions only."""
    return bool(getattr(workflow, "dryrun", {"-n", "--dry-run", "--dryrun"} & set(sys.argv)))


def only_describes(workflow: Any) -> bool:
    """Return whether Snakemake only tells what there is (`--summary`); as `is_dry_run`."""
    is_told = getattr(workflow, "execution_settings", "unknown") is None
    return is_told and not any(word.startswith("--delete") for word in sys.argv)


def forces_all(workflow: Any) -> bool:
    """Return whether all jobs run again (`--forceall`); as `is_dry_run`."""
    settings = getattr(workflow, "dag_settings", None)
    return bool(getattr(settings, "forceall", {"-F", "--forceall"} & set(sys.argv)))


def config_files(workflow: Any) -> list[Path]:
    """Return the configuration files, each of which overrides those before it.

    They are asked for credentials of object stores alone.
    """
    settings = getattr(workflow, "config_settings", None)
    given = [Path(file) for file in getattr(settings, "configfiles", ())]
    if getattr(settings, "replace_workflow_config", False):
        return given
    own = [Path(file) for file in getattr(workflow, "configfiles", ())]
    return [file for file in own if file not in given] + given


def skips_handlers(workflow: Any) -> bool:
    """Return whether no handler is called (`--no-hooks`); as `is_dry_run`."""
    settings = getattr(workflow, "execution_settings", None)
    return bool(getattr(settings, "no_hooks", "--no-hooks" in sys.argv))


def uses_conda(workflow: Any) -> bool:
    """Return whether jobs run in the conda environments of their rules."""
    settings = getattr(workflow, "deployment_settings", None)
    methods: Iterable[Any] = getattr(settings, "deployment_method", ())
    return any(getattr(method, "name", str(method)).lower() == "conda" for method in methods)


def skip_garbage() -> None:
    """Leave what Snakemake has imported out of the search for garbage: a sixth of a small run."""
    gc.freeze()


def end_timers() -> None:
    """Let Snakemake end at once: its timers look for further jobs a second after the last one."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
