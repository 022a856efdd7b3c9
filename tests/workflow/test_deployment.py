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
from support.workflow_runs import (
    SNAKEMAKE,
    environment,
    fork_snakemake,
    run_workflow,
    start_snakemake,
    write_config,
)
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


def run_in(directory: Path, snakefile: Path, *arguments: str) -> str:
    """Run a Snakefile in a directory; return the output."""
    command = [SNAKEMAKE, "-s", snakefile, "--directory", directory, "--cores", "2", *arguments]
    finished = fork_snakemake([str(part) for part in command])
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_a_deployment_by_snakedeploy_makes_the_same_margin(
    catalog: Path, expected: dict[str, str], tmp_path: Path
) -> None:
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
    run_in(place, snakefile)
    assert files_of(place) == expected
    again = run_in(place, snakefile)
    assert "Nothing to be done" in again


def test_a_module_of_another_workflow_makes_the_same_margin(
    catalog: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """As docs/module.md shows it."""
    page = (ROOT / "docs/module.md").read_text(encoding="utf-8")
    (snakefile,) = re.findall(r"^(configfile: .*?)```", page, re.S | re.M)
    config = {"margin": CONFIG | {"input_catalog_path": str(catalog)}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "Snakefile").write_text(snakefile.replace("path/to/clone", str(ROOT)))
    run_in(tmp_path, tmp_path / "Snakefile")
    assert files_of(tmp_path) == expected


GUEST = """\
import gc, logging, os, signal
from snakemake.logging import logger


def state():
    return {
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "handlers": [(one, one.level, list(one.filters)) for one in logger.handlers],
        "filters": [list(logger.filters), list(logging.getLogger().handlers)],
        "environment": dict(os.environ),
        "frozen": gc.get_freeze_count(),
    }


before = state()

module margin:
    snakefile: "SNAKEFILE"
    config: config

use rule * from margin as margin_*

assert state() == before

rule everything:
    default_target: True
    input: rules.margin_all.input

onstart:
    print("own onstart")
    HANDLERS
onsuccess:
    assert state()["environment"] == before["environment"]
    print("own onsuccess")
    END
"""


def guest(directory: Path, catalog: Path, start: str = "pass", end: str = "pass", **config) -> str:
    """Run a workflow that uses this one as a module; return its output."""
    text = GUEST.replace("SNAKEFILE", str(ROOT / "workflow" / "Snakefile"))
    text = text.replace("HANDLERS", start).replace("END", end)
    (directory / "Snakefile").write_text(text)
    values = CONFIG | {"input_catalog_path": str(catalog)} | config
    (directory / "mine.yaml").write_text(yaml.safe_dump(values))
    return run_in(directory, directory / "Snakefile", "--configfile", str(directory / "mine.yaml"))


def test_a_module_changes_nothing_of_the_workflow_that_uses_it(
    catalog: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    printed = guest(tmp_path, catalog, completion_email_address="astronomer@example.org")
    assert "own onstart" in printed and "own onsuccess" in printed
    assert "rule margin_map_partitions" in printed or "Mapping margin" in printed
    assert "completion_email_address: Snakemake calls no handlers of a module" in printed
    assert files_of(tmp_path) == expected


def test_the_handlers_of_another_workflow_may_call_those_of_the_module(
    catalog: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    start = "import margin_cache.run; margin_cache.run.on_start()"
    end = "import margin_cache.run; margin_cache.run.on_success(log)"
    printed = guest(tmp_path, catalog, start, end)
    assert "Mapping margin" not in printed
    assert "results/margin: " in printed and "lsdb.open_catalog(" in printed
    assert files_of(tmp_path) == expected


def test_a_linked_snakefile_finds_its_scripts(
    catalog: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "Snakefile").symlink_to(ROOT / "Snakefile")
    write_config(tmp_path, CONFIG | {"input_catalog_path": str(catalog)})
    printed = run_in(tmp_path, tmp_path / "Snakefile", "--no-hooks")
    assert "making margin margin" in printed
    assert files_of(tmp_path) == expected


def test_a_snakefile_without_its_scripts_ends_with_a_line(tmp_path: Path) -> None:
    clone = copy_of_the_workflow(tmp_path)
    shutil.rmtree(clone / "scripts")
    run = start_snakemake([str(SNAKEMAKE), "-s", str(clone / "Snakefile"), "--cores", "1"])
    assert run.returncode == 1
    last = run.stdout.rstrip().splitlines()[-1]
    assert last.startswith(f"error: {clone}/Snakefile has no scripts/margin_cache beside it")
    assert "Traceback" not in run.stdout


def test_a_python_without_pyarrow_ends_with_a_line(catalog: Path, tmp_path: Path) -> None:
    """In a directory in front of all others on the path, pyarrow cannot be imported."""
    (tmp_path / "without").mkdir()
    missing = "raise ModuleNotFoundError(\"No module named 'pyarrow'\", name='pyarrow')"
    (tmp_path / "without" / "pyarrow.py").write_text(missing)
    command = [str(SNAKEMAKE), "-s", str(ROOT / "Snakefile"), "-d", str(tmp_path / "run"), "-c1"]
    run = subprocess.run(
        [*command, "--config", f"input_catalog_path={catalog}"],
        env=environment() | {"PYTHONPATH": str(tmp_path / "without")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert run.returncode == 1
    last = run.stdout.rstrip().splitlines()[-1]
    assert last.startswith("error: the Python package pyarrow is not installed"), run.stdout
    assert last.endswith("environment.yml")
