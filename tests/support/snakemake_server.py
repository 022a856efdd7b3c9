"""Snakemake, imported once, and forked for each run.

Snakemake with its plugins takes seconds to import, which hundreds of runs would each wait for.
Reads a run a line: its arguments, directory, environment and the file for its output, as JSON; and
writes its process's id, then its exit code.
"""

import json
import os
import sys
from typing import Any

# What Snakemake and the Snakefile import; nothing of the workflow's own.
import hpgeom  # noqa: F401
import pandas  # noqa: F401
import pydantic  # noqa: F401
import smart_open  # noqa: F401
import snakemake.cli
import yte  # noqa: F401


def become(run: dict[str, Any]) -> None:
    """Turn this process into what `snakemake` with these arguments would be."""
    os.setsid()
    output = os.open(run["output"], os.O_WRONLY | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for to, source in enumerate((nothing, output, output)):
        os.dup2(source, to)
    os.chdir(run["directory"])
    os.environ.clear()
    os.environ.update(run["environment"])
    sys.argv = run["arguments"]


def main() -> int | None:
    snakemake.cli.get_argument_parser()  # which imports the plugins
    for line in sys.stdin:
        process = os.fork()
        if not process:
            become(json.loads(line))
            return snakemake.cli.main()
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
