"""The lists of packages, the locks, the environments for conda and what is installed agree."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

RUN, TESTS = "requirements.lock", "requirements-test.lock"
ENTRY = re.compile(r"([\w.-]+)==([^\s;]+)(?: ; ([^\\]+?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)")
PIN = re.compile(r"([\w.-]+)==?([\w.+!-]+)")
CONDA = ROOT / "environment.yml"
ENVIRONMENTS = sorted((ROOT / "workflow" / "envs").glob("*.yaml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def direct_dependencies(name: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in read(name).splitlines())
    requirements = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def entries(*locks: str) -> list[str]:
    lines = re.sub(r"\\\n", " ", "".join(map(read, locks))).splitlines()
    return [line for line in lines if line and not line.lstrip().startswith("#")]


def pins(*locks: str) -> list[tuple[str, str, str]]:
    """Name, version and marker of each line, all of which have hashes."""
    matches = [ENTRY.fullmatch(entry) or pytest.fail(entry) for entry in entries(*locks)]
    return [(match[1], match[2], match[3] or "") for match in matches]


def locked_versions(*locks: str) -> dict[str, str]:
    return {name: pinned for name, pinned, _ in pins(*locks)}


def installed_here() -> dict[str, str]:
    """The locked versions without those of other Pythons and systems."""
    found = pins(RUN, TESTS)
    return {name: pin for name, pin, marker in found if not marker or Marker(marker).evaluate()}


def conda_versions(path: Path) -> dict[str, str]:
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    assert "pip" in dependencies
    lines = [line for line in dependencies if isinstance(line, str) and line != "pip"]
    for section in dependencies:
        lines += section["pip"] if isinstance(section, dict) else []
    matches = [PIN.fullmatch(line) or pytest.fail(f"not a pin: {line}") for line in lines]
    return {canonicalize_name(match[1]): match[2] for match in matches}


def hipscat_of(text: str) -> str:
    (pin,) = re.findall(r"pip install --no-deps (hipscat==\S+)", text)
    return pin.partition("==")[2]


@pytest.mark.parametrize(
    ("lock", "name"),
    [(RUN, name) for name in direct_dependencies("requirements.in")]
    + [(TESTS, name) for name in direct_dependencies("requirements-test.in")],
)
def test_direct_dependency_is_locked(lock, name):
    requirement = direct_dependencies(lock.replace(".lock", ".in"))[name]
    assert requirement.specifier.contains(locked_versions(RUN, lock)[name])


def test_the_second_lock_has_only_what_it_adds():
    assert not locked_versions(RUN).keys() & locked_versions(TESTS).keys()


def test_what_runs_has_at_most_110_packages():
    assert len(locked_versions(RUN)) <= 110


def test_conda_environment_is_the_direct_dependencies_in_locked_versions():
    conda = conda_versions(CONDA)
    assert conda.pop("python") == "3.13"
    conda["hipscat"] = hipscat_of(CONDA.read_text(encoding="utf-8"))
    assert conda.keys() == direct_dependencies("requirements.in").keys()
    locked = locked_versions(RUN)
    assert not [name for name in conda if not f"{locked[name]}.".startswith(f"{conda[name]}.")]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_conda_environments_of_jobs_are_parts_of_it(path):
    whole = conda_versions(CONDA)
    assert conda_versions(path).items() <= whole.items()


def test_the_environment_of_audits_gets_the_reader_of_hipscat():
    script = read("workflow/envs/audit.post-deploy.sh")
    assert hipscat_of(script) == locked_versions(RUN)["hipscat"]


@pytest.mark.parametrize("name", installed_here())
def test_installed_version_is_the_locked_one(name):
    if Path(sys.prefix, "conda-meta").is_dir() and name not in conda_versions(CONDA):
        pytest.skip("environment.yml pins the direct dependencies only")
    assert version(name) == installed_here()[name]
