"""requirements.in, requirements.lock, environment.yml and the installed packages agree."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

PIN = re.compile(r"([\w.-]+)==?([\w.+!-]+)")


def direct_dependencies() -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in read("requirements.in").splitlines())
    requirements = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def locked_versions() -> dict[str, str]:
    return pins(re.findall(r"^[\w.-]+==[^\s;]+", read("requirements.lock"), re.MULTILINE))


def conda_versions() -> dict[str, str]:
    dependencies = yaml.safe_load(read("environment.yml"))["dependencies"]
    flat = [entry for entry in dependencies if isinstance(entry, str)]
    for entry in dependencies:
        if not isinstance(entry, str):
            assert set(entry) == {"pip"}
            flat += entry["pip"]
    return pins(entry for entry in flat if entry != "pip")


def pins(entries) -> dict[str, str]:
    matches = [PIN.fullmatch(entry) or pytest.fail(f"not a pin: {entry}") for entry in entries]
    versions = {canonicalize_name(match[1]): match[2] for match in matches}
    assert len(versions) == len(matches)
    return versions


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", direct_dependencies())
def test_direct_dependency_is_locked(name):
    assert direct_dependencies()[name].specifier.contains(locked_versions()[name])


def test_lock_has_a_hash_for_every_pin_and_no_addresses():
    entries = re.sub(r"\\\n", " ", read("requirements.lock")).splitlines()
    entries = [entry for entry in entries if entry and not entry.lstrip().startswith("#")]
    assert len(entries) == len(locked_versions())
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[^\s;]+( ; [^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry)


def test_conda_environment_is_the_direct_dependencies_as_locked():
    conda = conda_versions()
    assert conda.pop("python") == "3.11"
    locked = locked_versions()
    assert conda == {name: locked[name] for name in direct_dependencies()}


def test_conda_environment_names_pip_for_its_pip_section():
    assert "pip" in yaml.safe_load(read("environment.yml"))["dependencies"]


@pytest.mark.parametrize("name", locked_versions())
def test_installed_version_is_the_locked_one(name):
    if Path(sys.prefix, "conda-meta").is_dir() and name not in direct_dependencies():
        pytest.skip("environment.yml pins the direct dependencies only")
    assert version(name) == locked_versions()[name]
