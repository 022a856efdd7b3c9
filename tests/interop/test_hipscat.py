"""hipscat opens our margins as margins, and finds them valid."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from margin_cache.notification import open_command
from support.described_margins import MARGINS, files, make_margins
from support.once import once
from support.plans import planned_margin


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the catalogs, by name, and their margins, in margins."""
    return once(tmp_path_factory, "format", make_margins)


@pytest.fixture(scope="module")
def hipscat() -> SimpleNamespace:
    """What is used of hipscat, imported without compiling, which takes 13 s otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        from hipscat import read_from_hipscat
        from hipscat.catalog.margin_cache.margin_catalog import MarginCatalog
        from hipscat.io.validation import is_valid_catalog
    return SimpleNamespace(
        MarginCatalog=MarginCatalog,
        is_valid_catalog=is_valid_catalog,
        read_from_hipscat=read_from_hipscat,
    )


@pytest.mark.parametrize("name", MARGINS)
def test_hipscat_opens_it_as_a_margin(name: str, directory: Path, hipscat: SimpleNamespace) -> None:
    margin = directory / "margins" / name
    loaded = hipscat.read_from_hipscat(str(margin))
    assert isinstance(loaded, hipscat.MarginCatalog)
    info = loaded.catalog_info
    assert (info.catalog_name, info.catalog_type) == (name, "margin")
    assert info.margin_threshold == MARGINS[name]
    assert info.primary_catalog == name
    assert info.total_rows == sum(file.metadata.num_rows for *_, file in files(margin))
    pixels = {(pixel.order, pixel.pixel) for pixel in loaded.get_healpix_pixels()}
    assert pixels == {(order, pixel) for order, pixel, _ in files(margin)}


# Not the typed one: pyarrow, by which hipscat reads statistics, fails at those of float16. And
# hipscat finds no catalog valid that has no partitions.
@pytest.mark.parametrize("name", ["plain", "zstd", "indexless"])
def test_hipscat_finds_it_valid(name: str, directory: Path, hipscat: SimpleNamespace) -> None:
    path = str(directory / "margins" / name)
    assert hipscat.is_valid_catalog(path, strict=True, fail_fast=True, verbose=False)


def test_the_call_that_a_run_prints_opens_the_margin(
    directory: Path, hipscat: SimpleNamespace
) -> None:
    margin = directory / "margins/plain"
    call = open_command(planned_margin(str(margin), "plain", Path(), is_hats=False), "")
    assert eval(call, {"hipscat": hipscat}).catalog_info.catalog_name == "plain"
