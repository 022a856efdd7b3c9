"""Jobs say which pixels they cover."""

import re
from dataclasses import replace

import numpy as np
import pytest
from margin_cache.planning.coverage import describe, describe_job, job_label
from support.plans import PARAMETERS, make_plan, partitions_of


@pytest.mark.parametrize(
    ("orders", "pixels", "words", "name"),
    [
        ([4, 2, 1], [254, 7, 21], "3 things, 4/254 to 1/21", "o4p254-o1p21"),
        ([4, 4], [254, 255], "2 things, 4/254 to 4/255", "o4p254-o4p255"),
        ([0], [11], "1 thing, 0/11", "o0p11"),
    ],
)
def test_first_and_last_pixel_are_named(orders, pixels, words, name):
    arrays = np.array(orders), np.array(pixels)
    assert describe(*arrays, "thing") == words
    assert job_label(*arrays) == name


def test_jobs_of_a_plan_tell_all_that_they_cover_in_their_order():
    partitions = partitions_of(7)
    plan = make_plan(replace(PARAMETERS, partitions_per_job=4), partitions)
    first, *_, last = plan.map_names
    orders, pixels = partitions.orders, partitions.pixels
    assert re.match(rf"00000-o{orders[0]}p{pixels[0]}-o{orders[3]}p{pixels[3]}-[0-9a-f]+$", first)
    assert plan.covered_by_map_job(first) == (
        f"4 partitions, {orders[0]}/{pixels[0]} to {orders[3]}/{pixels[3]}"
    )
    assert plan.covered_by_map_job(last).endswith(f"{orders[-1]}/{pixels[-1]}")
    orders, pixels = plan.destination_orders, plan.destination_pixels
    assert plan.covered_by_reduce_job(plan.reduce_names[1]) == (
        f"4 pixels, {orders[4]}/{pixels[4]} to {orders[7]}/{pixels[7]}"
    )
    assert f"-o{orders[4]}p{pixels[4]}-" in plan.reduce_names[1]


@pytest.mark.parametrize(
    ("job", "words"),
    [("00003-o4p254-o1p21-ab12", "4/254 to 1/21"), ("00000-o0p11-0f", "0/11")],
)
def test_a_name_says_in_words_what_a_job_covers(job, words):
    assert describe_job(job) == words
