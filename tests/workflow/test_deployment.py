"""The workflow deployed as users of the workflow catalog do it, and as a module, elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hats.io.validation import is_valid_catalog
from support import skies
from support.margins import tree_digest
from support.paths import ROOT
from support.typed_tables import light_curve_table
from support.workflow_runs import SNAKEMAKE, environment, run_workflow, start_snakemake
from support.write_hats import write_hats

PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
SNAKEDEPLOY = shutil.which("snakedeploy", path=PLACES)
CONFIG = {"margin_threshold": 3600.0, "output_artifact_name": "margin"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("elsewhere")
    table = light_curve_table(600, 1)
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    write_hats(directory, "sky", table, skies.adaptive_partitions(ra, dec, max_rows=200))
    return directory / "sky"


@pytest.fixture(scope="module")
def expected(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of the margin that the workflow itself makes."""
    directory = tmp_path_factory.mktemp("direct")
    run_workflow(directory, config=CONFIG | {"input_catalog_path": str(catalog)}, check=True)
    return files_of(directory)


def files_of(directory: Path) -> dict[str, str]:
    margin = directory / "results" / "margin"
    assert is_valid_catalog(margin, strict=True)
    digests = tree_digest(margin)
    told = {"provenance_info.json", "hats.properties", "properties"}
    files = {path: digest for path, digest in digests.items() if path not in told}
    assert any("Npix=" in path for path in files)
    return files


def copy_of_the_workflow(directory: Path) -> Path:
    """What a clone has of it: the files that git lists."""
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(git, capture_output=True, check=True, encoding="utf-8").stdout
    clone = directory / "margin-cache"
    for name in listed.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    return clone


def run_in(directory: Path, *arguments: str) -> str:
    """Start Snakemake as a user does, in the directory and without with_file_name a Snakefile."""
    command = [SNAKEMAKE, "--directory", directory, "--cores", "2", *arguments]
    finished = start_snakemake([str(part) for part in command])
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_deployed_by_snakedeploy(catalog: Path, expected: dict[str, str], tmp_path: Path) -> None:
    if SNAKEDEPLOY is None:
        pytest.skip("snakedeploy is not installed")
    clone, place = copy_of_the_workflow(tmp_path), tmp_path / "place"
    place.mkdir()
    deploy = [SNAKEDEPLOY, "deploy-workflow", clone, place, "--branch", "main"]
    subprocess.run(deploy, check=True, env=environment(), capture_output=True)
    snakefile = place / "workflow" / "Snakefile"
    # Of a clone, in place of an address, it writes the path within the clone.
    text = snakefile.read_text()
    assert text.count('"workflow/Snakefile"') == 1
    snakefile.write_text(text.replace('"workflow/', f'"{clone}/workflow/'))
    file = place / "config" / "config.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(values | CONFIG | {"input_catalog_path": str(catalog)}))
    run_in(place, "-s", str(snakefile))
    assert files_of(place) == expected
    again = run_in(place, "-s", str(snakefile))
    assert "Nothing to be done" in again


def test_as_a_module_of_another_workflow(
    catalog: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """As README.md shows it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"```python\n(module margin:.*?)```", readme, re.S)
    path = ROOT / "workflow" / "Snakefile"
    config = {"margin": CONFIG | {"input_catalog_path": str(catalog)}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "Snakefile").write_text(
        f'configfile: "mine.yaml"\n\n{module.replace("path/to/Snakefile", str(path))}\n'
        "rule everything:\n    default_target: True\n    input:\n        rules.margin_all.input\n"
    )
    run_in(tmp_path, "-s", str(tmp_path / "Snakefile"))
    assert files_of(tmp_path) == expected
