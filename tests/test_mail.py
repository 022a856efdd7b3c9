"""A run that ends sends one mail, and one that cannot be sent does no harm."""

import base64
import email.policy
import logging
import re
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from margin_cache.config.model import MailSettings
from margin_cache.config.validation import (
    SMTP_PASSWORD,
    SMTP_USER,
    mail_settings,
    settings_of_margins,
)
from margin_cache.errors import MarginCacheError
from margin_cache.notification import mail
from snakemake_interface_logger_plugins.common import LogEvent
from support.margins import tree_digest
from support.paths import ROOT
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
HERE = "127.0.0.1"
USER, PASSWORD = "mail-user-7f3a", "hunter2-s3cret"
ALL = ("one@example.org", "two@example.org")
LETTER = mail.Letter("Margin cache done: small", "The run is done.\n\nGrüße, ☆")
THRESHOLD = 60.0
NAME = "small_60arcs"
SHORT = 0.7  # a deadline for a server that does not answer [s]
SPARE = 5.0  # time that a busy machine may take on top of it [s]


# --- mail servers ----------------------------------------------------------------------------


@dataclass
class Received:
    """A mail as the server got it."""

    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    user: bytes | None

    @property
    def text(self) -> str:
        return self.message.get_content().replace("\r\n", "\n")


class Inbox:
    """What a server does with mails: it keeps them, but for those to some recipients."""

    def __init__(self, refused: tuple[str, ...] = ()):
        self.mails: list[Received] = []
        self.refused = refused

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return f"550 5.1.1 no {address} here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        user = session.auth_data.login if session.authenticated else None
        self.mails.append(Received(list(envelope.rcpt_tos), message, session.ssl is not None, user))
        return "250 2.0.0 kept"


def check_login(server, session, envelope, mechanism, data) -> AuthResult:
    return AuthResult(
        success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()),
        handled=False,
        auth_data=data,
    )


