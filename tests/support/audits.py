"""An audit in this process, by the same steps as the jobs of `snakemake audit`."""

from margin_cache.audit.audit import Audit
from margin_cache.audit.findings import AuditReport, RangeFindings
from margin_cache.audit.request import AuditRequest


def audit_margin(request: AuditRequest) -> AuditReport:
    findings = [Audit(request).check_sky_range(sky_range) for sky_range in request.sky_ranges]
    results = [result for part in findings for result in part.pixels]
    candidates = sum(part.candidates for part in findings)
    return Audit(request).conclude(RangeFindings(candidates, results))
