"""What plans of margins are made of, without a catalog on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from margin_cache.catalog.model import Partitions
from margin_cache.config.model import MarginSettings
from margin_cache.margin.model import Margin
from margin_cache.parquet.primary_options import PrimaryOptions
from margin_cache.planning import jobs
from margin_cache.planning.model import MarginParameters, Plan

from support.catalog_infos import HATS, HIPSCAT
from support.tilings import random_partitions

PARAMETERS = MarginParameters(
    catalog=HIPSCAT,
    threshold=10.0,
    margin_order=13,
    fine_filtering=True,
    primary_options=PrimaryOptions(),
    partitions_per_job="auto",
    job_size_mb=256.0,
    create_metadata=True,
    write_table_kwargs={},
    npix_suffix=".parquet",
    npix_parquet_name="",
    properties={},
    optional_files=[],
)


SCHEMA = pa.schema(
    {"_hipscat_index": pa.uint64(), "ra": pa.float64(), "dec": pa.float64()}, {"who": "nobody"}
)


def make_plan(parameters: MarginParameters, partitions: Partitions, **changes: Any) -> Plan:
    """The plan of a margin of a catalog with the columns of SCHEMA."""
    return jobs.make_plan(
        parameters, **{"schema": SCHEMA, "library": "1.0"} | changes, partitions=partitions
    )


def partitions_of(seed: int, largest: int = 10**8, targets: int = 20) -> Partitions:
    rng = np.random.default_rng(seed)
    pixels = random_partitions(rng, 6, targets)
    sizes = rng.integers(1, largest, len(pixels))
    times = rng.integers(1, 10**18, len(pixels))
    return Partitions(*pixels.T.copy(), sizes, times, np.zeros_like(sizes))


def planned_margin(
    location: str, catalog: str, tmp_dir: Path, is_hats: bool = True, **parameters: Any
) -> Margin:
    """A margin at a location, without a file on disk."""
    output_path, _, name = location.rpartition("/")
    settings = MarginSettings(
        input_catalog_path=catalog, output_path=output_path, tmp_dir=str(tmp_dir)
    )
    info = HATS if is_hats else HIPSCAT
    plan = make_plan(replace(PARAMETERS, catalog=info, **parameters), partitions_of(4))
    return Margin(settings, name, plan)
