"""A mail when a run ends: what it says, and how it is sent.

A mail is a courtesy. Whatever becomes of it, the run's exit code stays as it is, and the run ends
at most ``DEADLINE`` seconds later than without.
"""

import ipaddress
import logging
import os
import platform
import queue
import shlex
import smtplib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings
from margin_cache.config.validation import DOMAIN
from margin_cache.stages.margin import Margin
from margin_cache.storage.files import read_json

DEADLINE = 30.0
"""Time for all that a mail takes, from looking the server up to its last answer [s]."""

_GOODBYE_TIME = 2.0
"""The most of it that is left for the leave of a server that has taken the mail [s]."""

_MOST_NAMES = 3
"""Most names of margins in a subject."""

_MOST_JOBS = 5
"""Most failed jobs that a mail describes."""

_LOG_LINES = 20
"""Last lines of a log that a mail quotes."""

_LOG_BYTES = 1 << 16
"""The most that is read of the end of a log."""

_LINE_LENGTH = 500
"""The most that is quoted of a line."""


@dataclass(frozen=True)
class Letter:
    """What a mail says."""

    subject: str
    text: str


@dataclass(frozen=True)
class MarginReport:
    """What a mail tells of one margin.

    Attributes:
        name: its name.
        place: its directory.
        catalog: directory of the primary catalog.
        threshold: margin threshold in arcsec.
        is_complete: whether it stands in its place.
        is_older: whether it already did when the run started.
        rows: number of its rows, if known.
        files: number of its Parquet files, if known.
    """

    name: str
    place: Path
    catalog: Path
    threshold: float
    is_complete: bool
    is_older: bool
    rows: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class RunReport:
    """What a mail tells of a run.

    Attributes:
        margins: its margins.
        seconds: how long it took.
        command: the command that started it.
        start: the directory that it was started in, if known.
        logs: Snakemake's log files.
    """

    margins: Sequence[MarginReport]
    seconds: float
    command: Sequence[str]
    start: Path | None
    logs: Sequence[str]


@dataclass(frozen=True)
class FailedJob:
    """What a mail tells of a job that has failed.

    Attributes:
        rule: name of its rule.
        wildcards: its wildcards.
        logs: its log files.
        message: what the executor says about it, which can be nothing.
    """

    rule: str
    wildcards: Mapping[str, str]
    logs: Sequence[str]
    message: str = ""


class ErrorRecords(logging.Handler):
    """Keeps what Snakemake logs about failed jobs.

    A cluster's own log of a job and its reasons to end it stand nowhere else.

    Attributes:
        by_job: the last record of each job, by the job's number.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.by_job: dict[int, logging.LogRecord] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record if it tells of a failed job."""
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            self.by_job[record.jobid] = record


def margin_report(margin: Margin, is_pending: bool) -> MarginReport:
    """Return what a mail tells of a margin.

    Args:
        margin: the margin.
        is_pending: whether it was not complete when the run started.
    """
    made = read_json(margin.done_file)
    return MarginReport(
        name=margin.name,
        place=margin.files.output_dir.absolute(),
        catalog=Path(margin.settings.input_catalog_path).absolute(),
        threshold=margin.settings.margin_threshold,
        is_complete=made is not None or not is_pending,
        is_older=not is_pending,
        rows=made["rows"] if made else None,
        files=made["files"] if made else None,
    )