def free_port() -> int:
    with socket.create_server((HERE, 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def mail_server(
    *,
    certificate: Path | None = None,
    security: str = "none",
    login: bool = False,
    refused: tuple[str, ...] = (),
) -> Iterator[tuple[Inbox, dict[str, Any]]]:
    """A real mail server; yields its inbox and what `smtp` has to be."""
    inbox, port = Inbox(refused), free_port()
    options: dict[str, Any] = {"server_hostname": "mail.example.org"}
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        options["ssl_context" if security == "ssl" else "tls_context"] = context
        options["require_starttls"] = security == "starttls"
    if login:
        # With "ssl", aiosmtpd does not know that the line is encrypted.
        options |= {"auth_required": True, "authenticator": check_login}
        options["auth_require_tls"] = security == "starttls"
    controller = Controller(inbox, hostname=HERE, port=port, **options)
    controller.start()
    try:
        yield inbox, {"host": HERE, "port": port, "security": security}
    finally:
        controller.stop()


@contextmanager
def odd_server(talk: Callable[[socket.socket, threading.Event], Any]) -> Iterator[int]:
    """A server that handles each connection as told; yields its port."""
    stopped = threading.Event()

    def serve(connection: socket.socket):
        with connection:
            try:
                talk(connection, stopped)
                stopped.wait()
            except OSError:
                pass

    def accept():
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    with socket.create_server((HERE, 0)) as listener:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def mute(connection: socket.socket, stopped: threading.Event):
    """Never say anything."""


def dribble(connection: socket.socket, stopped: threading.Event):
    """Say a little all the time, so that no time limit of a socket is ever reached."""
    while not stopped.wait(0.05):
        connection.sendall(b"2")


def mute_once_the_mail_is_there(connection: socket.socket, stopped: threading.Event):
    """Do everything, but for an answer to QUIT."""
    connection.sendall(b"220 hello\r\n")
    in_data = False
    for line in connection.makefile("rb"):
        if in_data:
            if line == b".\r\n":
                in_data = False
                connection.sendall(b"250 kept\r\n")
        elif line.upper().startswith(b"QUIT"):
            return
        elif line.upper().startswith(b"DATA"):
            in_data = True
            connection.sendall(b"354 go on\r\n")
        else:
            connection.sendall(b"250 fine\r\n")


def make_certificate(directory: Path, names: str) -> Path:
    path = directory / "certificate.pem"
    public = directory / "public.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=mail -addext {names}"
    subprocess.run(
        [*command.split(), "-keyout", path, "-out", public], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + public.read_bytes())
    return path


@pytest.fixture(scope="session")
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


def settings_for(smtp: dict[str, Any] | str, recipients: tuple[str, ...] = ALL) -> MailSettings:
    config = {"completion_email_address": ", ".join(recipients), "smtp": smtp}
    settings = mail_settings(config, SCHEMA)
    assert settings is not None
    return settings


def assert_is_one_warning(problem: str, *words: str):
    assert len(problem.splitlines()) == 1
    for word in ("no mail was sent", *words):
        assert word in problem


# --- the configuration -----------------------------------------------------------------------


def refusal(config: dict[str, Any]) -> str:
    """The line that a configuration is refused with, by whatever reads it."""
    with pytest.raises(MarginCacheError) as caught:
        mail_settings(config, SCHEMA)
    with pytest.raises(MarginCacheError) as again:
        settings_of_margins(config, SCHEMA)
    message = str(caught.value)
    assert str(again.value) == message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("config", [{}, {"completion_email_address": ""}, {"smtp": {"port": 26}}])
def test_no_address_means_no_mail(config):
    assert mail_settings(config, SCHEMA) is None


def test_defaults_of_the_server():
    settings = mail_settings({"completion_email_address": "one@example.org"}, SCHEMA)
    assert settings == MailSettings(("one@example.org",), "localhost", 25, "none", "")


@pytest.mark.parametrize(("security", "port"), [("none", 25), ("starttls", 587), ("ssl", 465)])
def test_port_goes_by_the_security(security, port):
    assert settings_for({"security": security}).port == port
    assert settings_for({"security": security, "port": 2525}).port == 2525


@pytest.mark.parametrize("smtp", ["{port: 26}", {"port": "26"}])
def test_server_is_understood_as_snakemake_hands_it_on_from_the_command_line(smtp):
    assert settings_for(smtp).port == 26


def test_addresses_are_separated_by_commas_and_counted_once():
    text = "one@example.org,two@example.org ,  one@example.org, a.b+c@localhost"
    settings = mail_settings({"completion_email_address": text}, SCHEMA)
    assert settings.recipients == (*ALL, "a.b+c@localhost")


@pytest.mark.parametrize(
    "address",
    [
        "somebody",
        "one@example.org;two@example.org",
        "one@example.org two@example.org",
        "one@example.org,",
        ",",
        "One <one@example.org>",
        "one@@example.org",
        "one@-example.org",
        "one@example..org",
        ".one@example.org",
        "one@[127.0.0.1]",
        "ö@example.org",
        "one@example.org\n",
        "one@example.org\nBcc: two@example.org",
        "one@example.org\r\nBcc: two@example.org",
        "one@example.org,\ntwo@example.org",
        "one@example.org\u2028",
        "one\0@example.org",
        "one@example.org\r\nDATA",
        f"{'x' * 250}@example.org",
    ],
)
def test_what_is_no_address_is_refused(address):
    config = {"completion_email_address": address}
    assert refusal(config).startswith("completion_email_address: ")
    if "," not in address:
        assert refusal({"smtp": {"sender": address}}).startswith("smtp.sender: ")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"completion_email_address": "somebody"}, ('"somebody"', "is not an address", "commas")),
        ({"completion_email_address": None}, ("completion_email_address", "has no value")),
        ({"completion_email_address": ["a@example.org"]}, ("completion_email_address", "string")),
        ({"smtp": "mail.example.org"}, ("smtp", "object")),
        ({"smtp": None}, ("smtp", "has no value")),
        ({"smtp": {"host": ""}}, ("smtp.host", "empty")),
        ({"smtp": {"host": None}}, ("smtp.host", "has no value")),
        ({"smtp": {"host": "mail server"}}, ("smtp.host", '"mail server"', "host")),
        ({"smtp": {"host": "localhost\n"}}, ("smtp.host", "host")),
        ({"smtp": {"port": 0}}, ("smtp.port: 0", "least")),
        ({"smtp": {"port": 65536}}, ("smtp.port: 65536", "65535")),
        ({"smtp": {"port": "smtp"}}, ("smtp.port", "integer")),
        ({"smtp": {"port": "99999"}}, ("smtp.port: 99999", "65535")),
        ({"smtp": {"port": float("inf")}}, ("smtp.port",)),
        ({"smtp": {"security": "tls"}}, ("smtp.security", '"tls"', "none, starttls, ssl")),
        ({"smtp": {"security": False}}, ("smtp.security", "none, starttls, ssl")),
        ({"smtp": {"prot": 25}}, ("smtp.prot", "no such key", "port")),
        ({"margins": [{"smtp": {}}]}, ("margins[0]: smtp", "outside margins")),
        (
            {"margins": [{}, {"completion_email_address": ""}]},
            ("margins[1]: completion_email_address", "outside margins"),
        ),
    ],
)
def test_faulty_configuration_is_refused(config, words):
    try:
        message = refusal(config)
    except pytest.fail.Exception:  # mail_settings does not look at margins
        with pytest.raises(MarginCacheError) as caught:
            settings_of_margins(config, SCHEMA)
        message = str(caught.value)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "variable"), [("user", SMTP_USER), ("password", SMTP_PASSWORD), ("Pass", SMTP_PASSWORD)]
)
def test_secret_in_the_configuration_is_refused_and_not_repeated(key, variable):
    message = refusal({"smtp": {key: PASSWORD}})
    assert f"smtp.{key}" in message
    assert variable in message
    assert PASSWORD not in message


