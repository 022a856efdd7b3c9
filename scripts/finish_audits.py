"""Combine the findings of the jobs of audits, write the results, and print the verdicts."""

import argparse
import sys
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.process import EXIT_ERROR, run


def finish_audit(directory: Path) -> bool:
    """Finish an audit; return whether the margin is clean."""
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.audit.audit import conclude
    from margin_cache.audit.findings import load_findings
    from margin_cache.audit.output import summary, write_audit
    from margin_cache.audit.request import check_output_dir, check_unchanged, load_request

    request = load_request(directory / "request.json")
    output_dir = Path(request.output_dir)
    check_output_dir(output_dir)
    check_unchanged(request)
    files = (directory / f"findings/{sky_range.name}.json" for sky_range in request.sky_ranges)
    report = conclude(request, load_findings(files))
    write_audit(report, output_dir)
    label = "audit" if report.is_clean else "error"
    line = f"{label}: {request.margin}: {summary(report)}; see {output_dir}"
    print(line, file=sys.stderr)
    return report.is_clean


def main(arguments: argparse.Namespace) -> int:
    clean = 0
    for directory in arguments.audits:
        try:
            clean += finish_audit(directory)
        except MarginCacheError as error:
            print(f"error: {error}", file=sys.stderr)
    return 0 if clean == len(arguments.audits) else EXIT_ERROR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audits", type=Path, nargs="+", help="intermediate directories of audits")
    run(main, parser, is_lean=False)
