"""Local servers for tests: nginx, and moto as an S3 store. Tests are skipped without them."""

import hashlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from support.skips import lacking

HERE = "127.0.0.1"
BUCKET = "sky"
REGION = "us-east-1"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

_NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen {here}:{port}; root {root}; {limit} }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx, which serves byte ranges and does not list files."""

    url: str
    log: Path

    def bytes_sent(self) -> int:
        """Bytes of the bodies of all successful responses, from the log."""
        time.sleep(0.2)  # the log is written after the response
        lines = self.log.read_text().splitlines()
        sent = [re.search(r'" (2\d\d) (\d+) "', line) for line in lines if "GET" in line]
        return sum(int(match[2]) for match in sent if match)


@dataclass(frozen=True)
class Bucket(ABC):
    """A running object store with one bucket.

    Attributes:
        protocol: of the bucket's URL.
        endpoint: the address of the server.
    """

    protocol: ClassVar[str]
    endpoint: str

    @property
    @abstractmethod
    def options(self) -> dict[str, object]:
        """Storage options of one who may do everything."""

    @property
    @abstractmethod
    def anonymous(self) -> dict[str, object]:
        """Storage options of one without credentials."""

    @property
    @abstractmethod
    def hats_options(self) -> dict[str, object]:
        """Options with which hats sees the bucket as it is now."""

    def through(self, address: str) -> Self:
        """The same bucket behind a proxy."""
        return replace(self, endpoint=address)

    def url(self, name: str) -> str:
        return f"{self.protocol}://{BUCKET}/{name}"

    @abstractmethod
    def states(self, name: str) -> dict[str, str]:
        """ETags of the objects below a prefix, by their relative paths."""

    @abstractmethod
    def read(self, key: str) -> bytes: ...

    @abstractmethod
    def write(self, key: str, content: bytes) -> None: ...

    @abstractmethod
    def remove(self, key: str) -> None: ...

    def upload(self, directory: Path, name: str) -> str:
        """Copy a directory into the bucket; return its URL."""
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                self.write(f"{name}/{file.relative_to(directory).as_posix()}", file.read_bytes())
        return self.url(name)

    def digests(self, name: str) -> dict[str, str]:
        """SHA-256 of the objects below a prefix, by their relative paths."""
        return {
            path: hashlib.sha256(self.read(f"{name}/{path}")).hexdigest()
            for path in sorted(self.states(name))
        }


@dataclass(frozen=True)
class S3(Bucket):
    """moto."""

    protocol: ClassVar[str] = "s3"

    @property
    def options(self) -> dict[str, object]:
        return {"key": "any", "secret": "any", "endpoint_url": self.endpoint}

    @property
    def anonymous(self) -> dict[str, object]:
        return {"anon": True, "endpoint_url": self.endpoint}

    @property
    def hats_options(self) -> dict[str, object]:
        return {**self.options, "use_listings_cache": False, "skip_instance_cache": True}

    def client(self) -> Any:
        return _amazon_client(self.endpoint)

    def states(self, name: str) -> dict[str, str]:
        pages = (
            self.client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=BUCKET, Prefix=f"{name}/")
        )
        objects = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"][len(name) + 1 :]: item["ETag"] for item in objects}

    def read(self, key: str) -> bytes:
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        self.client().put_object(Bucket=BUCKET, Key=key, Body=content, ACL="public-read")

    def remove(self, key: str) -> None:
        self.client().delete_object(Bucket=BUCKET, Key=key)


@cache
def _amazon_client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        region_name=REGION,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


@contextmanager
def nginx(root: Path, directory: Path, kilobytes: int = 0) -> Iterator[Nginx]:
    """Serve `root` with nginx.

    Args:
        root: the directory that is served.
        directory: is made for nginx's own files.
        kilobytes: limit for each connection in kB/s; 0 for none.
    """
    program = shutil.which("nginx", path=PATH)
    if program is None:
        lacking("nginx is needed")
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "nginx.conf"
    # Otherwise nginx cannot read the files that tests write.
    user = "user root;" if os.geteuid() == 0 else ""
    limit = f"limit_rate {kilobytes}k;" if kilobytes else ""
    config.write_text(
        _NGINX.format(directory=directory, user=user, here=HERE, port=port, root=root, limit=limit)
    )
    with server([program, "-p", directory, "-c", config], directory, port):
        yield Nginx(f"http://{HERE}:{port}", directory / "access.log")


@contextmanager
def s3_server(directory: Path) -> Iterator[S3]:
    """Run an S3 server that keeps objects in memory, with its log in a directory."""
    for name in ("moto", "flask", "s3fs"):
        if importlib.util.find_spec(name) is None:
            lacking(f"the package {name} is needed")
    directory.mkdir(parents=True)
    port = free_port()
    program = Path(sys.executable).with_name("moto_server")
    with server([program, "-H", HERE, "-p", port], directory, port):
        s3 = S3(f"http://{HERE}:{port}")
        s3.client().create_bucket(Bucket=BUCKET, ACL="public-read")
        yield s3


@contextmanager
def server(command: list[object], directory: Path, port: int) -> Iterator[None]:
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HERE, port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{command[0]}: {(directory / 'server.log').read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