def test_mail_is_no_part_of_the_settings_of_a_margin():
    config = {"completion_email_address": "one@example.org", "smtp": {"port": 2525}}
    assert settings_of_margins(config, SCHEMA) == settings_of_margins({}, SCHEMA)


# --- what a mail says ------------------------------------------------------------------------


MARGIN = mail.MarginReport(
    "gaia_10arcs", Path("/out/gaia_10arcs"), Path("/sky/gaia"), 10.0, True, False, 1234, 56
)
UNMADE = mail.MarginReport("x_1arcs", Path("/out/x_1arcs"), Path("/sky/x"), 1.0, False, False)
RUN = mail.RunReport([MARGIN], 3725.4, ["snakemake", "--cores", "2"], Path("/a dir"), ["run.log"])


def test_mail_of_success_tells_what_was_made():
    letter = mail.success_letter(RUN)
    assert letter.subject == "Margin cache done: gaia_10arcs"
    for line in (
        "Margin gaia_10arcs",
        "    place: /out/gaia_10arcs",
        "    input: /sky/gaia",
        "    threshold: 10 arcsec",
        "    rows: 1234",
        "    files: 56",
        "Wall time: 1:02:05",
        f"Host: {socket.gethostname()}",
        "Log: run.log",
    ):
        assert line in letter.text.splitlines()


def test_mail_of_success_tells_apart_what_was_not_made():
    older = replace(MARGIN, name="older", is_older=True, rows=None, files=None)
    letter = mail.success_letter(replace(RUN, margins=[older, UNMADE]))
    assert letter.subject == "Margin cache done: older"
    assert "made by an earlier run" in letter.text
    assert "Margin x_1arcs, which is not finished" in letter.text
    assert (
        mail.success_letter(replace(RUN, margins=[UNMADE])).subject
        == "Margin cache: run done, none made"
    )


def test_subject_names_a_few_margins_only():
    margins = [replace(MARGIN, name=f"m{number}") for number in range(5)]
    letter = mail.success_letter(replace(RUN, margins=margins))
    assert letter.subject == "Margin cache done: m0, m1, m2 and 2 more"
    assert "Margin m4" in letter.text


def test_mail_of_failure_tells_where_and_how_to_go_on(tmp_path):
    log = tmp_path / "job.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff\x1b[31m\n")
    job = mail.FailedJob("map_partitions", {"work": "w", "job": "00000-ab"}, [str(log), "gone"])
    run = replace(RUN, margins=[MARGIN, UNMADE], command=["snakemake", "--config", "a=b c"])
    letter = mail.failure_letter(run, [job])
    assert letter.subject == "Margin cache failed: x_1arcs in map_partitions"
    lines = letter.text.splitlines()
    assert lines[2:4] == ["    cd '/a dir'", "    snakemake --config 'a=b c'"]
    for line in ("Failed: rule map_partitions", "    work: w", "    job: 00000-ab"):
        assert line in lines
    assert "        line 99" in lines
    assert "        line 80" not in lines
    assert "(No such file or directory)" in letter.text


