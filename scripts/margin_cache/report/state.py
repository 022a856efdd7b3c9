"""Whether a report is that of the margin and of the audit as they are."""

from collections.abc import Iterable
from pathlib import Path

from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin
from margin_cache.margin.paths import PROVENANCE, REPORT_LOG
from margin_cache.storage.files import file_digest, read_json

State = dict[str, str | None]


def state_of(margin: Margin) -> State:
    """Return what a report of a margin is made from, as digests."""
    files = {"margin": margin.files.output_dir / PROVENANCE, "audit": margin.files.audit_file}
    return {name: file_digest(path) if path.is_file() else None for name, path in files.items()}


def is_current(margin: Margin) -> bool:
    """Tell whether there is a report of a margin as it is."""
    files = margin.files
    return files.report_page.exists() and read_json(files.report_state) == state_of(margin)


def check_apart(margins: Iterable[Margin]) -> None:
    """Check that each margin has a place of its own for its report.

    Raises:
        MarginCacheError: two at different URLs have one, since they have the same name.
    """
    taken: dict[Path, str] = {}
    for margin in margins:
        other = taken.setdefault(margin.files.report_dir, margin.files.location)
        if other != margin.files.location:
            raise MarginCacheError(
                f"output_path: the reports of {other} and {margin.files.location} would both be "
                f"{margin.files.report_dir}; draw them in different working directories, or give "
                "one of the margins another output_artifact_name"
            )


def check_place(margin: Margin) -> None:
    """Check that a page in the place of a report is one, and not somebody's own.

    Raises:
        MarginCacheError: nothing says that a report was drawn there.
    """
    files = margin.files
    log = Path(REPORT_LOG.format(report_dir=files.report_dir))
    if files.report_page.exists() and not files.report_state.exists() and not log.exists():
        raise MarginCacheError(
            f"output_path: {files.report_page} is not a report of this workflow; move it away, or "
            "choose another place"
        )
