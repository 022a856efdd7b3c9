"""The texts of a run: what it prints at its start and end, and the mail at its end."""

import platform
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from margin_cache.margin.disk_space import Place
from margin_cache.margin.existing_output import listing
from margin_cache.margin.model import Margin
from margin_cache.notification.failures import Job, cause, causes
from margin_cache.planning.forecast import Forecast
from margin_cache.storage.files import read_json, size_text
from margin_cache.storage.urls import is_url

_MAX_NAMES = 3  # margins named in a subject
_MAX_CAUSES = 5  # error lines on the terminal
_REPEAT = "repeat the same command in the same directory to continue."
_ADVICE = f"Completed work is kept. Fix the error, then {_REPEAT}"
_ADVICE_IF_STOPPED = f"Completed work is kept; {_REPEAT}"


@dataclass(frozen=True)
class MarginStatus:
    """The state of a margin when a run starts or ends.

    Attributes:
        location: its directory or URL.
        catalog: directory or URL of its catalog, or of the collection that holds the catalog.
        threshold: margin threshold in arcsec.
        was_complete: whether it was complete before the run.
        rows: number of its rows; None if unknown.
        files: number of its Parquet files; None if unknown.
        cell_order: order of the cells of a coarse margin; None for an exact one.
        format: ``hats`` or ``hipscat``.
        collection: directory or URL of the HATS collection that lists it; empty for none.
        is_default: whether it is the default margin of that collection.
    """

    name: str
    location: str
    catalog: str
    threshold: float
    is_complete: bool
    was_complete: bool
    rows: int | None = None
    files: int | None = None
    cell_order: int | None = None
    format: str = "hats"
    collection: str = ""
    is_default: bool = False


def margin_status(margin: Margin, is_pending: bool = True) -> MarginStatus:
    """Return what is said about a margin; one that is not pending was complete before the run."""
    done, parameters, files = read_json(margin.done_file), margin.plan.parameters, margin.files
    info = parameters.catalog
    # The main process does not see what the finishing job has changed in a store.
    listed = done or listing(margin)
    return MarginStatus(
        name=margin.name,
        location=files.location,
        catalog=margin.settings.input_catalog_path,
        threshold=parameters.threshold,
        is_complete=done is not None or not is_pending,
        was_complete=not is_pending,
        rows=done["rows"] if done else None,
        files=done["files"] if done else None,
        cell_order=None if parameters.fine_filtering else parameters.margin_order,
        format=info.format,
        collection=listed["collection"],
        is_default=listed["is_default"],
    )


# --- the terminal --------------------------------------------------------------------------------


def making(margin: MarginStatus) -> str:
    """Return one line about a margin that a run is going to make."""
    directory = margin.location.rpartition("/")[0] or "."
    return f"making margin {margin.name} of {margin.catalog} {_extent(margin)} in {directory}"


def forecast_lines(expected: Forecast) -> str:
    """Return the lines about the cost of a margin."""
    outside = expected.negative_pixels
    return (
        f"  {expected.partitions} partitions; up to {expected.destinations} pixels get margin rows"
        + (f", {outside} of them outside the catalog\n" if outside else "\n")
        + f"  jobs to do: {expected.map_jobs} map (reading {size_text(expected.read)}), "
        f"{expected.reduce_jobs} reduce; the largest needs {expected.memory_mb} MB of memory\n"
        f"  about {expected.rows} rows and {size_text(expected.size)} are expected"
    )


def disk_space_lines(file_systems: Iterable[Place]) -> str:
    """Return one line for each file system that a run writes to."""
    return "\n".join(
        f"  {' and '.join(disk.keys)}: about {size_text(disk.needed)} are needed, "
        f"{size_text(disk.free)} are free"
        + (", WHICH MAY NOT BE ENOUGH" if disk.needed > disk.free else "")
        for disk in file_systems
    )


def nothing_to_do(margin: MarginStatus) -> str:
    """Return one line about a margin that was complete before the run."""
    rows = "" if margin.rows is None else f" ({margin.rows} rows)"
    return (
        f"margin {margin.name} is complete{rows} in {margin.location}: nothing to do. To make it "
        "again, use --forceall."
    )