def test_mail_of_failure_names_no_directory_that_is_not_known():
    letter = mail.failure_letter(replace(RUN, start=None), [])
    assert "    cd " not in letter.text
    assert "    snakemake --cores 2" in letter.text.splitlines()
    assert "the run was stopped" in letter.text


def test_mail_of_failure_stays_short_however_many_jobs_have_failed(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("x" * 10_000_000 + "\n" + "y" * 10_000_000)
    job = mail.FailedJob("map_partitions", {"job": "1"}, [str(log)])
    letter = mail.failure_letter(RUN, [job] * 1000)
    assert len(letter.text) < 10_000
    assert "995 more jobs have failed" in letter.text


def test_failed_job_has_the_logs_and_the_words_of_the_executor():
    handler = mail.ErrorRecords()
    logger = logging.Logger("snakemake-like")
    logger.addHandler(handler)
    logger.error("unrelated")
    logger.error(
        "Error in rule",
        extra={
            "event": LogEvent.JOB_ERROR,
            "jobid": 7,
            "log": ["job.log", "slurm.log"],
            "rule_msg": "SLURM status\nOUT_OF_MEMORY",
        },
    )
    assert set(handler.by_job) == {7}
    job = mail.failed_job("map", {"job": "1"}, ["job.log"], handler.by_job[7])
    assert job.logs == ["job.log", "slurm.log"]
    assert "    message: SLURM status OUT_OF_MEMORY" in mail.failure_letter(RUN, [job]).text
    assert mail.failed_job("map", {}, ["job.log"], None).logs == ["job.log"]


def test_command_is_the_one_that_was_given():
    assert mail.command_line(["/bin/snakemake", "-n"]) == ["/bin/snakemake", "-n"]
    module = ["/lib/snakemake/__main__.py", "-n"]
    assert mail.command_line(module) == [sys.executable, "-m", "snakemake", "-n"]


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n", "\u2028", "\x85", "\n\n"])
def test_nothing_that_a_mail_tells_gets_into_its_header(newline):
    evil = f"x{newline}Bcc: evil@example.org{newline}{newline}Body"
    letter = mail.success_letter(replace(RUN, margins=[replace(MARGIN, name=evil)]))
    content = mail.compose(letter, "sender@example.org", ALL).as_bytes()
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert set(message.keys()) == {
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
    assert message["To"] == "one@example.org, two@example.org"
    assert message["Subject"].startswith("Margin cache done: x")


@pytest.mark.parametrize("key", ["sender", "recipient"])
def test_mail_with_a_newline_in_an_address_cannot_be_composed(key):
    evil = "one@example.org\nBcc: evil@example.org"
    sender, recipient = (evil, ALL[0]) if key == "sender" else (ALL[0], evil)
    with pytest.raises(ValueError):
        mail.compose(LETTER, sender, [recipient])


def test_mail_has_short_lines_of_ascii_characters():
    odd = mail.Letter("☆" * 100, "é\udcff\x00\x1b[31m ☆\n" + "x" * 5000)
    content = mail.compose(odd, "sender@example.org", ALL * 60).as_bytes()
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) < 999
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert message.get_content().splitlines()[0] == "é???[31m ☆"


# --- how it is sent --------------------------------------------------------------------------


def test_mail_is_sent_in_the_clear_without_security():
    with mail_server() as (inbox, smtp):
        assert mail.send(settings_for({**smtp, "sender": "me@example.org"}), LETTER) == ""
    (received,) = inbox.mails
    assert received.recipients == list(ALL)
    assert received.message["From"] == "me@example.org"
    assert received.message["Subject"] == LETTER.subject
    assert received.text.rstrip() == LETTER.text
    assert not received.encrypted
    assert received.user is None


@pytest.mark.parametrize("name", ["sky.example.org", "bad name\nBcc: x@example.org", ""])
def test_sender_is_named_after_the_machine_if_that_makes_an_address(monkeypatch, name):
    monkeypatch.setattr(mail.socket, "getfqdn", lambda *_: name)
    with mail_server() as (inbox, smtp):
        assert mail.send(settings_for(smtp), LETTER) == ""
    host = name if name == "sky.example.org" else "localhost"
    assert inbox.mails[0].message["From"] == f"margin-cache@{host}"
    assert "Bcc" not in inbox.mails[0].message


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_mail_is_sent_encrypted_and_with_a_login(trusted, login, security):
    with mail_server(certificate=trusted, security=security, login=True) as (inbox, smtp):
        assert mail.send(settings_for(smtp), LETTER) == ""
    (received,) = inbox.mails
    assert received.encrypted or security == "ssl"
    assert received.user == USER.encode()


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_certificate_that_nobody_vouches_for_is_refused(certificate, security):
    with mail_server(certificate=certificate, security=security) as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "certificate", "self-signed")
    assert not inbox.mails


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_certificate_of_another_host_is_refused(tmp_path, monkeypatch, security):
    other = make_certificate(tmp_path, "subjectAltName=DNS:other.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with mail_server(certificate=other, security=security) as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "certificate", HERE)
    assert not inbox.mails


def test_nothing_is_sent_in_the_clear_if_encryption_is_asked_for(login):
    with mail_server() as (inbox, smtp):
        problem = mail.send(settings_for({**smtp, "security": "starttls"}), LETTER)
    assert_is_one_warning(problem, "STARTTLS")
    assert not inbox.mails


def test_refused_login_is_told_without_the_login(trusted, login, monkeypatch):
    monkeypatch.setenv(SMTP_PASSWORD, "another")
    with mail_server(certificate=trusted, security="starttls", login=True) as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "login was refused (535)")
    assert "another" not in problem
    assert USER not in problem
    assert not inbox.mails


