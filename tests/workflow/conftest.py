"""Directories with a small catalog, also with its finished margin."""

import shutil

import pytest
from support.sites import Site
from support.small_skies import small_catalog


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A catalog that no test may change."""
    return small_catalog(tmp_path_factory.mktemp("pristine") / "small")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, pristine):
    """Where the margin of the pristine catalog was made: directories small, output and run."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copytree(pristine, root / "small")
    assert Site(root).run().returncode == 0
    return root


@pytest.fixture
def site(tmp_path, pristine):
    shutil.copytree(pristine, tmp_path / "small")
    return Site(tmp_path)
