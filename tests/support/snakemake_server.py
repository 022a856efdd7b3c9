"""Snakemake and the workflow's library, imported once, and forked for each run and each job.

They take seconds to import, which hundreds of runs and their jobs would each wait for.
Reads a run a line: its arguments, directory, environment, the file for its output and that for its
exit code, as JSON; and writes its process's id.
"""

import ctypes
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# What Snakemake, the Snakefile and jobs import; nothing that starts threads, which a fork would
# lose.
import hats  # noqa: F401
import hipscat.loaders.read_from_hipscat  # noqa: F401
import margin_cache.audit.audit
import margin_cache.margin.finish
import margin_cache.margin.map
import margin_cache.margin.reduce
import margin_cache.process
import margin_cache.report.page
import margin_cache.run.audits
import margin_cache.run.reports
import pandas  # noqa: F401
import smart_open  # noqa: F401
import snakemake.cli
import snakemake.shell
import yte  # noqa: F401
from margin_cache.config.validation import settings_of_margins
from margin_cache.process import keep_pandas_out

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_CHILD_SUBREAPER = 36
_HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


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
    if not os.environ.pop("STARTED_JOBS", ""):
        Jobs.start_in_snakemake()
    snakefile = Path(sys.argv[sys.argv.index("-s") + 1])
    if not snakefile.is_relative_to(ROOT):  # it may bring its own library
        forget("margin_cache")
    customize()


def customize() -> None:
    """Do what Python does at its start."""
    for directory in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        sys.path.insert(1, directory)
        customization = Path(directory, "sitecustomize.py")
        if customization.exists():
            runpy.run_path(str(customization))


class Jobs:
    """Forks the scripts of jobs off a process that has imported what they need."""

    def __init__(self) -> None:
        """Fork that process, before Snakemake starts threads; it ends with this one."""
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The parent of a job ends, so that the job becomes a child of this process.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        if not os.fork():
            self._socket.close()
            serve_jobs(other)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        other.close()

    @classmethod
    def start_in_snakemake(cls) -> None:
        """Have this process, which becomes Snakemake, fork its jobs."""
        jobs = cls()

        class Popen(subprocess.Popen[str]):
            def __init__(self, command: str, **options: Any) -> None:
                words = words_of_job(command)
                if words is None or options["stdout"] is not sys.stdout:
                    super().__init__(command, **options)
                    return
                # What its methods use that wait for it, or kill it.
                self.args, self.returncode, self._child_created = command, None, True
                self.stdin = self.stdout = self.stderr = self._input = None
                self._communication_started, self._waitpid_lock = False, threading.Lock()
                self.pid = jobs.fork(command, words, options["env"])

        module = sys.modules["snakemake.shell"]
        module.sp = SimpleNamespace(**{**vars(subprocess), "Popen": Popen})  # type: ignore[attr-defined]

    def fork(self, command: str, words: list[str], environment: dict[str, str]) -> int:
        """Start a job, a child of this process, and return its id."""
        job = [command, words, environment, str(Path.cwd())]
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(job).encode()], [0, 1, 2])
            return int(self._socket.recv(100))


def words_of_job(command: str) -> list[str] | None:
    """The words of a shell's command that only runs a script of this checkout, and its log."""
    line, _, log = command.removeprefix("set -euo pipefail; ").rpartition(" 2> ")
    if set(line + log) & set("$`;&|<>*?(){}[]~!#\\\n"):
        return None
    words = [*shlex.split(line), *shlex.split(log)]
    if len(words) < 3 or words[0] != sys.executable or Path(words[1]).parent != ROOT / "scripts":
        return None
    return words


def serve_jobs(requests: socket.socket) -> None:
    """Fork a job for each request, and say its process's id."""
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 3)
        if not request:
            os._exit(0)
        said, saying = os.pipe()
        between = os.fork()
        if not between:
            job = os.fork()
            if job:
                os.write(saying, str(job).encode())
                os._exit(0)
            for descriptor in (requests.detach(), said, saying):
                os.close(descriptor)
            become_job(descriptors, *json.loads(request))
        os.waitpid(between, 0)
        requests.send(os.read(said, 100))
        for descriptor in (said, saying, *descriptors):
            os.close(descriptor)


def become_job(
    descriptors: list[int], command: str, words: list[str], environment: dict[str, str], cwd: str
) -> None:
    """Turn this process into that of a job, and end with it."""
    *words, log = words
    show_command(words)
    for to, descriptor in enumerate(descriptors):
        os.dup2(descriptor, to)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    try:
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError:  # the shell says it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        os.execvp("bash", ["bash", "-c", command])
    os.dup2(errors, 2)
    os.close(errors)
    sys.orig_argv, sys.argv = words, words[1:]
    sys.path[0] = str(Path(words[1]).parent)
    margin_cache.process.keep_pandas_out = forget_pandas
    customize()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    try:
        runpy.run_path(words[1], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def forget_pandas() -> None:
    """Keep out pandas, which Snakemake imports, as jobs do that have not imported it."""
    forget("pandas")
    keep_pandas_out()


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def show_command(words: list[str]) -> None:
    """Have the lists of processes show a command in place of this server's."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = map(int, fields[45:47])
    line = "\0".join(words).encode()[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


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
    settings_of_margins({})  # which compiles the checks of the configuration
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
