"""What a run tells its user: lines on the terminal, why jobs have failed, and a mail at its end."""

import ipaddress
import platform
import re
import shlex
import smtplib
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import NamedTuple

from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings
from margin_cache.margin.forecast import DiskSpace, Forecast
from margin_cache.margin.model import Margin
from margin_cache.storage.files import read_json, size_text
from margin_cache.storage.urls import is_url

# --- margins -------------------------------------------------------------------------------------


def making(margin: Margin, expected: Forecast) -> str:
    """Return the lines about a margin that a run is going to make, and what that takes."""
    catalog = margin.settings.input_catalog_path
    directory = margin.files.location.rpartition("/")[0] or "."
    outside = expected.negative_pixels
    jobs = f"{expected.reduce_jobs} reduce"
    if expected.map_jobs:
        jobs = f"{expected.map_jobs} map (reading {size_text(expected.read)}), {jobs}"
    return (
        f"making margin {margin.name} of {catalog} {_extent(margin)} in {directory}\n"
        f"  {expected.partitions} partitions; up to {expected.destinations} pixels get margin rows"
        + (f", {outside} of them outside the catalog\n" if outside else "\n")
        + f"  jobs to do: {jobs}\n"
        f"  about {expected.rows} rows and {size_text(expected.size)} are expected"
    )


def disk_space_lines(file_systems: Iterable[DiskSpace]) -> str:
    """Return one line for each file system that a run writes to."""
    return "\n".join(
        f"  {' and '.join(disk.keys)}: about {size_text(disk.needed)} are needed, "
        f"{size_text(disk.free)} are free"
        + (", WHICH MAY NOT BE ENOUGH" if disk.needed > disk.free else "")
        for disk in file_systems
    )


def nothing_to_do(margin: Margin) -> str:
    """Return one line about a margin that was complete before the run."""
    done = read_json(margin.done_file)
    rows = f" ({done['rows']} rows)" if done else ""
    return (
        f"margin {margin.name} is complete{rows} in {margin.files.location}: nothing to do. To "
        "make it again, use --forceall."
    )


def finished(margin: Margin) -> list[str]:
    """Return the last lines about a margin, where it is and how to open it; none without it."""
    done = read_json(margin.done_file)
    if done is None:
        return []
    amount = f"{counted(done['rows'], 'row')} in {counted(done['files'], 'file')}"
    lines = [f"{margin.files.location}: {amount}, {_extent(margin)}"]
    if done["collection"]:
        role = ", as its default margin" if done["is_default"] else ""
        lines.append(f"  listed in the collection {done['collection']}{role}")
    return [*lines, f"  to open it in Python: {open_command(margin, done['collection'])}"]


def counted(number: int, noun: str, form: str = "") -> str:
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"


def open_command(margin: Margin, collection: str) -> str:
    """Return the Python call that opens a margin, which a collection may list."""
    location, catalog, listing = (
        path if is_url(path) else str(Path(path).absolute())
        for path in (margin.files.location, margin.settings.input_catalog_path, collection)
    )
    if margin.plan.parameters.catalog.format == "hipscat":
        return f'hipscat.read_from_hipscat("{location}")'
    if collection:
        return f'lsdb.open_catalog("{listing}", margin_cache="{margin.name}")'
    return f'lsdb.open_catalog("{catalog}", margin_cache="{location}")'


def _extent(margin: Margin) -> str:
    """Say within which distance of a pixel the rows of its margin are."""
    parameters = margin.plan.parameters
    within = f"within {parameters.threshold:g} arcsec"
    if parameters.fine_filtering:
        return within
    return f"all rows {within} and some beyond (cells of order {parameters.margin_order})"


# --- failures ------------------------------------------------------------------------------------

_MAX_CAUSES = 5  # error lines on the terminal
_MAX_BYTES = 1 << 16  # read from the end of a log
_MAX_LENGTH = 500  # of a line

