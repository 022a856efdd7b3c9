"""Audits of margins on disk: what the rules of `snakemake audit` ask for."""

import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from margin_cache.audit.findings import describe, is_passed, read_audit
from margin_cache.audit.request import (
    AUDIT_JSON,
    AuditRequest,
    catalogs_states,
    cut_sky,
    remove_results,
    request_id,
    save_request,
)
from margin_cache.catalog.formats import find_margin
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin import paths
from margin_cache.margin.model import Margin, save_margin
from margin_cache.margin.remote import Sources, find_source, save_source
from margin_cache.planning.jobs import Request, audit_jobs, audit_pixels_request, audit_request
from margin_cache.progress import Stage, Work, audit_amounts
from margin_cache.run.session import (
    ResourceFunction,
    Session,
    errors_in_one_line,
    resource_functions,
)
from margin_cache.storage.files import size_text
from margin_cache.storage.urls import absolute_location, canonical_url, is_url


class Audit(NamedTuple):
    """An audit of this run.

    Attributes:
        request: What is checked.
        margin: The margin that the configuration would make, whose plan has the partitions.
        sources: Where jobs find the storage options of the primary and of the audited margin.
    """

    request: AuditRequest
    margin: Margin
    sources: Sources

    def findings(self, directory: str) -> list[str]:
        names = [sky_range.name for sky_range in self.request.sky_ranges]
        return [paths.AUDIT_FINDINGS.format(audit_dir=directory, job=name) for name in names]


class Audits:
    """The audits of a run, one of each margin of the configuration."""

    def __init__(self, session: Session) -> None:
        self._session = session
        session.audits = self
        self.wanted = False

    @cache  # noqa: B019  # one object lasts as long as the process
    def requests(self) -> dict[str, Audit]:
        """Return what is checked, by the directories of the audits' intermediate files."""
        requests: dict[str, Audit] = {}
        for number, (settings, margin) in enumerate(self._session.audited):
            request = _request(settings, margin)
            if request.output_dir in [other.request.output_dir for other in requests.values()]:
                raise MarginCacheError(
                    f"output_path: two audits would be written into {request.output_dir}; give "
                    "each its own"
                )
            name = absolute_location(request.margin).rpartition("/")[2]
            directory = margin.intermediate_dir.with_name(f"{name}_audit")
            key, files = options_key(settings, request.margin), self._session.config_files
            sources = (
                find_source("input_storage_options", request.primary, settings, number, files),
                find_source(key, request.margin, settings, number, files) if key else None,
            )
            requests[str(directory / request_id(request))] = Audit(request, margin, sources)
        return requests

    def results(self, wildcards: Any) -> list[str]:
        with errors_in_one_line():
            requests = self.requests()
        if self._session.is_main and not self.wanted:
            self._announce(requests)
        self.wanted = True
        return [file for item in requests.items() for file in item[1].findings(item[0])]

    def _announce(self, requests: Mapping[str, Audit]) -> None:
        for directory, audit in requests.items():
            request, sizes = audit.request, audit.margin.plan.partitions.sizes
            is_sample = request.fraction < 1
            sample = f", a sample of {request.fraction:g} of the pixels" if is_sample else ""
            print(
                f"auditing {request.margin} against {request.primary}{sample}\n"
                f"  {len(sizes)} partitions of {size_text(int(sizes.sum()))}; jobs: "
                f"{len(request.sky_ranges)}",
                file=sys.stderr,
            )
            self._session.do_before_jobs(partial(_start, audit, directory))

    def directories(self, wildcards: Any, input: Any) -> list[str]:
        return list(dict.fromkeys(str(Path(file).parents[1]) for file in input))

    def margin_name(self, wildcards: Any) -> str:
        return Path(wildcards.audit_dir).parent.name.removesuffix("_audit")

    @property
    def log(self) -> str:
        first = next(iter(self._session.margins.values()))
        return paths.AUDITS_LOG.format(audits_dir=first.files.plan_dir)

    def resources(self, rule: str) -> dict[str, ResourceFunction]:
        requests = {"audit_pixels": self._pixels_request, "audit": self._audit_request}
        return resource_functions(requests[rule])

    def _pixels_request(self, wildcards: Any, input: Any) -> Request:
        if not self._session.is_main:
            return Request(1, 1, 1)  # the job has been given its resources already
        request, margin, _ = self.requests()[wildcards.audit_dir]
        row_group = self._session.largest_row_group(str(margin.files.plan_dir))
        return audit_pixels_request(margin.plan, row_group, len(request.sky_ranges))

    def _audit_request(self, wildcards: Any, input: Any) -> Request:
        return audit_request(sum(Path(file).stat().st_size for file in input))

    def verdicts(self, are_finished: bool) -> list[tuple[str, bool]]:
        """Return the verdict of each finished audit of this run, and whether the margin passed.

        If all ``are_finished``, those without results count as not passed.
        """
        verdicts = []
        for directory, (request, *_) in self.requests().items() if self.wanted else ():
            output_dir = Path(request.output_dir)
            audit = read_audit(output_dir)
            if audit and audit["request"] == Path(directory).name:
                is_strict = self._session.settings.audit_strict
                verdicts.append((describe(audit, output_dir), is_passed(audit, is_strict)))
            elif are_finished:
                line = f"audit: {output_dir / AUDIT_JSON} is missing, or is that of another audit."
                verdicts.append((f"{line} Start the audit again.", False))
        return verdicts

    def exit_options(self, wildcards: Any) -> str:
        """Return options of the last job, which tells the verdicts if no handler does."""
        if not self._session.lacks_handlers:
            return ""
        return "--fail --strict" if self._session.settings.audit_strict else "--fail"

    def add_work(self, work: Work) -> list[str]:
        """Add the jobs of the audits to the work of a run; return the names of the results."""
        audits = self.requests() if self.wanted else {}
        for directory, audit in audits.items():
            names = [sky_range.name for sky_range in audit.request.sky_ranges]
            amounts = audit_amounts(audit.margin, audit.request.fraction)
            are_done = [Path(file).exists() for file in audit.findings(directory)]
            work.add(directory, Stage.AUDITING, zip(names, amounts, are_done, strict=True))
        return [Path(request.output_dir).name for request, *_ in audits.values()]


