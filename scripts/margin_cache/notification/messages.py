"""What is said when a run ends, by mail and on the terminal."""

import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

from margin_cache.cluster.failures import cause, causes
from margin_cache.margin.disk_space import Place
from margin_cache.planning.forecast import Forecast
from margin_cache.storage.sizes import size_text
from margin_cache.storage.urls import is_url

_MAX_NAMES = 3  # of margins in a subject
_MAX_JOBS = 5  # failed jobs that are described
_MAX_CAUSES = 5  # lines on the terminal about failed jobs
_MAX_LINES, _MAX_LINE_LENGTH, _MAX_BYTES = 20, 500, 1 << 16  # of the end of a log
_INDENT = "    "
_ADVICE = (
    "What is done is kept. Correct the cause, then give the same command again, from the same "
    "directory, to go on."
)
_ADVICE_IF_STOPPED = (
    "What is done is kept; give the same command again, from the same directory, to go on."
)


class MarginReport(NamedTuple):
    """What is said about a margin; rows and files are None if they are not known.

    The order of cells is that of a coarse margin, None of an exact one.
    """

    name: str
    place: str
    catalog: str
    threshold: float  # [arcsec]
    is_complete: bool
    is_older: bool  # complete before the run
    rows: int | None = None
    files: int | None = None
    cell_order: int | None = None


class FailedJob(NamedTuple):
    """What is said about a failed job.

    The reason is the executor's and can be empty; memory in MB and minutes are what the job had
    asked for, 0 if that is not known.
    """

    rule: str
    wildcards: Mapping[str, str]
    logs: Sequence[str]
    reason: str = ""
    memory_mb: float = 0
    minutes: float = 0


def margins_to_make(margins: Iterable[MarginReport]) -> str:
    """Return the lines for the terminal about the margins that a run begins to make."""
    return "\n".join(
        f"making margin {margin.name} of {margin.catalog} {_reach(margin)} in "
        f"{margin.place.rpartition('/')[0] or '.'}"
        for margin in margins
    )


def forecast_lines(expected: Forecast) -> str:
    """Return the lines for the terminal about what a margin will take."""
    negative = expected.negative_pixels
    return (
        f"  {expected.partitions} partitions, {expected.destinations} pixels that can have margin "
        f"rows, of which {negative} negative\n"
        f"  {expected.map_jobs} map jobs, which read {size_text(expected.read)}, and "
        f"{expected.reduce_jobs} reduce jobs are to be done; the largest asks for "
        f"{expected.memory_mb} MB of memory\n"
        f"  about {expected.rows} rows and {size_text(expected.size)} are expected"
    )


def room_lines(places: Iterable[Place]) -> str:
    """Return the lines for the terminal about the room on disks."""
    return "\n".join(
        f"  {' and '.join(place.keys)}: about {size_text(place.needed)} are needed, "
        f"{size_text(place.free)} are free"
        + (", WHICH MAY BE TOO LITTLE" if place.needed > place.free else "")
        for place in places
    )


def finished_margins(margins: Iterable[MarginReport]) -> str:
    """Return the lines for the terminal about the margins of a run that has succeeded."""
    return "\n".join(
        f"{margin.place}: {margin.rows} rows in {margin.files} files, {_reach(margin)}"
        for margin in margins
        if margin.rows is not None
    )


def _reach(margin: MarginReport) -> str:
    """Say how far from pixels the rows of their margins are."""
    within = f"within {margin.threshold:g} arcsec"
    if margin.cell_order is None:
        return within
    return f"all {within} and others, by cells of order {margin.cell_order}"


def failure_summary(
    logs: Iterable[str], failed: Iterable[FailedJob] = (), stopped_by: Sequence[str] = ()
) -> str:
    """Return the lines for the terminal about a run that has failed or was stopped.

    Args:
        logs: Snakemake's own, whose errors are repeated.
        failed: the jobs that have failed.
        stopped_by: names of the signals that have stopped the run; jobs may have failed of them.
    """
    text = "\n".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    errors = [line.rstrip() for line in text.splitlines() if line.startswith("error: ")]
    of_jobs = [cause(job.rule, job.reason, job.logs, job.memory_mb, job.minutes) for job in failed]
    if stopped_by:
        own = [line for line in of_jobs if line in errors]
        return "\n".join([*dict.fromkeys(own), stopped(stopped_by[0])])
    found = causes(line for line in of_jobs if line)
    named = {line for line in of_jobs if line}
    lines = [*found, *(line for line in dict.fromkeys(errors) if line not in named)]
    more = len(lines) - _MAX_CAUSES
    if more > 0:
        lines = [*lines[:_MAX_CAUSES], f"error: there are {more} more; the log names them"]
    unknown = "error: a job failed; its log, which stands above or is named there, says more"
    return "\n".join([_ADVICE, *(lines or [unknown])])


