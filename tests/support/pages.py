"""The commands of a page in docs/, and what the page says that they print."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each block of code of a page in docs/."""
    yield from BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def follow(steps: Iterator[tuple[str, str]], directory: Path) -> None:
    """Write the programs and run the commands of a page, and compare what they print.

    A block of Python begins with a comment that names its file. A block of text has lines that
    the commands before it have printed; a line of output may have more before it.
    """
    printed = ""
    for language, text in steps:
        if language == "python":
            (directory / text.split()[1]).write_text(text, encoding="utf-8")
        elif language == "bash":
            printed = run(text, directory)
        elif language == "text":
            lines = printed.splitlines()
            for line in text.splitlines():
                assert any(found.endswith(line) for found in lines), f"{line}\n\nnot in\n{printed}"


def run(commands: str, directory: Path) -> str:
    """Run commands, which must succeed; return what they print."""
    environment = {**os.environ, "CLONE": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=directory,
        env=environment,
    )
    assert finished.returncode == 0, f"{commands}\n{finished.stdout}"
    return finished.stdout
