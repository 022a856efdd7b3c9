"""Jobs cover everything once, are of about equal size, and read all that they need."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from margin_cache.catalog.model import Partitions
from margin_cache.healpix.nested import pixel_ranges
from margin_cache.planning.jobs import audit_bounds, audit_jobs
from support.plans import PARAMETERS, make_plan, partitions_of
from support.tilings import distances_between


@pytest.mark.parametrize("largest", [10**5, 10**7, 10**9])
@pytest.mark.parametrize("per_job", ["auto", 1, 3, 10**6])
@pytest.mark.parametrize("fine", [True, False])
def test_jobs_cover_everything_once(per_job: int | str, largest: int, fine: bool) -> None:
    parameters = replace(
        PARAMETERS, partitions_per_job=per_job, fine_filtering=fine, margin_order=5
    )
    for seed in range(4):
        partitions = partitions_of(seed, largest)
        plan = make_plan(parameters, partitions)
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
def test_auto_jobs_are_equal_and_of_about_the_configured_size(
    wanted: int, jobs: int, more: float
) -> None:
    pixels = np.arange(12 << 2 * 5)
    sizes = np.random.default_rng(wanted).integers(1, 10**6, len(pixels))
    weights = sizes + 250_000
    job_size = weights.sum() / (wanted + more)
    partitions = Partitions(np.full(len(pixels), 5), pixels, sizes, np.ones_like(sizes), 0 * sizes)
    plan = make_plan(replace(PARAMETERS, job_size_mb=job_size / 1e6), partitions)
    loads = np.add.reduceat(weights, plan.map_bounds[:-1])
    assert len(loads) == jobs
    assert np.abs(loads - weights.sum() / jobs).max() <= weights.max()


@pytest.mark.parametrize(
    ("megabytes", "jobs"),
    [(100, 1), (300, 2), (800, 2), (1200, 2), (2000, 2), (2600, 4), (4000, 4), (8000, 8)],
)
def test_small_catalogs_have_few_jobs(megabytes: int, jobs: int) -> None:
    pixels = np.arange(64)
    sizes = np.full(64, megabytes * 10**6 // 64)
    partitions = Partitions(np.full(64, 3), pixels, sizes, np.ones_like(sizes), 0 * sizes)
    plan = make_plan(replace(PARAMETERS, job_size_mb=1000.0), partitions)
    assert len(plan.map_names) == jobs


def test_a_partition_of_another_size_moves_few_of_the_jobs_bounds() -> None:
    pixels = np.arange(12 << 2 * 4)
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 10**6, len(pixels))

    def bounds_of(sizes: np.ndarray) -> set[int]:
        partitions = Partitions(
            np.full(len(pixels), 4), pixels, sizes, np.ones_like(sizes), 0 * sizes
        )
        return set(make_plan(replace(PARAMETERS, job_size_mb=8.0), partitions).map_bounds.tolist())

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
        partitions = Partitions(np.full(len(pixels), 4), pixels, sizes.copy(), pixels, 0 * sizes)
        plan = make_plan(replace(PARAMETERS, job_size_mb=8.0), partitions)
        for job, name in enumerate(plan.reduce_names):
            part = slice(*plan.reduce_bounds[job : job + 2])
            destinations = plan.destination_pixels[part].tobytes()
            seen += name in named
            assert named.setdefault(name, destinations) == destinations
    assert seen > 100


@pytest.mark.parametrize(
    ("count", "job_size_mb"),
    [
        *product([5000, 6000], [0.001, 1.0, 1.1, 1.8, 8.0]),
        *product([12 << 2 * 6], [0.001, 8.0]),
    ],
)
def test_auto_makes_at_most_4096_map_jobs(count: int, job_size_mb: float) -> None:
    pixels = np.arange(count)
    sizes = np.full(len(pixels), 10**6)
    partitions = Partitions(np.full(len(pixels), 6), pixels, sizes, np.ones_like(sizes), 0 * sizes)
    plan = make_plan(replace(PARAMETERS, job_size_mb=job_size_mb), partitions)
    # Jobs are not made larger than they need be, either.
    assert min(1300, count / job_size_mb) < len(plan.map_names) <= 4096


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize(
    ("order", "jobs"),
    [(0, (1, 1)), (1, (1, 1)), (2, (2, 1)), (3, (2, 1)), (4, (4, 4)), (5, (12, 12))],
)
def test_the_number_of_reduce_jobs_follows_the_destinations(
    order: int, jobs: tuple[int, int], is_alone: bool
) -> None:
    pixels = np.arange(12 << 2 * order)
    sizes = np.full(len(pixels), 1000)
    partitions = Partitions(
        np.full(len(pixels), order), pixels, sizes, np.ones_like(sizes), 0 * sizes
    )
    parameters = replace(PARAMETERS, margin_order=6)
    plan = make_plan(parameters, partitions, is_alone=is_alone)
    assert len(plan.reduce_names) == jobs[not is_alone]


def test_many_tiny_partitions_are_not_one_job() -> None:
    pixels = np.arange(12 << 2 * 4)
    sizes = np.full(len(pixels), 1000)
    partitions = Partitions(np.full(len(pixels), 4), pixels, sizes, np.ones_like(sizes), 0 * sizes)
    covered = np.diff(make_plan(PARAMETERS, partitions).map_bounds)
    # Each counts as a quarter of a MB and its 1000 bytes.
    np.testing.assert_array_equal(covered, np.full(4, len(pixels) // 4))


@pytest.mark.parametrize("threshold", [1.0, 1000.0, 36_000.0])
def test_reduce_jobs_read_all_shards_that_can_have_their_rows(threshold: float) -> None:
    parameters = replace(PARAMETERS, threshold=threshold, partitions_per_job=2)
    for seed in range(3):
        plan = make_plan(parameters, partitions_of(seed, targets=4))
        destinations = np.column_stack([plan.destination_orders, plan.destination_pixels])
        _, upper = distances_between(destinations)
        for job in range(len(plan.reduce_bounds) - 1):
            here = np.arange(*plan.reduce_bounds[job : job + 2])
            near = (upper[here] <= threshold) & (np.arange(len(destinations)) != here[:, None])
            sources = plan.destination_partitions[near.any(axis=0)]
            needed = np.searchsorted(plan.map_bounds, sources[sources >= 0], side="right") - 1
            assert set(needed.tolist()) <= set(plan.needs_of(job).tolist())
            assert (np.diff(plan.needs_of(job)) > 0).all()


@pytest.mark.parametrize(("fraction", "each"), [(1.0, 1), (0.5, 2), (0.3, 3), (1e-6, 10**6)])
def test_jobs_of_an_audit_have_the_partitions_of_map_jobs(fraction: float, each: int) -> None:
    plan = make_plan(replace(PARAMETERS, partitions_per_job=3), partitions_of(2))
    bounds = audit_bounds(plan, fraction)
    assert bounds.tolist() == [*plan.map_bounds[:-1:each], plan.map_bounds[-1]]
    names, firsts = audit_jobs(plan, fraction)
    assert len(names) == len(set(names)) == len(firsts) == len(bounds) - 1
    assert [int(name[:5]) for name in names] == list(range(len(names)))
    partitions = plan.partitions
    starts = pixel_ranges(partitions.orders, partitions.pixels)[0]
    assert firsts == starts[bounds[:-1]].tolist() == sorted(firsts)
    if each == 1:
        assert names == plan.map_names
