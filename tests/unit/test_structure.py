"""The code keeps to the structure that docs/development.md describes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

LIBRARY = ROOT / "scripts/margin_cache"
INSIDES = re.compile(r"workflow\.(?!basedir)[a-z]|getattr\(workflow|_parsed|\bgc\.")
"""Attributes of Snakemake's object but the documented one."""


def lint_imports(scripts: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(
        [*command, "--config", ROOT / "pyproject.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(scripts)},
        cwd=scripts,
    )


def test_type_hints_are_right() -> None:
    mypy = [sys.executable, "-m", "mypy"]
    checked = subprocess.run(mypy, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_imports_point_downwards() -> None:
    checked = lint_imports(ROOT / "scripts")
    assert checked.returncode == 0, checked.stdout


def test_an_import_that_points_upwards_is_found(tmp_path: Path) -> None:
    shutil.copytree(LIBRARY, tmp_path / "margin_cache")
    path = tmp_path / "margin_cache/healpix/nested.py"
    line = "from margin_cache.catalog.model import CatalogInfo"
    path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    checked = lint_imports(tmp_path)
    assert checked.returncode != 0
    assert "BROKEN" in checked.stdout


def test_what_snakemake_does_not_document_stands_in_one_module() -> None:
    files = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk"), *LIBRARY.rglob("*.py")]
    using = {path.name for path in files if INSIDES.search(path.read_text())}
    assert using == {"compat.py"}


def test_the_rules_hold_no_logic_that_no_type_check_sees() -> None:
    files = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    assert not [path.name for path in files if re.search(r"^def |lambda", path.read_text(), re.M)]


def test_nobody_but_the_formats_asks_for_the_format() -> None:
    asking = [
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*.py")
        if re.search(r"\.format\b(?! ?\()|\"hipscat\"|'hipscat'", path.read_text())
    ]
    formats = {"catalog/formats.py", "catalog/hipscat.py"}
    # These say how to open a margin, and which version of a package has read it.
    assert set(asking) <= {*formats, "notification.py", "audit/findings.py"}
