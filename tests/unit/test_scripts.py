"""Scripts begin soon, with only what they need."""

import subprocess
import sys

import pytest
from support.paths import ROOT

SCRIPTS = ROOT / "scripts"

SLOW = {"pandas", "jsonschema", "pydantic", "yaml", "snakemake", "requests"}
SLOW |= {
    "fsspec",
    "aiohttp",
    "asyncio",
    "margin_cache.storage.store_client",
}  # for remote catalogs alone
NOT_FOR_FINISHING = {
    "hpgeom",
    "pyarrow.compute",
    "margin_cache.planning.jobs",
    "margin_cache.parquet.positions",
    "margin_cache.margin.reduce",
}

LIST_MODULES = """
import ast, pathlib, sys
sys.path.insert(0, str(sys.argv[1]))
tree = ast.parse(pathlib.Path(sys.argv[1], sys.argv[2]).read_text())
for node in ast.walk(tree):
    if isinstance(node, ast.Import | ast.ImportFrom):
        exec(ast.unparse(node))
print(*sys.modules)
"""
"""Imports all that a script does, in its functions too."""


@pytest.mark.parametrize(
    ("name", "unneeded"),
    [
        ("map_partitions.py", SLOW),
        ("reduce_margins.py", SLOW | {"margin_cache.margin.map", "margin_cache.planning.jobs"}),
        ("finish_margin.py", SLOW | NOT_FOR_FINISHING),
    ],
)
def test_scripts_import_only_what_they_need(name: str, unneeded: set[str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, str(SCRIPTS), name],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    modules = set(listed.stdout.split())
    assert {"pyarrow.parquet", "margin_cache.planning.model"} <= modules
    assert not modules & unneeded
