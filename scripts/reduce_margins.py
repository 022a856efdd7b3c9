"""Write the margins of the destination pixels of a reduce job, its receipt and its footers."""

import argparse
import sys
from pathlib import Path

from margin_cache.process import run


def main(arguments: argparse.Namespace) -> int:
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.margin.paths import PlanFiles
    from margin_cache.margin.reduce import reduce_margins
    from margin_cache.planning.model import load_plan

    plan = load_plan(arguments.plan)
    job = plan.reduce_job_of(arguments.job)
    print(f"reducing {plan.covered_by_reduce_job(arguments.job)}", file=sys.stderr)
    files = PlanFiles(arguments.plan.parent)
    written = reduce_margins(plan, job, files, arguments.staging_dir)
    rows = sum(rows for rows, _, _ in written.values())
    print(f"wrote {rows} rows to {len(written)} files", file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan of the margin")
    parser.add_argument("--job", required=True, help="name of the reduce job")
    parser.add_argument("--staging-dir", type=Path, required=True, help="where the margin is built")
    run(main, parser)
