"""The files are in the project's style, and hold nothing of the machine they were made on."""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.paths import ROOT

BIN = Path(sys.executable).parent
SNAKEFILES = [name for name in ("Snakefile", "workflow") if (ROOT / name).exists()]

DIRECTIVES = (
    "input",
    "output",
    "log",
    "benchmark",
    "threads",
    "resources",
    "params",
    "message",
    "shell",
)

# Written so that this file does not hold what it looks for.
FOREIGN = {
    "a package registry's address": re.compile(
        r"pypi[.]org|pythonhosted[.]org|[.]anaconda[.]org|npmjs[.]org|debian[.]org"
    ),
    "an option that names a package registry": re.compile(r"--(?:extra-)?(?:index-url|find-links)"),
    "a path of one machine": re.compile(r"(?<![\w.})\]-])/(?:home|Users|root|work|tmp/w)(?![\w-])"),
}


def run(tool: str, *arguments: str) -> None:
    finished = subprocess.run(
        [BIN / tool, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert finished.returncode == 0, finished.stdout


def test_python_files_pass_ruff():
    run("ruff", "check")


def test_python_files_are_formatted():
    run("ruff", "format", "--check", "--diff")


def test_workflow_is_formatted():
    run("snakefmt", "--check", "--compact-diff", *SNAKEFILES)


def test_workflow_passes_the_linter_of_snakemake():
    run("snakemake", "--lint")


def tracked_files() -> list[Path]:
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(git, capture_output=True, check=True, encoding="utf-8").stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file()]


@pytest.mark.parametrize("what", FOREIGN)
def test_tracked_files_hold_nothing_of_a_machine(what):
    found = []
    for file in tracked_files():
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if FOREIGN[what].search(line.decode("utf-8", "replace")):
                found.append(f"{file.relative_to(ROOT)}:{number}")
    assert not found, f"{what}: {', '.join(found)}"


def rules_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the directives of each rule or checkpoint in a Snakefile."""
    name, indent, directives = None, "", []
    for line in text.splitlines():
        if start := re.match(r"(\s*)((?:use )?(?:rule|checkpoint)\b[^:]*):\s*(?:#.*)?$", line):
            if name:
                yield name, directives
            indent, name, directives = start[1], start[2], []
        elif name and re.match(rf"{indent}\S", line) and not line.lstrip().startswith("#"):
            yield name, directives
            name = None
        elif name and (directive := re.match(rf"{indent}    (\w+):", line)):
            directives.append(directive[1])
    if name:
        yield name, directives


def test_directives_stand_in_order():
    files = sorted((ROOT / "workflow").rglob("*.smk"))
    assert files
    files += [file for file in (ROOT / "Snakefile", ROOT / "workflow/Snakefile") if file.exists()]
    for file in files:
        for rule, directives in rules_of(file.read_text(encoding="utf-8")):
            places = [DIRECTIVES.index(name) for name in directives if name in DIRECTIVES]
            assert all(a < b for a, b in pairwise(places)), f"{file.name}, {rule}: {directives}"


def test_directives_are_found():
    text = (
        "if True:\n    rule one:\n        input:\n            'a',\n        shell:\n"
        "            'x'\n\n\ncheckpoint two:\n    # why\n    output:\n        'b',\n"
        "    input:\n        'a',\n\n\ndef three():\n    log: int = 1\n"
    )
    assert list(rules_of(text)) == [
        ("rule one", ["input", "shell"]),
        ("checkpoint two", ["output", "input"]),
    ]