def test_login_that_a_server_does_not_know_of_is_told(login):
    with mail_server() as (inbox, smtp):
        assert_is_one_warning(mail.send(settings_for(smtp), LETTER), "AUTH", "not supported")
    assert not inbox.mails


def test_password_is_not_sent_to_another_machine_in_the_clear(login, monkeypatch):
    monkeypatch.setattr(mail, "_is_loopback", lambda _: False)
    with mail_server() as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "unencrypted", "smtp.security", SMTP_PASSWORD)
    assert PASSWORD not in problem
    assert not inbox.mails


@pytest.mark.parametrize("name", [SMTP_USER, SMTP_PASSWORD])
def test_half_a_login_is_told(monkeypatch, name):
    monkeypatch.setenv(name, "half")
    with mail_server() as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, SMTP_USER, SMTP_PASSWORD)
    assert not inbox.mails


def test_password_that_smtp_cannot_take_is_not_shown(trusted, login, monkeypatch):
    monkeypatch.setenv(SMTP_PASSWORD, "geheimnisvöll")
    with mail_server(certificate=trusted, security="starttls", login=True) as (_, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "password")
    assert "geheim" not in problem
    assert "ö" not in problem


def test_refused_recipients_are_told_and_the_others_get_the_mail():
    with mail_server(refused=ALL[:1]) as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "one@example.org was refused: 550", "no one@example.org here")
    assert "two@example.org" not in problem
    assert inbox.mails[0].recipients == [ALL[1]]
    with mail_server(refused=ALL) as (inbox, smtp):
        problem = mail.send(settings_for(smtp), LETTER)
    assert_is_one_warning(problem, "one@example.org was refused", "two@example.org was refused")
    assert not inbox.mails


def test_server_that_is_down_is_told():
    problem = mail.send(settings_for({"host": HERE, "port": free_port()}), LETTER)
    assert_is_one_warning(problem, HERE, "Connection refused", *ALL)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "-", "%"])
def test_host_that_does_not_exist_is_told(host, monkeypatch):
    monkeypatch.setattr(mail, "DEADLINE", SHORT)
    assert_is_one_warning(mail.send(settings_for({"host": host}), LETTER), host)


