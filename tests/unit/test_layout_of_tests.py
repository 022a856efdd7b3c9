"""Tests share code only by way of tests/support, and the oracle shares none with what it judges."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

TESTS, BENCHMARKS = ROOT / "tests", ROOT / "benchmarks"
ORACLE = TESTS / "support" / "oracle"


def imported_by(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports anywhere in it, and names that could be modules."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(directory: Path) -> list[tuple[str, str]]:
    """Pairs of a file in a directory and a module that it imports."""
    return [
        (file.relative_to(ROOT).as_posix(), module)
        for file in sorted(directory.rglob("*.py"))
        for module in imported_by(file)
    ]


def test_no_test_module_and_no_conftest_is_imported() -> None:
    pairs = imports(TESTS) + imports(BENCHMARKS)
    assert pairs
    wrong = [
        (file, module)
        for file, module in pairs
        if (first := module.partition(".")[0]).startswith("test_")
        or first in ("", "conftest", "tests")
    ]
    assert not wrong


def test_the_oracle_shares_no_code_with_the_library_nor_with_a_healpix_package() -> None:
    modules = {module for _, module in imports(ORACLE)}
    allowed = {"collections", "dataclasses", "mpmath", "numpy", "support"}
    assert {module.partition(".")[0] for module in modules} <= allowed
    own = {module for module in modules if module.startswith("support")}
    assert own and all(module.startswith("support.oracle") for module in own)
