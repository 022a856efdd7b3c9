"""Write the shard of a map job: the rows of its partitions that are in a margin."""

import argparse
import sys
from pathlib import Path

import pyarrow as pa
from margin_cache.margin.map import map_partitions
from margin_cache.planning.model import load_plan
from margin_cache.process import run


def main() -> str:
    """Run the map job that the command line names; return what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan of the margin")
    parser.add_argument("--job", required=True, help="name of the map job")
    parser.add_argument("--shard", type=Path, required=True, help="file to write")
    parser.add_argument("--threads", type=int, default=1, help="threads that read and decode")
    arguments = parser.parse_args()
    # Columns are decoded in threads of this job's own.
    pa.set_cpu_count(1)
    plan = load_plan(arguments.plan)
    job = plan.map_job_of(arguments.job)
    print(f"mapping {plan.covered_by_map_job(arguments.job)}", file=sys.stderr, flush=True)
    result = map_partitions(plan, job, arguments.shard, arguments.threads)
    return f"read {result.rows_read} rows, wrote {result.rows_written}"


if __name__ == "__main__":
    run(main)
