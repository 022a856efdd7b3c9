"""The arithmetic on pixels is right, and a plan forgets nothing that a margin needs."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from margin_cache.catalog.model import CatalogInfo, Partitions
from margin_cache.healpix.neighbors import cells_and_neighbours
from margin_cache.healpix.nested import (
    ARCSEC_PER_RADIAN,
    finest_margin_order,
    negative_pixels,
    pixel_ranges,
    resolution,
    split_pixel,
    touches_border,
)
from margin_cache.planning.jobs import make_plan, pixels_within
from margin_cache.planning.model import Plan, Task, load_plan, save_plan
from support import oracle, skies

Ints = npt.NDArray[np.int64]

few_examples = settings(max_examples=60, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


# --- nested arithmetic ----------------------------------------------------------------------


def some_pixels(rng: np.random.Generator, order: int, count: int = 300) -> Ints:
    """All pixels of a low order; random ones, the first and the last of a high one."""
    if 12 << 2 * order <= 1000:
        return np.arange(12 << 2 * order)
    last = (12 << 2 * order) - 1
    return np.unique(np.append(rng.integers(0, last, count), [0, 1, 2, 3, last]))


@pytest.mark.parametrize("order", range(30))
def test_split_pixel_is_that_of_healpy(order: int) -> None:
    pixels = some_pixels(np.random.default_rng(order), order)
    face, x, y = split_pixel(np.full(len(pixels), order), pixels)
    expected_x, expected_y, expected_face = healpy.pix2xyf(1 << order, pixels, nest=True)
    np.testing.assert_array_equal([face, x, y], [expected_face, expected_x, expected_y])


@pytest.mark.parametrize("order", range(30))
def test_neighbours_are_those_of_healpy(order: int) -> None:
    pixels = some_pixels(np.random.default_rng(order), order)
    found = cells_and_neighbours(order, pixels)
    assert found.shape == (len(pixels), 9)
    np.testing.assert_array_equal(found[:, 0], pixels)
    expected = healpy.get_all_neighbours(1 << order, pixels, nest=True).T
    for around, others in zip(found[:, 1:], expected, strict=True):
        assert set(around.tolist()) - {-1} == set(others.tolist()) - {-1}


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("shift", [0, 1, 7, 22])
@pytest.mark.parametrize("order", [0, 1, 3, 8])
@pytest.mark.parametrize("depth", [0, 1, 2, 5, 8])
def test_cells_that_touch_the_border_have_a_neighbour_outside(
    order: int, depth: int, shift: int, dtype: type
) -> None:
    rng = np.random.default_rng(order)
    pixel = int(rng.integers(0, 12 << 2 * order))
    count = 1 << 2 * depth
    inside = np.arange(count) if count <= 1024 else rng.integers(0, count, 3000)
    cells = (pixel << 2 * depth) + inside
    index = (cells.astype(dtype) << dtype(shift)) + rng.integers(0, 1 << shift, len(cells)).astype(
        dtype
    )
    around = healpy.get_all_neighbours(1 << (order + depth), cells, nest=True)
    outside = ((around >= 0) & (around >> 2 * depth != pixel)).any(axis=0)
    found = touches_border(index, shift, order, order + depth)
    np.testing.assert_array_equal(found, outside)


def test_ranges_are_those_of_the_smallest_pixels_inside() -> None:
    orders, pixels = np.array([0, 1, 5, 29, 0]), np.array([11, 47, 12287, 12 * 4**29 - 1, 0])
    starts, ends = pixel_ranges(orders, pixels)
    assert starts.tolist() == [p << 2 * (29 - k) for k, p in zip(orders, pixels, strict=True)]
    assert ends.tolist() == [(p + 1) << 2 * (29 - k) for k, p in zip(orders, pixels, strict=True)]
    starts, ends = pixel_ranges(orders[:3], pixels[:3], 5)
    assert starts.tolist() == [11 * 1024, 47 * 256, 12287]
    assert ends.tolist() == [12 * 1024, 48 * 256, 12288]


def random_tiling(rng: np.random.Generator, deepest: int, targets: int) -> Ints:
    """A tiling of the sphere that gets as small as `deepest` at random, and at fixed, places."""
    orders = rng.integers(0, deepest + 1, targets)
    pixels = rng.integers(0, 12 << 2 * orders)
    # The north pole, two vertices of three base faces, a corner of four.
    places = zip((0.1, 0.1, 90.1, 45.1), (89.9, 41.9, -41.9, 0.1), strict=True)
    at = np.array([[deepest, healpy.ang2pix(1 << deepest, *p, True, True)] for p in places])
    chosen = at[rng.random(4) < 0.5]
    return skies.refined_partitions(np.concatenate([np.column_stack([orders, pixels]), chosen]))


def random_partitions(rng: np.random.Generator, deepest: int, targets: int) -> Ints:
    tiling = random_tiling(rng, deepest, targets)
    kept = rng.random(len(tiling)) < rng.choice([0.3, 0.9, 1.0])
    kept[rng.integers(len(tiling))] = True
    return tiling[kept]


@few_examples
@given(seed=seeds, deepest=st.integers(0, 20), targets=st.integers(1, 12))
def test_negative_pixels_are_those_of_the_oracle(seed: int, deepest: int, targets: int) -> None:
    partitions = random_partitions(np.random.default_rng(seed), deepest, targets)
    found = np.column_stack(negative_pixels(*partitions.T))
    np.testing.assert_array_equal(found, oracle.negative_pixels(partitions))


@pytest.mark.parametrize("order", [0, 9, 29])
def test_negative_pixels_of_one_pixel_fill_the_sky(order: int) -> None:
    orders, pixels = negative_pixels(np.array([order]), np.array([1]))
    assert len(orders) == 11 + 3 * order
    starts, ends = pixel_ranges(np.append(orders, order), np.append(pixels, 1))
    assert (ends - starts).sum() == 12 << 58


# --- the coarse filter ----------------------------------------------------------------------


def points_in_places(rng: np.random.Generator, order: int, count: int) -> tuple[Any, Any]:
    """Points in cells, most near their sides and corners; also near poles and face borders."""
    cells = rng.integers(0, 12 << 2 * order, count)
    face, x, y = split_pixel(np.full(count, order), cells)
    last = (1 << order) - 1
    x[::3], y[1::5] = rng.choice([0, last], len(x[::3])), rng.choice([0, last], len(y[1::5]))
    cells = healpy.xyf2pix(1 << order, x, y, face, nest=True)
    u, v = rng.random((2, count))
    u[::2] = rng.choice([1e-9, 1e-3, 1 - 1e-3, 1 - 1e-9], len(u[::2]))
    v[::4] = rng.choice([1e-9, 1e-3, 1 - 1e-3, 1 - 1e-9], len(v[::4]))
    return skies.pixel_positions(np.column_stack([np.full(count, order), cells]), u, v)


@few_examples
@given(seed=seeds, order=st.integers(0, 20), share=st.floats(0.51, 1.0))
@example(seed=0, order=0, share=1.0)
@example(seed=1, order=1, share=1.0)
@example(seed=2, order=2, share=1.0)
@example(seed=3, order=3, share=1.0)
@example(seed=4, order=4, share=1.0)
def test_points_within_the_threshold_are_in_touching_cells(
    seed: int, order: int, share: float
) -> None:
    # A rounding error must not make the threshold larger than the order allows.
    threshold = share * resolution(0) / 1.6 / 2**order * (1 - 1e-12)
    assert finest_margin_order(threshold) == order
    rng = np.random.default_rng(seed)
    count = 20_000
    lon, lat = points_in_places(rng, order, count)
    away = np.full(count, threshold / ARCSEC_PER_RADIAN) * rng.choice([1.0, 0.999, 0.7], count)
    there = skies.offset_positions(lon, lat, away, rng)
    cells = healpy.ang2pix(1 << order, lon, lat, nest=True, lonlat=True)
    others = healpy.ang2pix(1 << order, *there, nest=True, lonlat=True)
    assert (cells_and_neighbours(order, cells) == others[:, None]).any(axis=1).all()


def test_coarse_order_is_the_finest_that_is_safe_by_the_bound() -> None:
    for threshold in (0.001, 0.05, 1.0, 10.0, 60.0, 1800.0, 36_000.0):
        order = finest_margin_order(threshold)
        assert resolution(order) / 1.6 >= threshold > resolution(order + 1) / 1.6
        assert resolution(order) == pytest.approx(
            healpy.nside2resol(1 << order) * ARCSEC_PER_RADIAN
        )


# --- pairs of pixels ------------------------------------------------------------------------


def distances_between(pixels: Ints, samples: int = 24) -> tuple[Any, Any]:
    """Bounds on the distances [arcsec] between pixels of a tiling, by samples of boundaries."""
    outlines = [oracle.boundary_samples(*pixel, samples).astype(np.float64) for pixel in pixels]
    upper = np.zeros((len(pixels), len(pixels)))
    for one, outline in enumerate(outlines):
        cosines = outline.T @ np.hstack(outlines[one:])
        best = cosines.max(axis=0).reshape(len(pixels) - one, -1).max(axis=1)
        upper[one, one:] = upper[one:, one] = np.arccos(np.clip(best, -1, 1))
    gaps = np.array([oracle.half_gap(order, samples) for order, _ in pixels])
    lower = upper - gaps[:, None] - gaps
    return lower * ARCSEC_PER_RADIAN, (upper + 1e-7) * ARCSEC_PER_RADIAN


def test_pixels_within_are_all_that_can_share_rows_and_few_others() -> None:
    found_total = possible_total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        tiling = random_tiling(rng, int(rng.integers(1, 10)), int(rng.integers(1, 4)))
        threshold = float(np.exp(rng.uniform(0.0, np.log(36_000.0))))
        kept = np.flatnonzero(rng.random(len(tiling)) < 0.8)
        partitions = tiling[kept]
        sources, destinations = pixels_within(
            tuple(partitions.T), tuple(tiling.T), threshold, finest_margin_order(threshold)
        )
        found = np.zeros((len(partitions), len(tiling)), dtype=bool)
        found[sources, destinations] = True
        assert found.sum() == len(sources), "pairs are given twice"
        lower, upper = (bound[kept] for bound in distances_between(tiling))
        own = np.arange(len(tiling)) == kept[:, None]
        forgotten = (upper <= threshold) & ~found & ~own
        assert not forgotten.any(), (seed, threshold, np.argwhere(forgotten)[:3])
        # No pair is farther apart than by what the circles around pixels add to the threshold.
        finer = np.maximum(partitions[:, :1], tiling[:, 0])
        slack = 3.4 * resolution(0) / 2.0**finer
        absurd = (lower > threshold + slack) & found & ~own
        assert not absurd.any(), (seed, threshold, np.argwhere(absurd)[:3])
        found_total += (found & ~own).sum()
        possible_total += ((lower <= threshold) & ~own).sum()
    print(f"{found_total} pairs found, {possible_total} not ruled out by samples")
    assert found_total < 1.3 * possible_total


@pytest.mark.parametrize("finest", range(6))
def test_pixels_within_without_a_threshold_are_those_of_touching_cells(finest: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tiling = random_tiling(rng, 7, 3)
        found = pixels_within(tuple(tiling.T), tuple(tiling.T), np.inf, finest)
        pairs = set(zip(*(part.tolist() for part in found), strict=True))
        assert len(pairs) == len(found[0])
        starts, ends = pixel_ranges(*tiling.T, 29)
        for source, (order, pixel) in enumerate(tiling.tolist()):
            low, high = (edge[source] >> 2 * (29 - finest) for edge in (starts, ends))
            cells = np.arange(low, max(high, low + 1))
            around = healpy.get_all_neighbours(1 << finest, cells, nest=True).ravel()
            reach = np.unique(np.concatenate([cells, around[around >= 0]]))
            first = np.searchsorted(ends, reach << 2 * (29 - finest), side="right")
            last = np.searchsorted(starts, (reach + 1) << 2 * (29 - finest), side="left")
            needed = {
                (source, other)
                for a, b in zip(first.tolist(), last.tolist(), strict=True)
                for other in range(a, b)
            }
            assert needed - {(source, source)} <= pairs, (seed, order, pixel)


# --- plans ----------------------------------------------------------------------------------

TASK = Task(
    catalog=CatalogInfo(
        format="hipscat",
        path="sky",
        name="sky",
        epoch="J2000",
        ra_column="ra",
        dec_column="dec",
        index_column="_hipscat_index",
        index_order=19,
        index_shift=22,
    ),
    threshold=10.0,
    cell_order=13,
    fine_filtering=True,
    compression="snappy",
    row_group_rows=1 << 20,
    schema_digest="0123",
    partitions_per_job="auto",
    job_size_mb=256.0,
    create_metadata=True,
)


def partitions_of(seed: int, largest: int = 10**8, targets: int = 20) -> Partitions:
    rng = np.random.default_rng(seed)
    pixels = random_partitions(rng, 6, targets)
    sizes = rng.integers(1, largest, len(pixels))
    return Partitions(*pixels.T.copy(), sizes, rng.integers(1, 10**18, len(pixels)))


@pytest.mark.parametrize("largest", [10**5, 10**7, 10**9])
@pytest.mark.parametrize("per_job", ["auto", 1, 3, 10**6])
@pytest.mark.parametrize("fine", [True, False])
def test_jobs_cover_everything_once(per_job: int | str, largest: int, fine: bool) -> None:
    task = replace(TASK, partitions_per_job=per_job, fine_filtering=fine, cell_order=5)
    for seed in range(4):
        partitions = partitions_of(seed, largest)
        plan = make_plan(task, partitions)
        destinations = np.column_stack([plan.destination_orders, plan.destination_pixels])
        starts, ends = pixel_ranges(*destinations.T)
        assert starts[0] == 0 and ends[-1] == 12 << 58
        np.testing.assert_array_equal(starts[1:], ends[:-1])
        real = plan.destination_partitions >= 0
        np.testing.assert_array_equal(
            plan.destination_partitions[real], np.arange(len(partitions.orders))
        )
        np.testing.assert_array_equal(destinations[real].T, [partitions.orders, partitions.pixels])
        for bounds, count in (
            (plan.map_bounds, len(partitions.orders)),
            (plan.reduce_bounds, len(destinations)),
        ):
            assert bounds[0] == 0 and bounds[-1] == count and (np.diff(bounds) > 0).all()
        jobs = np.arange(len(plan.map_bounds) - 1)
        files = [file for job in jobs for file in plan.files_of(job)]
        assert len(files) == len(set(files)) == len(partitions.orders)
        if per_job == "auto":
            covered = np.add.reduceat(partitions.sizes, plan.map_bounds[:-1])
            # Four jobs are as many as five and a half, and each ends behind a partition.
            assert covered.max() <= 256e6 * 11 / 8 + partitions.sizes.max()
        else:
            assert np.diff(plan.map_bounds).max() <= per_job
            assert np.diff(plan.reduce_bounds).max() <= per_job


@pytest.mark.parametrize(
    ("wanted", "jobs"), [(4, 4), (5, 4), (7, 8), (11, 12), (13, 12), (15, 16), (31, 32), (32, 32)]
)
@pytest.mark.parametrize("more", [-0.4, 0.4])
def test_auto_jobs_are_of_about_the_size_wanted_and_equal(
    wanted: int, jobs: int, more: float
) -> None:
    pixels = np.arange(12 << 2 * 5)
    sizes = np.random.default_rng(wanted).integers(1, 10**6, len(pixels))
    weights = sizes + 250_000
    job_size = weights.sum() / (wanted + more)
    partitions = Partitions(np.full(len(pixels), 5), pixels, sizes, np.ones_like(sizes))
    plan = make_plan(replace(TASK, job_size_mb=job_size / 1e6), partitions)
    loads = np.add.reduceat(weights, plan.map_bounds[:-1])
    assert len(loads) == jobs
    assert np.abs(loads - weights.sum() / jobs).max() <= weights.max()


def test_a_partition_of_another_size_moves_few_of_the_jobs_bounds() -> None:
    pixels = np.arange(12 << 2 * 4)
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 10**6, len(pixels))

    def bounds_of(sizes: np.ndarray) -> set[int]:
        partitions = Partitions(np.full(len(pixels), 4), pixels, sizes, np.ones_like(sizes))
        return set(make_plan(replace(TASK, job_size_mb=8.0), partitions).map_bounds.tolist())

    before = bounds_of(sizes)
    assert len(before) > 200
    moved = []
    for changed in rng.choice(len(pixels), 20):
        other = sizes.copy()
        other[changed] += 10**6
        moved.append(len(before - bounds_of(other)))
    assert np.mean(moved) < len(before) / 5


def test_reduce_jobs_of_a_name_have_the_same_destinations() -> None:
    """Though a partition that they do not read moves the bounds of jobs by its size."""
    pixels = np.arange(12 << 2 * 4)
    sizes = np.random.default_rng(3).integers(1, 10**6, len(pixels))
    named: dict[str, bytes] = {}
    seen = 0
    for _ in range(30):
        sizes[-1] += 10**5
        partitions = Partitions(np.full(len(pixels), 4), pixels, sizes.copy(), pixels)
        plan = make_plan(replace(TASK, job_size_mb=8.0), partitions)
        for job, name in enumerate(plan.reduce_names):
            part = slice(*plan.reduce_bounds[job : job + 2])
            destinations = plan.destination_pixels[part].tobytes()
            seen += name in named
            assert named.setdefault(name, destinations) == destinations
    assert seen > 100


@pytest.mark.parametrize("job_size_mb", [0.001, 1.0, 1.1, 1.8, 8.0])
@pytest.mark.parametrize("count", [5000, 6000, 12 << 2 * 6])
def test_auto_jobs_are_never_too_many_for_snakemake(job_size_mb: float, count: int) -> None:
    pixels = np.arange(count)
    sizes = np.full(len(pixels), 10**6)
    partitions = Partitions(np.full(len(pixels), 6), pixels, sizes, np.ones_like(sizes))
    plan = make_plan(replace(TASK, job_size_mb=job_size_mb), partitions)
    # Jobs are not made larger than they need be, either.
    assert min(1300, count / job_size_mb) < len(plan.map_names) <= 4096


@pytest.mark.parametrize(("order", "jobs"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 12), (5, 48)])
def test_reduce_jobs_are_several_where_there_is_work_for_them(order: int, jobs: int) -> None:
    pixels = np.arange(12 << 2 * order)
    sizes = np.full(len(pixels), 1000)
    partitions = Partitions(np.full(len(pixels), order), pixels, sizes, np.ones_like(sizes))
    assert len(make_plan(replace(TASK, cell_order=6), partitions).reduce_names) == jobs


def test_many_tiny_partitions_are_not_one_job() -> None:
    pixels = np.arange(12 << 2 * 4)
    sizes = np.full(len(pixels), 1000)
    partitions = Partitions(np.full(len(pixels), 4), pixels, sizes, np.ones_like(sizes))
    covered = np.diff(make_plan(TASK, partitions).map_bounds)
    # Each counts as a quarter of a MB and its 1000 bytes.
    np.testing.assert_array_equal(covered, np.full(4, len(pixels) // 4))


@pytest.mark.parametrize("threshold", [1.0, 1000.0, 36_000.0])
def test_reduce_jobs_read_all_that_can_have_rows_for_them(threshold: float) -> None:
    task = replace(TASK, threshold=threshold, partitions_per_job=2)
    for seed in range(3):
        plan = make_plan(task, partitions_of(seed, targets=4))
        destinations = np.column_stack([plan.destination_orders, plan.destination_pixels])
        _, upper = distances_between(destinations)
        for job in range(len(plan.reduce_bounds) - 1):
            here = np.arange(*plan.reduce_bounds[job : job + 2])
            near = (upper[here] <= threshold) & (np.arange(len(destinations)) != here[:, None])
            sources = plan.destination_partitions[near.any(axis=0)]
            needed = np.searchsorted(plan.map_bounds, sources[sources >= 0], side="right") - 1
            assert set(needed.tolist()) <= set(plan.needs_of(job).tolist())
            assert (np.diff(plan.needs_of(job)) > 0).all()


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = make_plan(TASK, partitions_of(1))
    save_plan(plan, tmp_path / "deep" / "plan.npz")
    read = load_plan(tmp_path / "deep" / "plan.npz")
    assert read.task == plan.task
    assert (read.key, read.state) == (plan.key, plan.state)
    assert (read.map_names, read.reduce_names) == (plan.map_names, plan.reduce_names)
    for one, two in ((plan, read), (plan.partitions, read.partitions)):
        for name, value in vars(one).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(vars(two)[name], value)
                assert vars(two)[name].dtype == value.dtype
    for number, name in enumerate(plan.map_names):
        assert plan.map_job_of(name) == number
    for number, name in enumerate(plan.reduce_names):
        assert plan.reduce_job_of(name) == number
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "none.npz")


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + "x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", [f.name for f in fields(Task) if f.name != "catalog"])
def test_key_depends_on_everything_of_the_task(name: str) -> None:
    plan = make_plan(TASK, partitions_of(2))
    task = replace(TASK, **{name: changed(getattr(TASK, name))})
    assert replace(plan, task=task).key != plan.key


@pytest.mark.parametrize("name", [f.name for f in fields(CatalogInfo)])
def test_key_depends_on_everything_of_the_catalog(name: str) -> None:
    plan = make_plan(TASK, partitions_of(2))
    catalog = replace(TASK.catalog, **{name: changed(getattr(TASK.catalog, name))})
    assert replace(plan, task=replace(TASK, catalog=catalog)).key != plan.key


def test_key_depends_on_which_partitions_there_are_and_not_on_their_state() -> None:
    plan = make_plan(TASK, partitions_of(2))
    fewer = plan.partitions.take(np.arange(len(plan.partitions.orders) - 1))
    assert replace(plan, partitions=fewer).key != plan.key
    for name in ("sizes", "times"):
        other = with_change(plan, name, 3)
        assert other.key == plan.key
        assert other.state != plan.state


def with_change(plan: Plan, name: str, partition: int) -> Plan:
    values = getattr(plan.partitions, name).copy()
    values[partition] += 1
    return replace(plan, partitions=replace(plan.partitions, **{name: values}))


@pytest.mark.parametrize("name", ["sizes", "times"])
def test_only_jobs_that_read_a_partition_are_named_anew_when_it_changes(name: str) -> None:
    plan = make_plan(replace(TASK, partitions_per_job=2), partitions_of(3))
    other = with_change(plan, name, 5)
    renamed = [job for job, new in enumerate(other.map_names) if new != plan.map_names[job]]
    assert renamed == [2]
    readers = [job for job in range(len(plan.reduce_names)) if 2 in plan.needs_of(job)]
    renamed = [job for job, new in enumerate(other.reduce_names) if new != plan.reduce_names[job]]
    assert renamed == readers and 0 < len(readers) < len(plan.reduce_names)
    with pytest.raises(ValueError, match="not a job"):
        plan.map_job_of(other.map_names[2])
