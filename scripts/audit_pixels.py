"""Check the margin of all pixels in a range of the sky, and write the findings."""

import argparse
import os
from pathlib import Path

from margin_cache.process import run


def main(arguments: argparse.Namespace) -> int:
    # PyArrow's own allocator would keep some 60 MB of freed memory, and saves no time here.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    # Imported here, so that an interrupt meanwhile is no traceback either.
    from margin_cache.audit.audit import audit_sky_range
    from margin_cache.audit.findings import save_findings
    from margin_cache.audit.request import load_request
    from margin_cache.margin.paths import audit_storage_files
    from margin_cache.margin.storage_options import load_options

    request = load_request(arguments.request)
    primary, margin = map(load_options, audit_storage_files(arguments.request.parent))
    findings = audit_sky_range(request, request.sky_range(arguments.job), (primary, margin))
    save_findings(findings, arguments.output)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--request", type=Path, required=True, help="what is audited")
    parser.add_argument("--job", required=True, help="name of the sky range")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    run(main, parser, is_lean=False)
