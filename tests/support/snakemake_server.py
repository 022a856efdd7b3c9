"""Snakemake and the workflow's library, imported once, and forked for each run.

They take seconds to import, which hundreds of runs would each wait for.
Reads a run a line: its arguments, directory, environment, the file for its output and that for its
exit code, as JSON; and writes its process's id.
"""

import json
import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# What Snakemake and the Snakefile import; nothing that starts threads, which a fork would lose.
import margin_cache.run.audits
import margin_cache.run.reports  # noqa: F401
import pandas  # noqa: F401
import smart_open  # noqa: F401
import snakemake.cli
import yte  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]


def become(run: dict[str, Any]) -> None:
    """Turn this process into what `snakemake` with these arguments would be."""
    os.setsid()
    # A terminal becomes that of this session by being opened.
    output = os.open(run["output"], os.O_RDWR | os.O_TRUNC | os.O_CREAT)
    stdin = output if os.isatty(output) else os.open(os.devnull, os.O_RDONLY)
    for to, source in enumerate((stdin, output, output)):
        os.dup2(source, to)
    os.chdir(run["directory"])
    os.environ.clear()
    os.environ.update(run["environment"])
    sys.argv = run["arguments"]
    sys.orig_argv = [sys.executable, *sys.argv]
    snakefile = Path(sys.argv[sys.argv.index("-s") + 1])
    if not snakefile.is_relative_to(ROOT):  # it may bring its own library
        for name in [name for name in sys.modules if name.startswith("margin_cache")]:
            del sys.modules[name]
    # As Python does at its start.
    for directory in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        sys.path.insert(1, directory)
        customization = Path(directory, "sitecustomize.py")
        if customization.exists():
            runpy.run_path(str(customization))


def keep(run: dict[str, Any]) -> int | None:
    """Start a run, say its process's id, and write down its exit code when it has ended."""
    process = os.fork()
    if not process:
        become(run)
        return snakemake.cli.main()
    print(process, flush=True)
    _, status = os.waitpid(process, 0)
    code = Path(run["code"])
    code.with_suffix(".tmp").write_text(str(os.waitstatus_to_exitcode(status)))
    code.with_suffix(".tmp").rename(code)
    os._exit(0)


def main() -> int | None:
    snakemake.cli.get_argument_parser()  # which imports the plugins
    for line in sys.stdin:
        if not os.fork():
            return keep(json.loads(line))
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    with suppress(ChildProcessError):
        while os.wait():
            pass
    return None


if __name__ == "__main__":
    sys.exit(main())
