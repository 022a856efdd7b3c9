"""Directories with a small catalog, also with its finished margin."""

import shutil
from pathlib import Path

import pytest
from support.once import once
from support.sites import Site
from support.small_skies import small_catalog


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A catalog that no test may change."""
    return small_catalog(tmp_path_factory.mktemp("pristine") / "small")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, pristine):
    """Where the margin of the pristine catalog was made: directories small, output and run."""

    def make(directory: Path) -> None:
        shutil.copytree(pristine, directory / "small")
        assert Site(directory).run().returncode == 0

    return once(tmp_path_factory, "finished", make)


@pytest.fixture
def site(tmp_path, pristine):
    shutil.copytree(pristine, tmp_path / "small")
    return Site(tmp_path)
