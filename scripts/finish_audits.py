"""Combine the findings of the jobs of audits, write the results, and print the verdicts."""

import argparse
import sys
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.process import EXIT_ERROR, run


def finish_audit(directory: Path, is_strict: bool, is_told: bool) -> bool:
    """Finish an audit; return whether the margin has passed it.

    The verdict is printed on stdout if `is_told`, otherwise on stderr, which is the log.
    """
    from margin_cache.audit.audit import Audit
    from margin_cache.audit.findings import describe, is_passed, load_findings, write_audit
    from margin_cache.audit.request import AuditRequest, check_unchanged, read_dataclass
    from margin_cache.margin.paths import audit_storage_files
    from margin_cache.margin.remote import load_options

    request = read_dataclass(AuditRequest, directory / "request.json")
    primary, margin = map(load_options, audit_storage_files(directory))
    check_unchanged(request, (primary, margin))
    files = (directory / f"findings/{sky_range.name}.json" for sky_range in request.sky_ranges)
    report = Audit(request, (primary, margin)).conclude(load_findings(files))
    check_unchanged(request, (primary, margin))
    output_dir = Path(request.output_dir)
    audit = write_audit(report, request, output_dir)
    print(describe(audit, output_dir), file=sys.stdout if is_told else sys.stderr, flush=True)
    return is_passed(audit, is_strict)


def main(audits: list[Path], fail: bool, strict: bool) -> int:
    results = []
    for directory in audits:
        try:
            results.append(finish_audit(directory, strict, fail))
        except MarginCacheError as error:
            print(f"error: {error}", file=sys.stderr)
    if len(results) < len(audits):
        return EXIT_ERROR
    if fail and not all(results):
        failed = results.count(False)
        print(f"error: margins that have not passed their audit: {failed}", file=sys.stderr)
        return EXIT_ERROR
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audits", type=Path, nargs="+", help="intermediate directories of audits")
    parser.add_argument(
        "--fail", action="store_true", help="print the verdicts; exit with 1 if one is unsafe"
    )
    parser.add_argument("--strict", action="store_true", help="with --fail: if one is not clean")
    run(main, parser, is_lean=False)
