"""A version in development names the library's code; a release does not."""

from pathlib import Path

import pytest
from margin_cache.planning.identity import is_as_good, library_version


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "healpix").mkdir()
    (tmp_path / "healpix" / "boundary.py").write_text("x = 1\n")
    (tmp_path / "errors.py").write_text("")
    return tmp_path


def test_a_release_is_its_version_whatever_the_code(library: Path) -> None:
    assert library_version("1.2.0", library) == "1.2.0"


def test_a_version_in_development_changes_with_every_file(library: Path) -> None:
    seen = {library_version("1.2.0.dev0", library)}
    (library / "healpix" / "boundary.py").write_text("x = 2\n")
    seen.add(library_version("1.2.0.dev0", library))
    (library / "errors.py").rename(library / "mistakes.py")
    seen.add(library_version("1.2.0.dev0", library))
    (library / "mistakes.py").unlink()
    seen.add(library_version("1.2.0.dev0", library))
    assert len(seen) == 4
    assert all(version.startswith("1.2.0.dev0+") for version in seen)


def test_a_version_in_development_is_the_same_for_the_same_code(library: Path) -> None:
    before = library_version("1.2.0.dev0", library)
    (library / "healpix" / "__pycache__").mkdir()
    (library / "healpix" / "__pycache__" / "boundary.pyc").write_bytes(b"compiled")
    assert library_version("1.2.0.dev0", library) == before


def test_the_audit_makes_no_margin_and_does_not_count(library: Path) -> None:
    before = library_version("1.2.0.dev0", library)
    (library / "audit").mkdir()
    (library / "audit" / "distance.py").write_text("x = 1\n")
    assert library_version("1.2.0.dev0", library) == before


@pytest.mark.parametrize(
    ("made", "now", "good"),
    [
        ("1.0.0", "1.0.0", True),
        ("1.0.0", "1.1.0", True),
        ("1.1.0.dev0+a", "1.1.0.dev0+a", True),
        ("1.1.0.dev0+a", "1.1.0.dev0+b", False),
        ("1.1.0.dev0+a", "1.1.0", False),
        ("1.0.0", "1.1.0.dev0+a", False),
    ],
)
def test_margins_of_releases_are_not_made_again(made: str, now: str, good: bool) -> None:
    assert is_as_good(made, now) == good
