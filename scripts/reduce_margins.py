"""Write the margins of the destination pixels of a reduce job, its receipt and its footers."""

import argparse
import sys
from pathlib import Path

from margin_cache.margin.paths import PlanFiles
from margin_cache.margin.reduce import reduce_margins
from margin_cache.planning.model import load_plan
from margin_cache.process import run


def main() -> str:
    """Run the reduce job that the command line names; return what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan of the margin")
    parser.add_argument("--job", required=True, help="name of the reduce job")
    parser.add_argument("--staging-dir", type=Path, required=True, help="where margins are built")
    arguments = parser.parse_args()
    plan = load_plan(arguments.plan)
    job = plan.reduce_job_of(arguments.job)
    print(f"reducing {plan.covered_by_reduce_job(arguments.job)}", file=sys.stderr, flush=True)
    files = PlanFiles(arguments.plan.parent)
    written = reduce_margins(plan, job, files, arguments.staging_dir)
    return f"wrote {sum(rows for rows, _, _ in written.values())} rows to {len(written)} files"


if __name__ == "__main__":
    run(main)