_REFUSAL = re.compile(
    r"sbatch failed\. The error message was '(.*?)'\.\s*(?:\n|$)"
    r"|Job submission failed with exception: (.*?)(?:For further error details|$)",
    re.DOTALL,
)
_STATE = re.compile(r"SLURM status is: +'?(\w+)")
_MEMORY = re.compile(
    r"oom.?kill|out.of.memory|exceeded (job|step)? ?memory|memory limit|MemoryError", re.IGNORECASE
)
_TIME = re.compile(r"due to time limit", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """A job of a run; what it has requested is 0 if unknown."""

    rule: str  # with the prefix that a module gives it
    wildcards: Mapping[str, str] = field(default_factory=dict)
    logs: tuple[str, ...] = ()  # that of its script first, then that of SLURM
    message: str = ""  # what the executor says about its failure
    memory_mb: float = 0
    minutes: float = 0


def failure_summary(logs: Iterable[str], failed: Sequence[Job] = (), stopped_by: str = "") -> str:
    """Return the last lines of a run that has failed or was stopped by a signal.

    Each cause is named once, with the number of its jobs if there are several.
    """
    causes = Counter(filter(None, map(cause, failed)))
    text = "\n".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    logged = dict.fromkeys(
        line.rstrip() for line in text.splitlines() if line.startswith("error: ")
    )
    if stopped_by:
        return "\n".join([*[line for line in logged if line in causes][:1], stopped(stopped_by)])
    errors = [f"{line} ({count} jobs)" if count > 1 else line for line, count in causes.items()]
    errors += [line for line in logged if line not in causes]
    if len(errors) > _MAX_CAUSES:
        more = len(errors) - _MAX_CAUSES
        errors[_MAX_CAUSES:] = [f"error: more errors are in the log: {more}"]
    advice = (
        "Completed work is kept. Fix the error, then repeat the same command in the same directory "
        "to continue."
    )
    unknown = "error: a job failed. See its log, which is printed or named above."
    return "\n".join([advice, *(errors or [unknown])])


def stopped(signal: str) -> str:
    """Return the last line of a run that was stopped by a signal."""
    return (
        f"stopped by {signal}. Completed work is kept; repeat the same command in the same "
        "directory to continue."
    )


def cause(job: Job) -> str:
    """Return one line, ``error: ...``, that says why a job failed; empty if nothing is known."""
    rule, message = job.rule, job.message
    lines = [line for log in dict.fromkeys(job.logs) for line in last_lines(log)]
    if errors := [line for line in lines if line.startswith("error: ")]:
        return errors[-1]
    if match := _REFUSAL.search(message):
        reason = " ".join((match[1] or match[2]).split())
        return f"error: {rule}: SLURM refused the job: {reason}"
    match = _STATE.search(message)
    state = match[1] if match else ""
    if state == "OUT_OF_MEMORY" or any(map(_MEMORY.search, lines)):
        requested = f" ({job.memory_mb:.0f} MB requested)" if job.memory_mb else ""
        return (
            f"error: {rule}: the job ran out of memory{requested}. Use "
            f"--set-resources {rule}:mem_mb={2 * job.memory_mb or 8000:.0f} to request more."
        )
    if state in ("TIMEOUT", "DEADLINE") or any(map(_TIME.search, lines)):
        requested = f" ({job.minutes:.0f} minutes requested)" if job.minutes else ""
        return (
            f"error: {rule}: the job ran out of time{requested}. Use "
            f"--set-resources {rule}:runtime={2 * job.minutes or 60:.0f} to request more, or make "
            "jobs smaller with job_size_mb."
        )
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return f"error: {rule}: the node of the job failed"
    if state == "CANCELLED":
        return f"error: {rule}: the job was cancelled, by scancel or by the cluster"
    if "MissingOutputException" in message:
        return (
            f"error: {rule}: the job succeeded, but its output files are not visible here. The "
            "catalog, output_path, tmp_dir and the working directory must be on a file system "
            "that all nodes share. If it is slow, use a longer --latency-wait."
        )
    if lines:
        return f"error: {rule}: the job failed; last line of its log: {lines[-1]}"
    if state:
        return (
            f"error: {rule}: the job failed ({state}) and wrote no log. Check that the nodes see "
            f"the working directory {Path.cwd()} and the Python that started this run."
        )
    reason = " ".join(message.partition("For further error details")[0].split())
    return f"error: {rule}: the job failed: {reason[:_MAX_LENGTH]}" if reason else ""


def last_lines(log: str) -> list[str]:
    """Return the last lines of a log, without the blank ones; none if the file is missing."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(file.seek(0, 2) - _MAX_BYTES, 0))
            lines = file.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line[:_MAX_LENGTH] for line in lines if line.strip()]


# --- mail ----------------------------------------------------------------------------------------

TIMEOUT = 30.0
"""Time limit for each answer of the server [s]."""

_MAX_NAMES = 3  # margins named in a subject


def success_subject(made: Sequence[str], audits: Sequence[str]) -> str:
    """Return the subject of the mail about a successful run, from names of margins and verdicts."""
    if audits:
        return "; ".join(audit.splitlines()[0] for audit in audits[:_MAX_NAMES])
    return f"done: {_names(made)}" if made else "run done, no margin made"


def failure_subject(incomplete: Sequence[str], failed: Sequence[Job]) -> str:
    """Return the subject of the mail about a run that has failed or was stopped."""
    rules = ", ".join(dict.fromkeys(job.rule for job in failed))
    return f"failed: {_names(incomplete)}" + (f" in {rules}" if rules else "")


def _names(margins: Sequence[str]) -> str:
    more = len(margins) - _MAX_NAMES
    return ", ".join(margins[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def resume_command(words: Sequence[str]) -> str:
    """Return the shell commands that repeat a command in the present directory."""
    names_directory = any(word.startswith(("-d", "--directory")) for word in words)
    start = "" if names_directory else f"cd {shlex.quote(str(Path.cwd()))}\n"
    return start + shlex.join(words)


def run_details(seconds: float, logs: Iterable[str]) -> str:
    """Return the last lines of a mail: wall time, machine, directory and Snakemake's logs."""
    wall_time = timedelta(seconds=round(seconds))
    lines = [f"Wall time: {wall_time}", f"Host: {platform.node()}", f"Directory: {Path.cwd()}"]
    return "\n".join([*lines, *(f"Log: {log}" for log in logs)])


def mail(subject: str, parts: Iterable[str]) -> EmailMessage:
    """Return a mail without its addresses; each part is a paragraph."""
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))  # which every server accepts
    message["Subject"] = " ".join(printable(f"Margin cache {subject}").split())
    message.set_content(printable("\n\n".join(parts)) + "\n")
    return message