def _start(audit: Audit, directory: str) -> None:
    save_margin(audit.margin)
    remove_results(Path(audit.request.output_dir))
    save_request(audit.request, Path(paths.AUDIT_REQUEST.format(audit_dir=directory)))
    files = paths.audit_storage_files(Path(directory))
    for source, path in zip(audit.sources, files, strict=True):
        save_source(source, path)


def options_key(settings: MarginSettings, location: str) -> str:
    """Return the key with the storage options of an audited margin; "" for none.

    Options can be secrets: those of the catalog are not sent to another server.
    """
    if not is_url(location):
        return ""
    margin, output = canonical_url(location), settings.output_path
    if is_url(output) and f"{margin}/".startswith(f"{canonical_url(output)}/"):
        return "output_storage_options"
    catalog = settings.input_catalog_path
    if is_url(catalog):
        protocol, _, server = canonical_url(catalog).split("/")[:3]
        # Buckets of one store have the same options.
        start = f"{protocol}//{server}/" if protocol.startswith("http") else f"{protocol}//"
        if not margin.startswith(start):
            return ""
    return "input_storage_options"


def _request(settings: MarginSettings, margin: Margin) -> AuditRequest:
    primary = margin.plan.parameters.catalog.path

    def options(location: str) -> Mapping[str, Any]:
        key = options_key(settings, location)
        return getattr(settings, key) if key else {}

    given = settings.audit_catalog_path
    if given:
        catalog = settings.input_catalog_path
        audited = find_margin("audit_catalog_path", given, catalog, options)
    else:
        audited = margin.files.location
        if not margin.output.is_margin():
            raise MarginCacheError(
                f"audit_catalog_path: the margin of this configuration, {audited}, does not "
                "exist. Make it first, or give the margin to check."
            )
    all_options = settings.input_storage_options, options(audited)
    return AuditRequest(
        primary=primary,
        margin=audited,
        output_dir=str(paths.audit_results_dir(settings.output_path, audited)),
        threshold=settings.audit_threshold or None,
        cell_order=None if settings.margin_order < 0 else settings.margin_order,
        is_coarse=None if settings.fine_filtering else True,
        only_pixels=settings.debug_filter_pixel_list or None,
        fraction=settings.audit_fraction,
        seed=settings.audit_seed,
        states=catalogs_states(primary, audited, all_options),
        sky_ranges=cut_sky(*audit_jobs(margin.plan, settings.audit_fraction)),
    )
