"""An audit in this process, by the same steps as the jobs of `snakemake audit`."""

from margin_cache.audit.audit import audit_sky_range, conclude
from margin_cache.audit.findings import AuditReport, RangeFindings
from margin_cache.audit.request import AuditRequest


def audit_margin(request: AuditRequest) -> AuditReport:
    findings = [audit_sky_range(request, sky_range) for sky_range in request.sky_ranges]
    results = [result for part in findings for result in part.pixels]
    return conclude(request, RangeFindings(sum(part.candidates for part in findings), results))
