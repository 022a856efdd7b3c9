"""Tests stand where a newcomer looks for them, and share code only by way of tests/support."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

TESTS, BENCHMARKS = ROOT / "tests", ROOT / "benchmarks"
LIBRARY = ROOT / "scripts" / "margin_cache"


def python_files(*directories: Path) -> list[Path]:
    return sorted(file for directory in directories for file in directory.rglob("*.py"))


def imported_by(file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, and names that could be modules."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(*directories: Path) -> list[tuple[str, str]]:
    """Pairs of a file and the first name of a module that it imports."""
    return [
        (file.relative_to(ROOT).as_posix(), module.partition(".")[0])
        for file in python_files(*directories)
        for module in imported_by(file)
    ]


def test_no_test_module_is_imported_and_no_conftest() -> None:
    assert imports(TESTS)
    wrong = [
        (file, module)
        for file, module in imports(TESTS, BENCHMARKS)
        if module.startswith("test_") or module in ("", "conftest", "tests")
    ]
    assert not wrong


def test_tests_import_nothing_of_the_benchmarks() -> None:
    names = {file.stem for file in BENCHMARKS.glob("*.py")} | {"benchmarks"}
    assert "compare" in names
    assert not [(file, module) for file, module in imports(TESTS) if module in names]


def test_benchmarks_import_of_the_tests_only_what_is_shared() -> None:
    """Neither folders nor modules of tests, which `tests` on their path would let them."""
    names = {path.stem for path in TESTS.iterdir()} - {"support"}
    assert {"unit", "workflow"} <= names
    wrong = [(file, module) for file, module in imports(BENCHMARKS) if module in names]
    assert not wrong


def test_the_oracle_shares_no_code_with_the_library_nor_with_a_healpix_package() -> None:
    allowed = {"collections", "dataclasses", "mpmath", "numpy", "support"}
    found = imports(TESTS / "support" / "oracle")
    assert {module for _, module in found} <= allowed
    own = [
        module
        for file in python_files(TESTS / "support" / "oracle")
        for module in imported_by(file)
        if module.startswith("support")
    ]
    assert own and all(module.startswith("support.oracle") for module in own)


def test_each_folder_has_one_conftest_at_most_and_tests_have_packages_only_in_support() -> None:
    """With a package above them, test modules of one name would be taken for the same."""
    packages = {file.parent for file in python_files(TESTS) if file.name == "__init__.py"}
    assert packages and all(path.is_relative_to(TESTS / "support") for path in packages)
    loose = {
        file.relative_to(TESTS).as_posix()
        for file in python_files(TESTS)
        if not file.is_relative_to(TESTS / "support")
        and not file.name.startswith("test_")
        and file.name != "conftest.py"
    }
    assert not loose
