"""LSDB and hats, which HATS catalogs are made for, take our margins as they are."""

import shutil
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from margin_cache.notification import open_command
from scipy.spatial import cKDTree
from support import skies
from support.faulty_margins import make_in
from support.once import once
from support.plans import planned_margin
from support.small_skies import mixed_partitions, sky_of
from support.typed_tables import light_curve_table
from support.write_hats import write_collection, write_hats

THRESHOLD = 60.0
# Which a margin of THRESHOLD has to serve to the last row.
RADII = (5.0, 59.99)
ROWS = 12_000
LAYOUTS = {
    "usual": {},
    "no_pandas": {"pandas_metadata": False},
    "directories": {"suffix": "/", "files_per_partition": 3},
    "order_13": {"index_column": "_healpix_13", "index_order": 13},
}

Pairs = npt.NDArray[np.int64]

# What LSDB and nested-pandas do of their own accord is not for these tests to judge.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The inplace keyword in NestedFrame"),
    pytest.mark.filterwarnings("ignore:.*does not have a margin"),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    import dask  # as late as lsdb, which brings it

    dask.config.set(scheduler="synchronous")


@pytest.fixture(scope="module")
def lsdb() -> ModuleType:
    """LSDB, imported only here because that takes seconds, and warns of its own doings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lsdb
    return lsdb


def left_and_right() -> tuple[pa.Table, pa.Table, skies.IntArray]:
    """Rows near borders, and others within 0.1 to 100 arcsec of these; partitions with holes."""
    partitions = mixed_partitions()
    right = sky_of(partitions, ROWS, 100.0, 41).table
    rng = np.random.default_rng(42)
    ra, dec = (right[name].to_numpy() for name in ("ra", "dec"))
    distance = np.exp(rng.uniform(np.log(0.1), np.log(100.0), len(ra))) * skies.ARCSEC
    ra, dec = skies.offset_positions(ra, dec, distance, rng)
    return pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec}), right, partitions


def make_catalogs(directory: Path) -> None:
    left, right, partitions = left_and_right()
    ra, dec = (left[name].to_numpy() for name in ("ra", "dec"))
    coarse = skies.adaptive_partitions(ra, dec, max_rows=4000)
    write_hats(directory, "left", left, coarse)
    for layout, options in LAYOUTS.items():
        write_hats(directory, layout, right, partitions, **options)
    write_collection(directory, "collection", "inner")
    write_hats(directory / "collection", "inner", right, partitions)
    curves = light_curve_table(3000, 43)
    ra, dec = (curves[name].to_numpy() for name in ("ra", "dec"))
    curve_partitions = skies.adaptive_partitions(ra, dec, max_rows=400)
    write_hats(directory, "curves", curves, curve_partitions)
    middle = pa.table({"id": [0, 1], "ra": [90.0, 270.0], "dec": [1.0, -1.0]})
    write_hats(directory, "lonely", middle, np.array([[0, 5], [0, 7]]))
    inputs = {**dict.fromkeys(LAYOUTS, THRESHOLD), "curves": 3600.0, "lonely": 5.0}
    margins = [
        {
            "input_catalog_path": str(directory / name),
            "output_artifact_name": f"{name}_margin",
            "margin_threshold": threshold,
        }
        for name, threshold in inputs.items()
    ]
    margins += [
        {
            "input_catalog_path": str(directory / "collection"),
            "output_path": "collection",
            "margin_threshold": THRESHOLD,
        },
        {
            "input_catalog_path": str(directory / "usual"),
            "output_artifact_name": "without_metadata",
            "margin_threshold": THRESHOLD,
            "create_metadata": False,
        },
    ]
    make_in(directory, {"output_path": "margins", "margins": margins})
    shutil.rmtree(directory / "intermediate")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "lsdb", make_catalogs)


def ids_of(frame: pd.DataFrame) -> set[int]:
    return set(frame["id"].tolist())


def crossmatch(left: Any, right: Any, **options: Any) -> pd.DataFrame:
    suffixes = {"suffixes": ("_left", "_right"), "suffix_method": "all_columns"}
    return left.crossmatch(right, **options, **suffixes).compute()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_catalog_loads_with_its_margin(layout: str, lsdb: ModuleType, made: Path) -> None:
    margin = made / "margins" / f"{layout}_margin"
    catalog = lsdb.open_catalog(made / layout, margin_cache=margin)
    assert catalog.margin.hc_structure.catalog_info.margin_threshold == THRESHOLD
    frame, whole = catalog.margin.compute(), catalog.compute()
    assert list(frame.columns) == list(whole.columns)
    assert (frame.dtypes == whole.dtypes).all()
    assert frame.index.name == whole.index.name and frame.index.dtype == whole.index.dtype
    assert len(frame) == catalog.margin.hc_structure.catalog_info.total_rows > 5000
    assert ids_of(frame) < ids_of(whole)


def test_a_collection_loads_with_its_margin(lsdb: ModuleType, made: Path) -> None:
    catalog = lsdb.open_catalog(made / "collection")
    assert catalog.margin.name == f"inner_{THRESHOLD:g}arcs"
    alone = lsdb.read_hats(made / "margins" / "usual_margin").compute()
    assert sorted(catalog.margin.compute()["id"]) == sorted(alone["id"])


@pytest.mark.parametrize(
    ("catalog", "margin", "collection"),
    [
        ("usual", "margins/usual_margin", ""),
        ("collection", f"collection/inner_{THRESHOLD:g}arcs", "collection"),
    ],
)
def test_the_call_that_a_run_prints_opens_the_margin(
    catalog: str, margin: str, collection: str, lsdb: ModuleType, made: Path
) -> None:
    location = made / margin
    planned = planned_margin(str(location), str(made / catalog), Path())
    call = open_command(planned, str(made / collection) if collection else "")
    opened = eval(call, {"lsdb": lsdb})
    assert opened.margin.name == location.name


@pytest.mark.parametrize(
    "path",
    [
        *(f"margins/{name}_margin" for name in (*LAYOUTS, "curves", "lonely")),
        "margins/without_metadata",
        f"collection/inner_{THRESHOLD:g}arcs",
        "collection",
    ],
)
def test_hats_finds_margins_strictly_valid(path: str, lsdb: ModuleType, made: Path) -> None:
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(made / path, strict=True)


def test_an_empty_margin_loads_and_computes(lsdb: ModuleType, made: Path) -> None:
    margin = made / "margins" / "lonely_margin"
    catalog = lsdb.open_catalog(made / "lonely", margin_cache=margin)
    frame, whole = catalog.margin.compute(), catalog.compute()
    assert len(frame) == 0 and len(whole) == 2
    assert list(frame.columns) == list(whole.columns)
    assert (frame.dtypes == whole.dtypes).all() and frame.index.name == whole.index.name
    matched = crossmatch(catalog, catalog, radius_arcsec=1.0)
    assert matched["id_left"].tolist() == matched["id_right"].tolist() == [0, 1]


def test_light_curves_load_as_nested_columns(lsdb: ModuleType, made: Path) -> None:
    margin = made / "margins" / "curves_margin"
    catalog = lsdb.open_catalog(made / "curves", margin_cache=margin)
    frame = catalog.margin.compute()
    assert frame.nested_columns == ["lightcurve"]
    assert frame["lightcurve"].dtype == catalog.compute()["lightcurve"].dtype
    expected = dict(
        zip(*(light_curve_table(3000, 43)[name].to_pylist() for name in ("id", "lightcurve")))
    )
    some = 0
    for row, curve in zip(frame["id"], frame["lightcurve"], strict=True):
        times = [] if pd.isna(curve) is True else curve["time"].tolist()
        assert times == (expected[row] or {"time": []})["time"]
        some += len(times) > 0
    assert 100 < some < len(frame)


def brute_force_pairs(radius: float) -> Pairs:
    """The pairs of ids within `radius` arcsec anywhere on the sky, sorted, shape (n, 2)."""
    left, right, _ = left_and_right()
    trees = [
        cKDTree(skies.vectors_from_sky(*(table[name].to_numpy() for name in ("ra", "dec"))))
        for table in (left, right)
    ]
    chord = 2.0 * np.sin(radius * skies.ARCSEC / 2.0)
    found = trees[0].query_ball_tree(trees[1], chord)
    pairs = [(one, other) for one, others in enumerate(found) for other in others]
    return np.array(sorted(pairs))


@pytest.mark.parametrize("radius", RADII)
def test_crossmatch_finds_all_pairs_with_the_margin_and_fewer_without(
    radius: float, lsdb: ModuleType, made: Path
) -> None:
    expected = brute_force_pairs(radius)
    neighbours = int(np.bincount(expected[:, 0]).max()) + 1
    left = lsdb.open_catalog(made / "left")
    found = []
    for margin in (made / "margins" / "usual_margin", None):
        right = lsdb.open_catalog(made / "usual", margin_cache=margin)
        matched = crossmatch(left, right, radius_arcsec=radius, n_neighbors=neighbours)
        found.append(np.array(sorted(zip(matched["id_left"], matched["id_right"]))))
    with_margin, without = found
    print(
        f"{radius:g} arcsec: {len(expected)} pairs by brute force, {len(with_margin)} with the "
        f"margin, {len(without)} without"
    )
    np.testing.assert_array_equal(with_margin, expected)
    assert len(without) < 0.9 * len(expected)
