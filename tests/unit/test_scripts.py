"""Scripts begin soon, with only what they need."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

SCRIPTS = ROOT / "scripts"

SLOW = {"pandas", "jsonschema", "pydantic", "yaml", "snakemake", "requests"}
REMOTE = {
    *("obstore", "fsspec", "aiohttp", "botocore"),
    *(f"margin_cache.storage.{name}" for name in ("object_store", "obstore_store", "remote_files")),
    *("margin_cache.catalog.remote", "margin_cache.parquet.remote_reader"),
    "margin_cache.margin.store_output",
}
"""For catalogs and margins at URLs alone."""
SLOW |= REMOTE | {"asyncio"}
NOT_FOR_FINISHING = {
    "hpgeom",
    "pyarrow.compute",
    "margin_cache.planning.jobs",
    "margin_cache.parquet.partition_file",
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

MAKE_A_MARGIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from margin_cache.config.validation import settings_of_margins
from margin_cache.margin.finish import finish_margin
from margin_cache.margin.map import map_partitions
from margin_cache.margin.model import load_margin, load_margins
from margin_cache.margin.prepare import prepare_margins
from margin_cache.margin.reduce import reduce_margins
from margin_cache.margin.prepare import start_margin
settings = settings_of_margins({"input_catalog_path": sys.argv[2], "margin_threshold": 600})
(margin,) = prepare_margins(settings)
start_margin(margin)
assert load_margins(settings)[0].plan.plan_id == margin.plan.plan_id
plan, files = margin.plan, margin.files
for job, name in enumerate(plan.map_names):
    map_partitions(plan, job, files.shard(name))
for job in range(len(plan.reduce_names)):
    reduce_margins(plan, job, files, files.staging_dir)
finish_margin(load_margin(files.margin_file))
assert (files.output_dir / "hats.properties").exists()
print(*sys.modules)
"""


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


def test_a_local_margin_is_made_without_any_module_for_urls(tmp_path: Path) -> None:
    catalog = ROOT / "demo/hipparcos_hats"
    listed = subprocess.run(
        [sys.executable, "-c", MAKE_A_MARGIN, str(SCRIPTS), str(catalog)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert listed.returncode == 0, listed.stderr
    own = {name for name in REMOTE if name == "obstore" or name.startswith("margin_cache")}
    assert not own & set(listed.stdout.split())
