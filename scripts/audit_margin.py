"""Check a margin on disk, whoever made it, against its primary catalog."""

import argparse
from pathlib import Path

from margin_cache.process import EXIT_ERROR, run


def main(arguments: argparse.Namespace) -> int:
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.audit.audit import audit_margin
    from margin_cache.audit.output import write_audit
    from margin_cache.audit.request import (
        AuditRequest,
        catalogs_states,
        check_output_dir,
        check_unchanged,
    )
    from margin_cache.audit.verdict import describe, is_passed
    from margin_cache.catalog.formats import find_margin
    from margin_cache.margin.paths import audit_results_dir

    primary = arguments.primary
    margin = find_margin("--margin", arguments.margin, primary)
    directory = audit_results_dir(str(arguments.output_dir), margin)
    check_output_dir(directory)
    request = AuditRequest(
        primary=primary,
        margin=margin,
        output_dir=str(directory),
        threshold=arguments.threshold,
        cell_order=arguments.cell_order,
        states=catalogs_states(primary, margin),
    )
    report = audit_margin(request)
    check_unchanged(request)
    audit = write_audit(report, request, directory)
    print(describe(audit, directory))
    return 0 if is_passed(audit, arguments.strict) else EXIT_ERROR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--primary", required=True, help="the catalog")
    parser.add_argument("--margin", required=True, help="the margin to check")
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="parent directory of NAME_audit"
    )
    parser.add_argument("--threshold", type=float, help="arcsec, if not as in the metadata")
    parser.add_argument("--cell-order", type=int, help="order of a coarse margin's cells")
    parser.add_argument("--strict", action="store_true", help="exit with 1 unless it is clean")
    run(main, parser, is_lean=False)
