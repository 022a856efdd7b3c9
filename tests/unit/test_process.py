"""Scripts keep pandas out and memory in, and end with what they have to say."""

import platform
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from support.paths import ROOT

SCRIPTS = ROOT / "scripts"


FREE_A_BLOCK = """\
from pathlib import Path
def resident():
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("VmRSS:") + 1])
before = resident()
block = bytearray(20_000_000)
del block
print(resident() - before)
return 0
"""

RUN = """
import argparse, atexit, sys
sys.path.insert(0, sys.argv.pop(1))
from margin_cache.process import run
from margin_cache.errors import MarginCacheError, RetryableError
def main():
{}
run(main, argparse.ArgumentParser())
"""


def run_script(work: str, output: Path, *arguments: str | Path) -> tuple[int, str]:
    """Run a script that does some work; return its exit code, and all that it printed."""
    with output.open("w") as file:
        ended = subprocess.run(
            [sys.executable, "-c", RUN.format(indent(work, "    ")), SCRIPTS, *arguments],
            stdout=file,
            stderr=file,
            check=False,
        )
    return ended.returncode, output.read_text()


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        ("print('read 7 rows'); return 0", 0, "read 7 rows\n"),
        ("return 1", 1, ""),
        ("raise MarginCacheError('a.parquet: is damaged')", 1, "error: a.parquet: is damaged\n"),
        ("raise RetryableError('a.parquet: no answer')", 75, "error: a.parquet: no answer\n"),
        ("open('/not/there')", 75, "error: /not/there: No such file or directory\n"),
        ("atexit.register(print, 'late'); print('early'); return 0", 0, "early\n"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_scripts_say_how_they_ended(work: str, code: int, said: str, tmp_path: Path) -> None:
    assert run_script(work, tmp_path / "log") == (code, said)


def test_a_final_error_ends_later_attempts_at_once(tmp_path: Path) -> None:
    mark = ("--failure-mark", tmp_path / "mark")
    error = "error: a.parquet: is damaged\n"
    work = "raise MarginCacheError('a.parquet: is damaged')"
    assert run_script(work, tmp_path / "log", *mark) == (1, error)
    assert run_script("return 0", tmp_path / "log", *mark) == (1, error)


def test_an_error_that_may_pass_lets_later_attempts_try(tmp_path: Path) -> None:
    mark = ("--failure-mark", tmp_path / "mark")
    assert run_script("raise RetryableError('no answer')", tmp_path / "log", *mark)[0] == 75
    assert run_script("return 0", tmp_path / "log", *mark) == (0, "")


def test_a_script_that_fails_unexpectedly_says_where(tmp_path: Path) -> None:
    code, said = run_script("raise ValueError('unforeseen')", tmp_path / "log")
    assert code == 1
    assert said.startswith("Traceback") and said.endswith("ValueError: unforeseen\n")


def test_scripts_never_load_pandas(tmp_path: Path) -> None:
    work = "import numpy, pyarrow; pyarrow.array(numpy.ones(3))"
    work += "; print('pandas' in sys.modules); return 0"
    assert run_script(work, tmp_path / "log") == (0, "False\n")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the C libraries only glibc can")
def test_scripts_keep_what_is_freed(tmp_path: Path) -> None:
    """Of 20 MB, which the C library would give back to the system at once."""
    code, kilobytes = run_script(FREE_A_BLOCK, tmp_path / "log")
    assert code == 0
    assert int(kilobytes) > 15_000


def test_a_script_whose_log_is_on_a_full_disk_says_elsewhere_what_is_wrong() -> None:
    work = "    raise MarginCacheError('a.parquet: is damaged')"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", RUN.format(work), str(SCRIPTS)],
            stdout=subprocess.PIPE,
            stderr=full,
            encoding="utf-8",
            check=False,
        )
    assert ended.returncode != 0
    assert ended.stdout == "error: a.parquet: is damaged\n"


def test_a_script_that_cannot_say_how_it_ended_fails() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", RUN.format("    print('done'); return 0"), str(SCRIPTS)],
            stdout=full,
            stderr=full,
            check=False,
        )
    assert ended.returncode != 0
