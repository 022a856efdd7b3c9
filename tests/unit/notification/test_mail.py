"""A mail is sent safely and in limited time; every failure is one line of warning."""

import io
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest
from margin_cache import notification
from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings, SmtpSettings
from support.smtp_server import (
    ALL,
    HERE,
    PASSWORD,
    SHORT,
    SPARE,
    USER,
    assert_is_one_warning,
    free_port,
    mail_server,
    make_certificate,
    mute,
    mute_once_the_mail_is_there,
    odd_server,
)

# aiosmtpd does not know that a line is encrypted from the start, or that it stays on one machine.
without_tls = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"), f"subjectAltName=IP:{HERE}")


@pytest.fixture
def trusted(certificate, monkeypatch):
    """The certificate, which the machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@pytest.fixture(autouse=True)
def without_login(monkeypatch):
    for name in (SMTP_USER, SMTP_PASSWORD):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv(SMTP_USER, USER)
    monkeypatch.setenv(SMTP_PASSWORD, PASSWORD)


@pytest.fixture
def send(capsys) -> Callable[..., str]:
    """A function that sends a message and returns what is printed."""

    def send(text: str = "Grüße, ☆", recipients: tuple[str, ...] = ALL, **server) -> str:
        settings = MailSettings(recipients, SmtpSettings(**{"host": HERE, "port": 25, **server}))
        login = notification.take_login(dict(os.environ))
        notification.notify(settings, notification.mail("done: small", [text]), login)
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return send


def test_mail_is_sent_unencrypted_without_security(send):
    with mail_server() as (inbox, server):
        assert send(**server, sender="me@example.org") == ""
    (received,) = inbox.mails
    assert received.recipients == list(ALL)
    assert received.message["From"] == "me@example.org"
    assert received.message["Message-ID"].endswith("@example.org>")
    assert received.message["Subject"] == "Margin cache done: small"
    assert received.text.splitlines()[-1] == "Grüße, ☆"
    assert not received.encrypted
    assert received.user is None


def test_mail_has_all_headers_that_servers_expect_and_no_others(send):
    with mail_server() as (inbox, server):
        assert send("Bcc: evil@example.org\r\n", **server) == ""
    (received,) = inbox.mails
    assert set(received.message) == {
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert received.message["To"] == "one@example.org, two@example.org"


def test_mail_has_short_lines_of_ascii_characters(send):
    recipients = tuple(f"number.{number}@example.org" for number in range(120))
    with mail_server() as (inbox, server):
        assert send("☆" * 5000, recipients, **server) == ""
    (received,) = inbox.mails
    assert received.recipients == list(recipients)
    assert received.content.isascii()
    assert max(map(len, received.content.split(b"\r\n"))) < 999


@pytest.mark.parametrize("key", ["sender", "recipients"])
def test_mail_with_a_newline_in_an_address_is_not_sent(send, key):
    evil = "one@example.org\nBcc: evil@example.org"
    with mail_server() as (inbox, server):
        warning = send(**{**server, key: evil if key == "sender" else (evil,)})
    assert_is_one_warning(warning.replace(evil, ""), "linefeed")
    assert not inbox.mails


def test_sender_is_named_after_the_machine(send, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda *_: "sky.example.org")
    with mail_server() as (inbox, server):
        assert send(**server) == ""
    assert inbox.mails[0].message["From"] == "margin-cache@sky.example.org"


@without_tls
@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_mail_is_sent_encrypted_and_with_a_login(send, trusted, login, security):
    with mail_server(certificate=trusted, security=security, login=True) as (inbox, server):
        assert send(**server) == ""
    (received,) = inbox.mails
    assert received.encrypted or security == "ssl"
    assert received.user == USER.encode()


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_self_signed_certificate_is_refused(send, certificate, security):
    with mail_server(certificate=certificate, security=security) as (inbox, server):
        assert_is_one_warning(send(**server), "certificate", "self-signed")
    assert not inbox.mails


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_certificate_of_another_host_is_refused(send, tmp_path, monkeypatch, security):
    other = make_certificate(tmp_path, "subjectAltName=DNS:other.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with mail_server(certificate=other, security=security) as (inbox, server):
        assert_is_one_warning(send(**server), "certificate", f"not valid for '{HERE}'")
    assert not inbox.mails


def test_nothing_is_sent_unencrypted_if_encryption_is_requested(send, login):
    with mail_server() as (inbox, server):
        assert_is_one_warning(send(**{**server, "security": "starttls"}), "STARTTLS")
    assert not inbox.mails


@pytest.mark.parametrize(
    ("password", "reason"),
    [("another", "535"), ("geheimnisvöll", "codec")],
    ids=["wrong", "no ASCII"],
)
def test_refused_login_is_a_warning_without_the_login(
    send, trusted, login, monkeypatch, password, reason
):
    monkeypatch.setenv(SMTP_PASSWORD, password)
    with mail_server(certificate=trusted, security="starttls", login=True) as (inbox, server):
        warning = send(**server)
    assert_is_one_warning(warning, reason)
    for secret in (password, password[:6], "ö", USER):
        assert secret not in warning
    assert not inbox.mails


def test_server_without_login_is_a_warning_if_there_is_a_login(send, login):
    with mail_server() as (inbox, server):
        assert_is_one_warning(send(**server), "AUTH", "not supported")
    assert not inbox.mails


@without_tls
def test_password_is_sent_unencrypted_to_this_machine_only(send, login, monkeypatch):
    with mail_server(login=True) as (inbox, server):
        assert send(**server) == ""
        assert inbox.mails.pop().user == USER.encode()
        monkeypatch.setattr(socket.socket, "getpeername", lambda _: ("192.0.2.1", 25))
        warning = send(**server)
    assert_is_one_warning(warning, "unencrypted", "smtp.security", SMTP_PASSWORD)
    assert PASSWORD not in warning
    assert inbox.logins == [USER.encode()]
    assert not inbox.mails


@pytest.mark.parametrize("name", [SMTP_USER, SMTP_PASSWORD])
def test_half_a_login_is_a_warning(send, monkeypatch, name):
    monkeypatch.setenv(name, "hemi7")
    with mail_server() as (inbox, server):
        warning = send(**server)
    assert_is_one_warning(warning, f"only one of {SMTP_USER} and {SMTP_PASSWORD} is set")
    assert "hemi7" not in warning
    assert not inbox.mails


def test_login_is_not_shown_even_if_a_server_repeats_it(send, trusted, login):
    refusal = f"550 no mail from {USER} with {PASSWORD}\x1b[31m"
    with mail_server(
        certificate=trusted, security="starttls", login=True, refused=ALL, refusal=refusal
    ) as (_, server):
        warning = send(**server)
    assert_is_one_warning(warning, "550", "no mail from *** with ***")
    assert "\x1b" not in warning


def test_refused_recipients_are_named_and_the_others_get_the_mail(send):
    with mail_server(refused=ALL[:1]) as (inbox, server):
        warning = send(**server)
    assert_is_one_warning(warning, "one@example.org", "550", "no one@example.org here")
    assert "two@example.org" not in warning
    assert inbox.mails[0].recipients == [ALL[1]]
    with mail_server(refused=ALL) as (inbox, server):
        warning = send(**server)
    assert_is_one_warning(warning, "no one@example.org here", "no two@example.org here")
    assert not inbox.mails


def test_server_that_refuses_a_connection_is_a_warning(send):
    def turn_away(connection: socket.socket, stopped: threading.Event):
        connection.sendall(b"554 5.3.2 not today\r\n")

    with odd_server(turn_away) as port:
        assert_is_one_warning(send(port=port), "554", "5.3.2 not today", *ALL)


def test_server_that_is_down_is_a_warning(send):
    assert_is_one_warning(send(port=free_port()), HERE, "Connection refused", *ALL)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "-", "%"])
def test_host_that_does_not_exist_is_a_warning(send, host, monkeypatch):
    monkeypatch.setattr(notification, "TIMEOUT", SHORT)
    assert_is_one_warning(send(host=host), host)


@pytest.mark.parametrize("security", ["none", "starttls", "ssl"])
def test_mute_server_costs_limited_time(send, monkeypatch, security):
    monkeypatch.setattr(notification, "TIMEOUT", SHORT)
    with odd_server(mute) as port:
        start = time.monotonic()
        warning = send(port=port, security=security)
        took = time.monotonic() - start
    assert_is_one_warning(warning, "timed out")
    assert took < SHORT + SPARE


def test_mail_counts_as_sent_once_the_server_has_it(send, monkeypatch):
    monkeypatch.setattr(notification, "TIMEOUT", SHORT)
    start = time.monotonic()
    with odd_server(mute_once_the_mail_is_there) as port:
        assert send(port=port) == ""
    assert time.monotonic() - start < SHORT + SPARE


def test_warning_that_cannot_be_printed_does_no_harm(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    settings = MailSettings(ALL, SmtpSettings(HERE, free_port()))
    notification.notify(settings, notification.mail("", []), notification.Login())