@pytest.mark.parametrize("security", ["none", "starttls", "ssl"])
@pytest.mark.parametrize("talk", [mute, dribble])
def test_server_that_does_not_come_to_an_end_costs_a_limited_time(monkeypatch, talk, security):
    monkeypatch.setattr(mail, "DEADLINE", SHORT)
    with odd_server(talk) as port:
        settings = settings_for({"host": HERE, "port": port, "security": security})
        start = time.monotonic()
        problem = mail.send(settings, LETTER)
        took = time.monotonic() - start
    # With "ssl", what dribbles in is no TLS at all, which shows at once.
    assert_is_one_warning(problem, "" if talk is dribble else f"{SHORT:g} s")
    assert took < SHORT + SPARE


def test_look_up_that_does_not_come_to_an_end_costs_a_limited_time(monkeypatch):
    monkeypatch.setattr(mail, "DEADLINE", SHORT)
    asleep = threading.Event()
    monkeypatch.setattr(mail.socket, "getfqdn", lambda *_: asleep.wait() and "localhost")
    start = time.monotonic()
    problem = mail.send(settings_for({"host": HERE, "port": free_port()}), LETTER)
    assert time.monotonic() - start < SHORT + SPARE
    asleep.set()
    assert_is_one_warning(problem)


def test_mail_counts_as_sent_once_the_server_has_it():
    start = time.monotonic()
    with odd_server(mute_once_the_mail_is_there) as port:
        assert mail.send(settings_for({"host": HERE, "port": port}), LETTER) == ""
    assert time.monotonic() - start < 2 + SPARE


def test_whole_delay_is_half_a_minute():
    assert mail.DEADLINE == 30


@pytest.mark.parametrize("error", [ValueError("a\nb"), OSError(), KeyboardInterrupt(), KeyError(1)])
def test_whatever_happens_is_one_line_of_warning(capsys, error):
    def write():
        raise error

    mail.notify(settings_for({}), write)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("warning: ")
    assert_is_one_warning(captured.err)


def test_nothing_is_sent_or_said_without_settings_or_a_letter(capsys):
    mail.notify(None, lambda: pytest.fail("nobody wants a letter"))
    mail.notify(settings_for({"host": HERE, "port": free_port()}), lambda: None)
    assert capsys.readouterr() == ("", "")


# --- whole runs ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return small_catalog(tmp_path_factory.mktemp("catalog") / "small", rows=300)


def config_of(catalog: Path, smtp: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "input_catalog_path": catalog,
        "margin_threshold": THRESHOLD,
        "completion_email_address": ", ".join(ALL),
        "smtp": smtp,
        **more,
    }


def warnings_in(output: str) -> list[str]:
    assert "Traceback" not in output, output
    return [line for line in output.splitlines() if line.startswith("warning: ")]


def test_run_that_is_done_sends_one_mail(tmp_path, catalog, trusted, login):
    with mail_server(certificate=trusted, security="starttls", login=True) as (inbox, smtp):
        config = config_of(catalog, smtp)
        dry = run_workflow(tmp_path, "--dry-run", config=config, check=True)
        assert not inbox.mails
        done = run_workflow(tmp_path, check=True)
        (received,) = inbox.mails
        before = tree_digest(tmp_path / "intermediate")
        config["completion_email_address"] = "three@example.org"
        again = run_workflow(tmp_path, config=config, check=True)
        assert "Nothing to be done" in again.stdout
        assert len(inbox.mails) == 1
        assert tree_digest(tmp_path / "intermediate") == before
    assert received.encrypted
    assert received.user == USER.encode()
    assert received.recipients == list(ALL)
    assert received.message["To"] == "one@example.org, two@example.org"
    assert received.message["Subject"] == f"Margin cache done: {NAME}"
    place = tmp_path / "results" / NAME
    files = [path for path in place.rglob("Npix=*.parquet")]
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    for line in (
        f"Margin {NAME}",
        f"    place: {place}",
        f"    input: {catalog}",
        "    threshold: 60 arcsec",
        f"    rows: {rows}",
        f"    files: {len(files)}",
        f"Host: {socket.gethostname()}",
        f"Directory: {tmp_path}",
    ):
        assert line in received.text.splitlines()
    assert re.search(r"^Wall time: 0:\d\d:\d\d$", received.text, re.MULTILINE)
    assert not warnings_in(dry.stdout + done.stdout + again.stdout)
    assert f"{rows} rows in {len(files)} files" in done.stdout
    plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
    secrets = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode()), USER.encode(), plain]
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    texts += [part.stdout.encode() for part in (dry, done, again)] + [bytes(received.message)]
    assert len(texts) > 10
    for secret in secrets:
        assert not any(secret in text for text in texts)