def stopped(signal: str) -> str:
    """Return the last line of a run that a signal has stopped."""
    return f"stopped by {signal}. {_ADVICE_IF_STOPPED}"


def success_message(margins: Sequence[MarginReport], details: str) -> EmailMessage:
    """Return the mail about a run that has succeeded, without its addresses."""
    complete = [margin for margin in margins if margin.is_complete]
    subject = f"done: {_names(complete)}" if complete else "run done, none made"
    return _message(subject, ["The run is done.", *map(_describe_margin, margins), details])


def failure_message(
    margins: Sequence[MarginReport],
    failed: Sequence[FailedJob],
    command: str,
    details: str,
    stopped_by: Sequence[str] = (),
) -> EmailMessage:
    """Return the mail about a run that has failed or was stopped, without its addresses."""
    incomplete = [margin for margin in margins if not margin.is_complete]
    rules = ", ".join(dict.fromkeys(job.rule for job in failed))
    what = f"The run has failed. {_ADVICE}"
    if stopped_by:
        what = f"The run was stopped by {stopped_by[0]}. {_ADVICE_IF_STOPPED}"
    parts = [what, indent(command, _INDENT)]
    parts += map(_describe_job, failed[:_MAX_JOBS])
    if not failed:
        parts.append("No job has failed by itself: the run was stopped.")
    elif len(failed) > _MAX_JOBS:
        parts.append(f"{len(failed) - _MAX_JOBS} more jobs have failed.")
    subject = f"failed: {_names(incomplete or margins)}" + (f" in {rules}" if rules else "")
    return _message(subject, [*parts, *map(_describe_margin, margins), details])


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
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)


def _message(subject: str, parts: Iterable[str]) -> EmailMessage:
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))  # which every server accepts
    message["Subject"] = " ".join(printable(f"Margin cache {subject}").split())
    message.set_content(printable("\n\n".join(parts)) + "\n")
    return message


def _names(margins: Sequence[MarginReport]) -> str:
    names = ", ".join(margin.name for margin in margins[:_MAX_NAMES])
    more = len(margins) - _MAX_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _section(title: str, lines: Iterable[str]) -> str:
    return f"{title}\n" + indent("\n".join(lines), _INDENT)


def _in_full(place: str) -> str:
    return place if is_url(place) else str(Path(place).absolute())


def _describe_margin(margin: MarginReport) -> str:
    lines = [
        f"output: {_in_full(margin.place)}",
        f"input: {_in_full(margin.catalog)}",
        f"threshold: {margin.threshold:g} arcsec",
    ]
    if margin.cell_order is not None:
        lines.append(f"coarse, by cells of order {margin.cell_order}: rows beyond it as well")
    if margin.rows is not None:
        lines += [f"rows: {margin.rows}", f"files: {margin.files}"]
    if margin.is_older:
        lines.append("made by an earlier run")
    state = "" if margin.is_complete else ", which is not finished"
    return _section(f"Margin {margin.name}{state}", lines)


def _describe_job(job: FailedJob) -> str:
    lines = [f"{name}: {value}" for name, value in job.wildcards.items()]
    if job.reason:
        lines.append(f"message: {' '.join(job.reason.split())}")
    lines += [_section(f"end of {log}:", _last_lines(log)) for log in dict.fromkeys(job.logs)]
    return _section(f"Failed: rule {job.rule}", lines)


def _last_lines(log: str) -> list[str]:
    try:
        with Path(log).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _MAX_BYTES, 0))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError as error:
        return [f"({error.strerror})"]
    lines = [line[:_MAX_LINE_LENGTH] for line in lines if line.strip()]
    return lines[-_MAX_LINES:] or ["(nothing)"]
