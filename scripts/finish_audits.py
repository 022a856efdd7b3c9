"""Put together what the jobs of audits have found, write the files, and print the verdicts."""

import argparse
import sys
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.process import EXIT_ERROR, run


def finish_audit(directory: Path) -> bool:
    """Put an audit together; return whether the margin is clean."""
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.audit.findings import load_findings
    from margin_cache.audit.output import summary, write_report
    from margin_cache.audit.place import check_place
    from margin_cache.audit.report import conclude
    from margin_cache.audit.request import check_state, load_request

    request = load_request(directory / "request.json")
    check_place(Path(request.output_dir))
    check_state(request)
    files = (directory / "pieces" / f"{piece.name}.json" for piece in request.pieces)
    report = conclude(request, load_findings(files))
    write_report(report, Path(request.output_dir))
    word = "audit" if report.is_clean else "error"
    line = f"{word}: {request.margin}: {summary(report)}; see {request.output_dir}"
    print(line, file=sys.stderr, flush=True)
    return report.is_clean


def main(arguments: argparse.Namespace) -> int:
    clean = 0
    for directory in arguments.audits:
        try:
            clean += finish_audit(directory)
        except MarginCacheError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
    return 0 if clean == len(arguments.audits) else EXIT_ERROR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audits", type=Path, nargs="+", help="directories of their work")
    run(main, parser, is_lean=False)
