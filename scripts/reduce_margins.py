"""Write the margins of the destination pixels of a reduce job."""

import argparse
from pathlib import Path

from margin_cache.planning.model import load_plan, shard_path
from margin_cache.process import run
from margin_cache.stages.reduce import reduce_margins


def main() -> str:
    """Run the reduce job that the command line names; return what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan of the margin")
    parser.add_argument("--job", required=True, help="name of the reduce job")
    parser.add_argument("--building", type=Path, required=True, help="directory of the margin")
    parser.add_argument("--receipt", type=Path, required=True, help="file to write: what was made")
    parser.add_argument("--footers", type=Path, required=True, help="file to write: footers")
    arguments = parser.parse_args()
    plan = load_plan(arguments.plan)
    job = plan.reduce_job_of(arguments.job)
    work = arguments.plan.parent
    shards = [shard_path(work, plan.map_names[need]) for need in plan.needs_of(job)]
    written = reduce_margins(
        plan, job, shards, arguments.building, arguments.receipt, arguments.footers
    )
    return f"wrote {sum(rows for rows, _, _ in written.values())} rows to {len(written)} files"


if __name__ == "__main__":
    run(main)