def with_missing_position(catalog: Path) -> Callable[[], Any]:
    """Make a position of the catalog NaN; return a function that puts it right."""
    path = sorted(catalog.rglob("Npix=*.parquet"))[3]
    content = path.read_bytes()
    table = pq.ParquetFile(path).read()
    ra = table["ra"].to_numpy().copy()
    ra[0] = np.nan
    place = table.schema.get_field_index("ra")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(ra)), path)
    return lambda: path.write_bytes(content)


def test_run_that_fails_sends_one_mail_and_its_command_goes_on(tmp_path):
    catalog = small_catalog(tmp_path / "small", rows=300)
    mend = with_missing_position(catalog)
    directory = tmp_path / "a run"
    with mail_server() as (inbox, smtp):
        failed = run_workflow(directory, config=config_of(catalog, smtp))
        assert failed.returncode == 1
        assert not warnings_in(failed.stdout)
        (received,) = inbox.mails
        inbox.mails.clear()
        assert received.recipients == list(ALL)
        assert received.message["Subject"] == f"Margin cache failed: {NAME} in map_partitions"
        lines = received.text.splitlines()
        assert "Failed: rule map_partitions" in lines
        (error,) = {line for line in failed.stdout.splitlines() if line.startswith("error: ")}
        assert f"        {error}" in lines
        (work,) = (directory / "intermediate" / NAME).glob("*/")
        assert f"    work: {work.relative_to(directory)}" in lines
        (job,) = [line for line in lines if line.startswith("    job: ")]
        assert (work / "logs" / "map_partitions" / f"{job.split()[1]}.log").is_file()
        assert f"    input: {catalog}" in lines
        mend()
        (command,) = [line.strip() for line in lines if "bin/snakemake" in line]
        assert shlex.split(command)[-1] == "2"
        gone_on = subprocess.run(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert gone_on.returncode == 0, gone_on.stdout + gone_on.stderr
        assert [other.message["Subject"] for other in inbox.mails] == [f"Margin cache done: {NAME}"]


def test_run_that_fails_without_a_mail_server_fails_as_it_does_with_one(tmp_path):
    catalog = small_catalog(tmp_path / "small", rows=300)
    with_missing_position(catalog)
    smtp = {"host": HERE, "port": free_port()}
    failed = run_workflow(tmp_path / "run", config=config_of(catalog, smtp))
    assert failed.returncode == 1
    (warning,) = warnings_in(failed.stdout)
    assert_is_one_warning(warning, "Connection refused", *ALL)
    assert any(line.startswith("error: ") for line in failed.stdout.splitlines())


def test_run_is_done_though_the_mail_server_hangs(tmp_path, catalog, monkeypatch):
    """With a shorter deadline, which a module sets that Python loads at its start."""
    site = tmp_path / "site" / "sitecustomize.py"
    site.parent.mkdir()
    site.write_text(
        "import sys\n"
        "if any(part.endswith('/snakemake') for part in sys.orig_argv[:2]):\n"
        f"    sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "    import margin_cache.notification.mail\n"
        f"    margin_cache.mail.DEADLINE = {SHORT}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site.parent))
    with odd_server(dribble) as port:
        smtp = {"host": HERE, "port": port}
        config = config_of(catalog, smtp)
        done = run_workflow(tmp_path / "run", config=config, check=True, fresh=True)
    (warning,) = warnings_in(done.stdout)
    assert_is_one_warning(warning, f"no end after {SHORT:g} s")
    lines = done.stdout.splitlines()
    assert lines[lines.index(warning) - 1].startswith(f"results/{NAME}: ")
    assert lines[lines.index(warning) + 1].startswith("Complete log")


def test_run_with_what_is_no_address_is_refused_before_any_job(tmp_path, catalog):
    config = config_of(catalog, {}, completion_email_address="one@example.org\nBcc: x@example.org")
    refused = run_workflow(tmp_path, config=config)
    assert refused.returncode == 1
    line = refused.stdout.rstrip().splitlines()[-1]
    assert line.startswith("error: completion_email_address: ")
    assert "is not an address" in line
    assert not (tmp_path / "intermediate").exists()
