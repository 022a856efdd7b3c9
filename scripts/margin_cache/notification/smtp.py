"""Sends a mail by SMTP. A failure costs one line of warning and no run."""

import ipaddress
import smtplib
import socket
import ssl
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import NamedTuple

from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings
from margin_cache.notification.messages import printable

TIMEOUT = 30.0
"""Time limit for each answer of the server [s]."""


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


def notify(settings: MailSettings, message: EmailMessage, login: Login = NO_LOGIN) -> None:
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
                f"{settings.host}, port {settings.port}: {reason}",
                file=sys.stderr,
            )


def _send(settings: MailSettings, message: EmailMessage, login: Login) -> None:
    message["From"] = settings.sender or f"margin-cache@{socket.getfqdn()}"
    message["To"] = ", ".join(settings.recipients)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=message["From"].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    context = ssl.create_default_context()
    host, port = settings.host, settings.port
    if settings.security == "ssl":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=context)
    else:
        smtp = smtplib.SMTP(host, port, timeout=TIMEOUT)
    try:
        assert smtp.sock is not None
        if settings.security == "starttls":
            smtp.starttls(context=context)
        peer = ipaddress.ip_address(smtp.sock.getpeername()[0])
        _log_in(smtp, login, is_private=settings.security != "none" or peer.is_loopback)
        refused = smtp.send_message(message)
        with suppress(OSError):  # the server has the mail
            smtp.quit()
    finally:
        smtp.close()
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)


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
    smtp.login(*login)
