"""Reports of finished margins: what the rules of `snakemake report` ask for."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import save_margin
from margin_cache.margin.paths import FIGURE, FIGURES, REPORT_PAGE
from margin_cache.report.data import read_audit_of_margin
from margin_cache.run.session import Session, errors_in_one_line


class Reports:
    """The reports of a run, one of each margin of the configuration."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._margins = {
            str(margin.files.report_dir): margin for margin in session.margins.values()
        }

    def pages(self, wildcards: Any) -> list[str]:
        """Return the files that a run with the target `report` is done with.

        Pages are drawn again: their margins may have changed, or may have been audited since.
        """
        session = self._session
        if session.only_describes:
            return [*session.targets(wildcards), *self.existing_pages(wildcards)]
        session.announce()
        files: list[str] = []
        with errors_in_one_line():
            for plan_dir, margin in session.margins.items():
                page = margin.files.report_page
                if str(page) in files:
                    raise MarginCacheError(
                        f"output_path: several reports would be written to {page}. Draw them in "
                        "different working directories."
                    )
                if session.runs_jobs:
                    page.unlink(missing_ok=True)
                session.do_before_jobs(partial(save_margin, margin))
                # The margin too: Snakemake would be content with a page that is there already.
                files += [session.target(plan_dir), str(page)]
        return files

    def existing_pages(self, wildcards: Any) -> list[str]:
        """Return the pages that there are, if Snakemake only describes what there is."""
        if not self._session.only_describes:
            return []
        pages = [margin.files.report_page for margin in self._session.margins.values()]
        return [str(page) for page in pages if page.exists()]

    def drawn_at(self, wildcards: Any) -> str:
        """Return a parameter by which a dry run sees that a page is drawn again."""
        return "" if self._session.only_describes else str(time.time())

    def sources(self, wildcards: Any) -> list[str]:
        """Return the file that a report waits for: that of its finished margin."""
        margin = self._margins[wildcards.report_dir]
        return [self._session.target(str(margin.files.plan_dir))]

    def files(self, report: Callable[..., Any]) -> dict[str, Any]:
        """Return the page and the figures of a report, which Snakemake's ``report`` flags."""
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
        margin = self._margins[wildcards.report_dir]
        audit = read_audit_of_margin(margin)
        verdict = f"audit: {audit['verdict']}" if audit else "not audited"
        return f"Margin {margin.name} ({verdict})"

    def margin_name(self, wildcards: Any) -> str:
        return self._margins[wildcards.report_dir].name

    def margin_file(self, wildcards: Any) -> str:
        return str(self._margins[wildcards.report_dir].files.margin_file)
