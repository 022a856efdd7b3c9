"""The mail at the end of a run. A failure to send it costs one line of warning and no run."""

import ipaddress
import platform
import shlex
import smtplib
import socket
import ssl
import sys
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import NamedTuple

from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings
from margin_cache.notification.messages import Job, MarginStatus

TIMEOUT = 30.0
"""Time limit for each answer of the server [s]."""

_MAX_NAMES = 3  # margins named in a subject


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


def _names(margins: Sequence[MarginStatus]) -> str:
    names = ", ".join(margin.name for margin in margins[:_MAX_NAMES])
    more = len(margins) - _MAX_NAMES
    return f"{names} and {more} more" if more > 0 else names


def resume_command(words: Sequence[str], start: Path | None) -> str:
    """Return the shell commands that repeat a command, in its directory if that is known."""
    return (f"cd {shlex.quote(str(start))}\n" if start else "") + shlex.join(words)


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
