"""Check the margin of all pixels in a range of the sky, and write the findings."""

import os
from pathlib import Path

from margin_cache.process import required, run


def main(request: Path, job: str, output: Path) -> None:
    # PyArrow's own allocator would keep some 60 MB of freed memory, and saves no time here.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    from margin_cache.audit.audit import Audit
    from margin_cache.audit.findings import save_findings
    from margin_cache.audit.request import AuditRequest, read_dataclass
    from margin_cache.margin.paths import audit_storage_files
    from margin_cache.margin.remote import load_options

    audited = read_dataclass(AuditRequest, request)
    primary, margin = map(load_options, audit_storage_files(request.parent))
    audit = Audit(audited, (primary, margin))
    save_findings(audit.check_sky_range(audited.sky_range(job)), output)


if __name__ == "__main__":
    run(main, required(request=Path, job=str, output=Path), is_lean=False)