def printable(text: str) -> str:
    """Return a text with a question mark for each control character but newline and tab."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


class Login(NamedTuple):
    """User and password for the mail server; empty for a server without login."""

    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return "Login(***)"


def take_login(environment: MutableMapping[str, str]) -> Login:
    """Remove user and password from an environment, so that no child process inherits them."""
    return Login(environment.pop(SMTP_USER, ""), environment.pop(SMTP_PASSWORD, ""))


def notify(settings: MailSettings, message: EmailMessage, login: Login) -> None:
    """Send a mail that has no addresses yet, or print one line of warning."""
    try:
        _send(settings, message, login)
    except (OSError, ValueError, KeyboardInterrupt) as error:
        recipients = getattr(error, "recipients", settings.recipients)  # those that were refused
        reason = str(error) or type(error).__name__
        for secret in filter(None, (login.password, login.user)):
            reason = reason.replace(secret, "***")
        reason = " ".join(printable(reason).split())[:500]
        with suppress(OSError, ValueError):  # stderr is closed
            print(
                f"warning: no mail was sent to {', '.join(recipients)} by "
                f"{settings.server.host}, port {settings.server.port}: {reason}",
                file=sys.stderr,
            )


def _send(settings: MailSettings, message: EmailMessage, login: Login) -> None:
    server = settings.server
    message["From"] = server.sender or f"margin-cache@{socket.getfqdn()}"
    message["To"] = ", ".join(settings.recipients)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=message["From"].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    context = ssl.create_default_context()
    address = server.host, server.port or 0
    if server.security == "ssl":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(*address, timeout=TIMEOUT, context=context)
    else:
        smtp = smtplib.SMTP(*address, timeout=TIMEOUT)
    try:
        assert smtp.sock is not None
        if server.security == "starttls":
            smtp.starttls(context=context)
        if any(login):
            peer = ipaddress.ip_address(smtp.sock.getpeername()[0])
            if not all(login):
                raise ValueError(f"only one of {SMTP_USER} and {SMTP_PASSWORD} is set")
            if server.security == "none" and not peer.is_loopback:
                raise ValueError(
                    "the password would be sent unencrypted. Set smtp.security, or unset "
                    f"{SMTP_PASSWORD}"
                )
            smtp.login(*login)
        refused = smtp.send_message(message)
        with suppress(OSError):  # the server has the mail
            smtp.quit()
    finally:
        smtp.close()
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)
