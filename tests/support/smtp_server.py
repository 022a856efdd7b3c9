"""Mail servers for tests: a real one, and some that misbehave."""

import email.policy
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

HERE = "127.0.0.1"
USER, PASSWORD = "mail-user-7f3a", "hunter2-s3cret"
ALL = ("one@example.org", "two@example.org")
SHORT = 0.4  # a deadline for a server that does not answer [s]
SPARE = 20.0  # time that a busy machine may take on top of it [s]


@dataclass
class Received:
    """A mail as the server got it."""

    recipients: list[str]
    content: bytes
    message: EmailMessage
    encrypted: bool
    user: bytes | None

    @property
    def text(self) -> str:
        return self.message.get_content().replace("\r\n", "\n")


class Inbox:
    """What a server does with mails: it keeps them, but for those to some recipients."""

    def __init__(self, refused: tuple[str, ...] = (), refusal: str = ""):
        self.mails: list[Received] = []
        self.logins: list[bytes] = []
        self.refused = refused
        self.refusal = refusal

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return self.refusal or f"550 5.1.1 no {address} here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        user = session.auth_data.login if session.authenticated else None
        recipients, encrypted = list(envelope.rcpt_tos), session.ssl is not None
        self.mails.append(Received(recipients, envelope.content, message, encrypted, user))
        return "250 2.0.0 kept"

    def check_login(self, server, session, envelope, mechanism, data) -> AuthResult:
        self.logins.append(data.login)
        is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False, auth_data=data)


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
    refusal: str = "",
) -> Iterator[tuple[Inbox, dict[str, Any]]]:
    """A real mail server; yields its inbox and what `smtp` has to be."""
    inbox, port = Inbox(refused, refusal), free_port()
    options: dict[str, Any] = {"server_hostname": "mail.example.org"}
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        options["ssl_context" if security == "ssl" else "tls_context"] = context
        options["require_starttls"] = security == "starttls"
    if login:
        # With "ssl", aiosmtpd does not know that the line is encrypted.
        options |= {"auth_required": True, "authenticator": inbox.check_login}
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


def assert_is_one_warning(problem: str, *words: str):
    assert len(problem.splitlines()) == 1
    for word in ("no mail was sent", *words):
        assert word in problem
