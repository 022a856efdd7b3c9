"""Reports of finished margins: what the rules of `snakemake report` ask for."""

import json
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from margin_cache.margin.model import Margin
from margin_cache.margin.paths import FIGURE, FIGURES, REPORT_PAGE
from margin_cache.report.data import (
    check_report_dirs,
    is_current,
    read_audit_of_margin,
    sources_state,
)

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
            if not session.is_pending(plan_dir) and not self._state_to_draw(plan_dir):
                files.append(str(margin.files.report_state))
            else:
                # Snakemake would be content with a page that shows an earlier audit.
                if session.runs_jobs:
                    with session.errors_in_one_line():
                        margin.files.report_page.unlink(missing_ok=True)
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

    def drawn_from(self, wildcards: Any) -> str:
        """Return a parameter by which a dry run sees that a page is no longer current."""
        session, (plan_dir, _) = self._session, self._find(wildcards)
        is_known = session.is_main and not session.is_pending(plan_dir)
        return self._state_to_draw(plan_dir) if is_known else ""

    @cache  # noqa: B019  # one object lasts as long as the process
    def _state_to_draw(self, plan_dir: str) -> str:
        """Return the state of a finished margin that its page does not show; else nothing."""
        margin = self._session.margins[plan_dir]
        return "" if is_current(margin) else json.dumps(sources_state(margin))

    def sources(self, wildcards: Any) -> list[str]:
        """Return the file that a report waits for: that of its finished margin."""
        return [self._session.target(self._find(wildcards)[0])]

    def files(self, report: Callable[..., Any]) -> dict[str, Any]:
        """Return the page and the figures of a report; Snakemake's own report shows the figures.

        Args:
            report: Snakemake's flag for files that its report shows.
        """
        figures = {
            name: report(
                FIGURE.format(report_dir="{report_dir}", figure=name),
                caption=f"../report/{name}.rst",
                category=self.category,
                labels={"figure": title},
            )
            for name, title in FIGURES.items()
        }
        return {"page": REPORT_PAGE, **figures}

    def category(self, wildcards: Any) -> str:
        return self._category(self._find(wildcards)[0])

    @cache  # noqa: B019  # one object lasts as long as the process
    def _category(self, plan_dir: str) -> str:
        margin = self._session.margins[plan_dir]
        audit = read_audit_of_margin(margin)
        verdict = f"audit: {audit['verdict']}" if audit else "not audited"
        return f"Margin {margin.name} ({verdict})"

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
