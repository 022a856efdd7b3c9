"""Reports of finished margins: what the rules of `snakemake report` ask for."""

from typing import TYPE_CHECKING, Any

from margin_cache.margin.model import Margin
from margin_cache.report.data import check_report_dirs, is_current

if TYPE_CHECKING:
    from margin_cache.run.session import Session


class Reports:
    """The reports of a run, one of each margin of the configuration."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def pages(self, wildcards: Any) -> list[str]:
        """Return the files that a run with the target `report` is done with.

        A page that is current stays out of the DAG: its margin may have been another input file
        when it was drawn, and Snakemake would draw it again.
        """
        session = self._session
        if session.only_describes:
            return [*session.targets(wildcards), *self.existing_pages(wildcards)]
        session.announce()
        with session.errors_in_one_line():
            check_report_dirs(session.margins.values())
        files = []
        for plan_dir, margin in session.margins.items():
            if not session.is_pending(plan_dir) and is_current(margin):
                files.append(str(margin.files.report_state))
            else:
                session.do_before_jobs(None, margin)
                # The margin too, or Snakemake would be content with a page that is there already.
                files += [session.target(plan_dir), str(margin.files.report_page)]
        return files

    def existing_pages(self, wildcards: Any) -> list[str]:
        """Return the pages that there are, if Snakemake only describes what there is."""
        if not self._session.only_describes:
            return []
        pages = [margin.files.report_page for margin in self._session.margins.values()]
        return [str(page) for page in pages if page.exists()]

    def sources(self, wildcards: Any) -> list[str]:
        """Return the files that a report is drawn from: its margin, and an audit if any."""
        plan_dir, margin = self._find(wildcards)
        audits = [str(margin.files.audit_file)] if margin.files.audit_file.exists() else []
        return [self._session.target(plan_dir), *audits]

    def margin_name(self, wildcards: Any) -> str:
        return self._find(wildcards)[1].name

    def margin_file(self, wildcards: Any) -> str:
        return str(self._find(wildcards)[1].files.margin_file)

    def _find(self, wildcards: Any) -> tuple[str, Margin]:
        return next(
            (plan_dir, margin)
            for plan_dir, margin in self._session.margins.items()
            if str(margin.files.report_dir) == wildcards.report_dir
        )