def failure_summary(logs: Iterable[str], failed: Sequence[Job] = (), stopped_by: str = "") -> str:
    """Return the last lines of a run that has failed or was stopped by a signal."""
    text = "\n".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    logged = [line.rstrip() for line in text.splitlines() if line.startswith("error: ")]
    of_jobs = {line for line in map(cause, failed) if line}
    if stopped_by:
        errors = [line for line in dict.fromkeys(logged) if line in of_jobs]
        return "\n".join([*errors[:1], stopped(stopped_by)])
    errors = causes(failed)
    errors += [line for line in dict.fromkeys(logged) if line not in of_jobs]
    if len(errors) > _MAX_CAUSES:
        more = len(errors) - _MAX_CAUSES
        errors = [*errors[:_MAX_CAUSES], f"error: more errors are in the log: {more}"]
    unknown = "error: a job failed. See its log, which is printed or named above."
    return "\n".join([_ADVICE, *(errors or [unknown])])


def stopped(signal: str) -> str:
    """Return the last line of a run that was stopped by a signal."""
    return f"stopped by {signal}. {_ADVICE_IF_STOPPED}"


def finished_margins(margins: Iterable[MarginStatus]) -> list[str]:
    """Return the last lines of a successful run: where each margin is and how to open it."""
    lines = []
    for margin in margins:
        if margin.rows is None:
            continue
        amount = f"{counted(margin.rows, 'row')} in {counted(margin.files, 'file')}"
        lines.append(f"{margin.location}: {amount}, {_extent(margin)}")
        if margin.collection:
            role = ", as its default margin" if margin.is_default else ""
            lines.append(f"  listed in the collection {margin.collection}{role}")
        lines.append(f"  to open it in Python: {open_command(margin)}")
    return lines


def counted(number: int | None, noun: str, form: str = "") -> str:
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"


def open_command(margin: MarginStatus) -> str:
    """Return the Python call that opens a margin."""
    location = f'"{_absolute(margin.location)}"'
    if margin.format == "hipscat":
        return f"hipscat.read_from_hipscat({location})"
    if margin.collection:
        return f'lsdb.open_catalog("{_absolute(margin.collection)}", margin_cache="{margin.name}")'
    return f'lsdb.open_catalog("{_absolute(margin.catalog)}", margin_cache={location})'


def _extent(margin: MarginStatus) -> str:
    """Say within which distance of a pixel the rows of its margin are."""
    within = f"within {margin.threshold:g} arcsec"
    if margin.cell_order is None:
        return within
    return f"all rows {within} and some beyond (cells of order {margin.cell_order})"


# --- the mail ------------------------------------------------------------------------------------


def success_subject(margins: Sequence[MarginStatus], audits: Sequence[str]) -> str:
    """Return the subject of the mail about a successful run; ``audits`` are verdicts."""
    if audits:
        return "; ".join(audit.splitlines()[0] for audit in audits[:_MAX_NAMES])
    complete = [margin for margin in margins if margin.is_complete]
    return f"done: {_names(complete)}" if complete else "run done, no margin made"


def failure_subject(margins: Sequence[MarginStatus], failed: Sequence[Job]) -> str:
    """Return the subject of the mail about a run that has failed or was stopped."""
    incomplete = [margin for margin in margins if not margin.is_complete]
    rules = ", ".join(dict.fromkeys(job.rule for job in failed))
    return f"failed: {_names(incomplete or margins)}" + (f" in {rules}" if rules else "")


def mail(subject: str, parts: Iterable[str]) -> EmailMessage:
    """Return a mail without its addresses; each part is a paragraph."""
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))  # which every server accepts
    message["Subject"] = " ".join(printable(f"Margin cache {subject}").split())
    message.set_content(printable("\n\n".join(parts)) + "\n")
    return message


def resume_command(words: Sequence[str], start: Path | None) -> str:
    """Return the shell commands that repeat a command, in its directory if that is known."""
    return (f"cd {shlex.quote(str(start))}\n" if start else "") + shlex.join(words)


def run_details(seconds: float, logs: Iterable[str]) -> str:
    """Return the last lines of a mail: wall time, machine, directory and Snakemake's logs."""
    wall_time = timedelta(seconds=round(seconds))
    lines = [f"Wall time: {wall_time}", f"Host: {platform.node()}", f"Directory: {Path.cwd()}"]
    return "\n".join([*lines, *(f"Log: {log}" for log in logs)])


def printable(text: str) -> str:
    """Return a text with a question mark for each control character but newline and tab."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def _names(margins: Sequence[MarginStatus]) -> str:
    names = ", ".join(margin.name for margin in margins[:_MAX_NAMES])
    more = len(margins) - _MAX_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _absolute(location: str) -> str:
    return location if is_url(location) else str(Path(location).absolute())
