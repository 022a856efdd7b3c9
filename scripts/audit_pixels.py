"""Look at the pixels of a piece of the sky, and write what is wrong with a margin there."""

import argparse
from pathlib import Path

from margin_cache.audit.findings import save_findings
from margin_cache.audit.report import audit_piece
from margin_cache.audit.request import load_request
from margin_cache.audit.script import run


def main() -> int:
    """Do the job that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--request", type=Path, required=True, help="what is checked")
    parser.add_argument("--job", required=True, help="name of the piece")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    request = load_request(arguments.request)
    save_findings(audit_piece(request, request.piece(arguments.job)), arguments.output)
    return 0


if __name__ == "__main__":
    run(main)
