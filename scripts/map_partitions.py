"""Write the shard of a map job: the rows of its partitions that are in a margin."""

import argparse
import sys
from pathlib import Path

from margin_cache.process import run


def main(arguments: argparse.Namespace) -> int:
    # Imported here, so that an interrupt meanwhile is no traceback either.
    import pyarrow as pa
    from margin_cache.margin.map import map_partitions
    from margin_cache.planning.model import load_plan

    # A job uses one thread.
    pa.set_cpu_count(1)
    plan = load_plan(arguments.plan)
    job = plan.map_job_of(arguments.job)
    print(f"mapping {plan.covered_by_map_job(arguments.job)}", file=sys.stderr)
    read, written = map_partitions(plan, job, arguments.shard)
    print(f"read {read} rows, wrote {written}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan of the margin")
    parser.add_argument("--job", required=True, help="name of the map job")
    parser.add_argument("--shard", type=Path, required=True, help="file to write")
    run(main, parser)
