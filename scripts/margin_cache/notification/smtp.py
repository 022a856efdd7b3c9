"""Sends a mail by SMTP, in limited time. A failure costs one line of warning and no run."""

import ipaddress
import smtplib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import NamedTuple

from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings
from margin_cache.notification.messages import printable

DEADLINE = 30.0
"""Time limit for writing and sending a mail [s]."""

_QUIT_SECONDS = 2.0
"""Time for closing the connection once the server has the mail."""


class Login(NamedTuple):
    """User and password for the mail server; empty for a server without login."""

    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return "Login(***)"


NO_LOGIN = Login()


def take_login(environment: MutableMapping[str, str]) -> Login:
    """Remove user and password from an environment, so that no child process inherits them."""
    return Login(environment.pop(SMTP_USER, ""), environment.pop(SMTP_PASSWORD, ""))


def notify(
    settings: MailSettings, write: Callable[[], EmailMessage], login: Login = NO_LOGIN
) -> None:
    """Send a mail within ``DEADLINE`` seconds, or print one line of warning; raise nothing.

    A socket timeout limits neither a DNS lookup nor a server that sends single bytes slowly, so a
    daemon thread sends the mail and is abandoned when its time is up. ``write`` returns the mail
    without addresses.
    """
    accepted: Future[None] = Future()

    def work() -> None:
        try:
            _deliver(settings, write(), login, accepted)
        except BaseException as error:
            if not accepted.done():
                accepted.set_exception(error)

    try:
        thread = threading.Thread(target=work, name="mail", daemon=True)
        thread.start()
        accepted.result(DEADLINE)
        thread.join(_QUIT_SECONDS)
    except BaseException as error:
        with suppress(OSError, ValueError):  # stderr is closed
            print(f"warning: {_warning(settings, error, login)}", file=sys.stderr)


def _deliver(
    settings: MailSettings, message: EmailMessage, login: Login, accepted: Future[None]
) -> None:
    """Send a mail; report before the connection is closed, for which a server may take long."""
    message["From"] = settings.sender or f"margin-cache@{socket.getfqdn()}"
    message["To"] = ", ".join(settings.recipients)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=message["From"].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    context = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(settings.host, settings.port, timeout=DEADLINE, context=context)
        if settings.security == "ssl"
        else smtplib.SMTP(settings.host, settings.port, timeout=DEADLINE)
    ) as smtp:
        assert smtp.sock is not None
        if settings.security == "starttls":
            smtp.starttls(context=context)
        peer = ipaddress.ip_address(smtp.sock.getpeername()[0])
        _log_in(smtp, login, is_private=settings.security != "none" or peer.is_loopback)
        if refused := smtp.send_message(message):
            raise smtplib.SMTPRecipientsRefused(refused)
        accepted.set_result(None)


def _log_in(smtp: smtplib.SMTP, login: Login, is_private: bool) -> None:
    """Log in if there is a login, but send it over private connections only."""
    if not any(login):
        return
    if not all(login):
        raise smtplib.SMTPException(f"only one of {SMTP_USER} and {SMTP_PASSWORD} is set")
    if not is_private:
        raise smtplib.SMTPException(
            f"the password would be sent unencrypted. Set smtp.security, or unset {SMTP_PASSWORD}"
        )
    try:
        smtp.login(*login)
    except smtplib.SMTPResponseException as error:
        raise smtplib.SMTPException(f"the login was refused ({error.smtp_code})") from None
    except UnicodeError:
        raise smtplib.SMTPException("the login has characters that SMTP cannot send") from None


def _warning(settings: MailSettings, error: BaseException, login: Login) -> str:
    """Return one line that says who gets no mail and why, without the login."""
    recipients = settings.recipients
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            recipients = tuple(refused)
            reason = "; ".join(f"{to} was refused: {_answer(*refused[to])}" for to in refused)
        case smtplib.SMTPResponseException():
            reason = _answer(error.smtp_code, error.smtp_error)
        case TimeoutError():
            reason = f"no answer within {DEADLINE:g} s"
        case _:
            reason = getattr(error, "strerror", None) or str(error)
    for secret in filter(None, (login.password, login.user)):
        reason = reason.replace(secret, "***")
    reason = " ".join(printable(reason).split())[:500] or type(error).__name__
    server = f"{settings.host}, port {settings.port}"
    return f"no mail was sent to {', '.join(recipients)} by {server}: {reason}"


def _answer(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
