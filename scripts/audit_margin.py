"""Check a margin on disk, whoever made it, against its primary catalog."""

import argparse
import sys
from pathlib import Path

from margin_cache.process import EXIT_ERROR, run


def main(arguments: argparse.Namespace) -> int:
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.audit.audit import audit_margin
    from margin_cache.audit.output import summary, write_audit
    from margin_cache.audit.request import AuditRequest, check_output_dir

    directory = arguments.output_dir / f"{arguments.margin.name}_audit"
    check_output_dir(directory)
    report = audit_margin(
        AuditRequest(
            primary=str(arguments.primary),
            margin=str(arguments.margin),
            output_dir=str(directory),
            threshold=arguments.threshold,
            cell_order=arguments.cell_order,
        )
    )
    write_audit(report, directory)
    line = f"{arguments.margin}: {summary(report)}; see {directory}"
    if report.is_clean:
        print(line)
        return 0
    print(f"error: {line}", file=sys.stderr)
    return EXIT_ERROR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--primary", type=Path, required=True, help="the catalog")
    parser.add_argument("--margin", type=Path, required=True, help="the margin to check")
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="parent directory of NAME_audit"
    )
    parser.add_argument("--threshold", type=float, help="arcsec, if not as in the metadata")
    parser.add_argument("--cell-order", type=int, help="order of a coarse margin's cells")
    run(main, parser, is_lean=False)