def failed_job(
    rule: str, wildcards: Mapping[str, str], logs: Sequence[str], record: logging.LogRecord | None
) -> FailedJob:
    """Return what a mail tells of a failed job.

    Args:
        rule: name of its rule.
        wildcards: its wildcards.
        logs: its log files.
        record: what Snakemake has logged about it, if anything.
    """
    more = [str(log) for log in getattr(record, "log", None) or []]
    return FailedJob(
        rule=rule,
        wildcards=dict(wildcards),
        logs=list(dict.fromkeys([*map(str, logs), *more])),
        message=str(getattr(record, "rule_msg", None) or ""),
    )


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command that a process was started with.

    Args:
        arguments: its sys.argv.
    """
    program, *others = arguments
    if Path(program).name == "__main__.py":
        return [sys.executable, "-m", Path(program).parent.name, *others]
    return [program, *others]


def success_letter(run: RunReport) -> Letter:
    """Write that a run has done what it was asked for."""
    made = [margin for margin in run.margins if margin.is_complete]
    subject = f"Margin cache done: {_names(made)}" if made else "Margin cache: run done, none made"
    return Letter(
        subject,
        "\n\n".join(["The run is done.", *map(_describe_margin, run.margins), _describe_run(run)]),
    )


def failure_letter(run: RunReport, failed: Sequence[FailedJob]) -> Letter:
    """Write that a run has failed, where, and how to go on."""
    unmade = [margin for margin in run.margins if not margin.is_complete]
    rules = ", ".join(dict.fromkeys(job.rule for job in failed))
    subject = f"Margin cache failed: {_names(unmade or run.margins)}"
    where = f"    cd {shlex.quote(str(run.start))}\n" if run.start else ""
    again = "again" if run.start else "again, from where it was given,"
    parts = [
        "The run has failed. What is done is kept. "
        f"Once the cause is gone, give the same command {again} to go on:",
        f"{where}    {shlex.join(run.command)}",
        *map(_describe_job, failed[:_MOST_JOBS]),
    ]
    if not failed:
        parts.append("No job has failed by itself: the run was stopped.")
    if len(failed) > _MOST_JOBS:
        parts.append(f"{len(failed) - _MOST_JOBS} more jobs have failed.")
    parts += [*map(_describe_margin, run.margins), _describe_run(run)]
    return Letter(f"{subject} in {rules}" if rules else subject, "\n\n".join(parts))


def _names(margins: Sequence[MarginReport]) -> str:
    names = ", ".join(margin.name for margin in margins[:_MOST_NAMES])
    more = len(margins) - _MOST_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _describe_margin(margin: MarginReport) -> str:
    lines = [
        f"Margin {margin.name}" + ("" if margin.is_complete else ", which is not finished"),
        f"    place: {margin.place}",
        f"    input: {margin.catalog}",
        f"    threshold: {margin.threshold:g} arcsec",
    ]
    if margin.rows is not None:
        lines += [f"    rows: {margin.rows}", f"    files: {margin.files}"]
    if margin.is_older:
        lines.append("    made by an earlier run")
    return "\n".join(lines)


def _describe_run(run: RunReport) -> str:
    lines = [
        f"Wall time: {timedelta(seconds=round(run.seconds))}",
        f"Host: {platform.node()}",
        f"Directory: {Path.cwd()}",
        *(f"Log: {log}" for log in run.logs),
    ]
    return "\n".join(lines)


def _describe_job(job: FailedJob) -> str:
    lines = [f"Failed: rule {job.rule}"]
    lines += [f"    {name}: {value}" for name, value in job.wildcards.items()]
    if job.message:
        lines.append(f"    message: {' '.join(job.message.split())}")
    for log in job.logs:
        lines += [f"    end of {log}:", *(f"        {line}" for line in _last_lines(Path(log)))]
    return "\n".join(lines)


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return [f"({error.strerror})"]
    lines = [line[:_LINE_LENGTH] for line in text.splitlines() if line.strip()]
    return lines[-_LOG_LINES:] or ["(nothing)"]


def compose(letter: Letter, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """Return a letter as a mail, in 7-bit characters, which every server takes.

    Args:
        letter: the letter. What cannot be printed is replaced in it.
        sender: address of the sender, checked.
        recipients: addresses of the recipients, checked.
    """
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    message["Subject"] = " ".join(_printable(letter.subject).split())
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_printable(letter.text) + "\n")
    return message


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)


def notify(settings: MailSettings | None, write: Callable[[], Letter | None]) -> None:
    """Send a letter; if that fails, say so in one line, and let nothing else be seen of it.

    Args:
        settings: whom to send it to and how; None to send nothing.
        write: returns the letter, or None if there is nothing to send.
    """
    if settings is None:
        return
    try:
        letter = write()
        problem = send(settings, letter) if letter else ""
    except (Exception, KeyboardInterrupt) as error:
        problem = _problem(settings, settings.recipients, error)
    if problem:
        with suppress(Exception):
            print(f"warning: {problem}", file=sys.stderr, flush=True)


def send(settings: MailSettings, letter: Letter) -> str:
    """Send a letter and wait for ``DEADLINE`` seconds at most.

    No time limit of a socket holds for a look-up of a name, nor for a server that sends a byte now
    and then. So the sending has a thread, which does not outlive the process.

    Args:
        settings: whom to send it to and how.
        letter: the letter.

    Returns:
        What went wrong, in one line; nothing if all went well.
    """
    outcomes: queue.SimpleQueue[str] = queue.SimpleQueue()

    def work() -> None:
        try:
            _deliver(settings, letter, outcomes.put)
        except Exception as error:
            outcomes.put(_problem(settings, settings.recipients, error))

    thread = threading.Thread(target=work, name="mail", daemon=True)
    end = time.monotonic() + DEADLINE
    thread.start()
    try:
        problem = outcomes.get(timeout=DEADLINE)
    except queue.Empty:
        late = TimeoutError(f"no end after {DEADLINE:g} s")
        return _problem(settings, settings.recipients, late)
    thread.join(min(_GOODBYE_TIME, max(end - time.monotonic(), 0.0)))
    return problem


def _deliver(settings: MailSettings, letter: Letter, report: Callable[[str], None]) -> None:
    """Hand a letter to the mail server; report what went wrong as soon as the server has it."""
    here = _domain_here()
    message = compose(letter, settings.sender or f"margin-cache@{here}", settings.recipients)
    with _connect(settings, here) as smtp:
        _log_in(smtp, settings)
        refused = smtp.send_message(message, message["From"], settings.recipients)
        report(
            _problem(settings, list(refused), smtplib.SMTPRecipientsRefused(refused))
            if refused
            else ""
        )
        smtp.sock.settimeout(_GOODBYE_TIME)


def _connect(settings: MailSettings, here: str) -> smtplib.SMTP:
    limit = DEADLINE + _GOODBYE_TIME  # of each step; the one on the whole comes first
    # A server may insist on a greeting by a full name or by an address.
    name = here if "." in here else "[127.0.0.1]"
    if settings.security == "none":
        return smtplib.SMTP(settings.host, settings.port, name, timeout=limit)
    context = ssl.create_default_context()
    if settings.security == "ssl":
        return smtplib.SMTP_SSL(settings.host, settings.port, name, timeout=limit, context=context)
    smtp = smtplib.SMTP(settings.host, settings.port, name, timeout=limit)
    try:
        smtp.starttls(context=context)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _log_in(smtp: smtplib.SMTP, settings: MailSettings) -> None:
    """Log in, if there is a user; never send a password to another machine unencrypted."""
    user, password = os.environ.get(SMTP_USER, ""), os.environ.get(SMTP_PASSWORD, "")
    if not user and not password:
        return
    if not user or not password:
        there, lacking = (SMTP_USER, SMTP_PASSWORD) if user else (SMTP_PASSWORD, SMTP_USER)
        raise smtplib.SMTPException(f"{there} is set, but {lacking} is not")
    if settings.security == "none" and not _is_loopback(smtp):
        raise smtplib.SMTPException(
            f"the password would go there unencrypted; set smtp.security, or unset {SMTP_PASSWORD}"
        )
    try:
        smtp.login(user, password)
    except smtplib.SMTPResponseException as error:
        raise smtplib.SMTPException(f"the login was refused ({error.smtp_code})") from None
    except ValueError:
        raise smtplib.SMTPException("the user or the password has odd characters") from None


def _is_loopback(smtp: smtplib.SMTP) -> bool:
    return ipaddress.ip_address(smtp.sock.getpeername()[0]).is_loopback


def _domain_here() -> str:
    name = socket.getfqdn()
    return name if DOMAIN.fullmatch(name) else "localhost"


def _decoded(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _problem(settings: MailSettings, recipients: Sequence[str], error: BaseException) -> str:
    """Say in one line whom no mail was sent to, and why."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        reason = "; ".join(
            f"{address} was refused: {code} {_decoded(text)}"
            for address, (code, text) in error.recipients.items()
        )
    elif isinstance(error, smtplib.SMTPResponseException):
        reason = f"{error.smtp_code} {_decoded(error.smtp_error)}"
    elif isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate: {error.verify_message}"
    elif isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException):
        reason = error.strerror or str(error)
    else:
        reason = str(error)
    for secret in (SMTP_PASSWORD, SMTP_USER):
        if os.environ.get(secret):
            reason = reason.replace(os.environ[secret], "***")
    reason = " ".join(_printable(reason).split())[:_LINE_LENGTH] or type(error).__name__
    return (
        f"no mail was sent to {', '.join(recipients)} by {settings.host}, "
        f"port {settings.port}: {reason}"
    )
