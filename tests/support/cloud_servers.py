"""Local servers of Google's and Azure's protocols for tests, which are skipped without them."""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import obstore
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from obstore.fsspec import register
from obstore.store import AzureStore, GCSStore

from support.object_servers import BUCKET, HERE, Bucket, free_port, server
from support.paths import ROOT
from support.peer_environments import ENVIRONMENTS
from support.skips import lacking

ACCOUNT = "margins@sky.iam.gserviceaccount.com"
AZURITE = ROOT / "tests/support/azurite"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The account that Azurite has of its own accord."""


@dataclass(frozen=True)
class Cloud(Bucket):
    """A running server with one bucket, which everyone can read."""

    def _store(self) -> Any:
        raise NotImplementedError

    @property
    def client(self) -> dict[str, Any]:
        """Options of obstore's."""
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        """Variables with the credentials."""
        raise NotImplementedError

    @property
    def hats_options(self) -> dict[str, object]:
        register(self.protocol)  # hats' own drivers are not needed for obstore's
        return {**self.client, "skip_instance_cache": True}

    def states(self, name: str) -> dict[str, str]:
        found = obstore.list(self._store(), prefix=name).collect()
        return {each["path"][len(name) + 1 :]: str(each["e_tag"]) for each in found}

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self._store(), key).bytes())

    def write(self, key: str, content: bytes) -> None:
        obstore.put(self._store(), key, content)

    def remove(self, key: str) -> None:
        obstore.delete(self._store(), key)


@dataclass(frozen=True)
class Google(Cloud):
    """A server of Google Cloud Storage's protocol; `account` is the file with its key."""

    protocol: ClassVar[str] = "gs"
    account: Path = Path()

    @property
    def options(self) -> dict[str, object]:
        return {"token": str(self.account), "endpoint_url": self.endpoint}

    @property
    def anonymous(self) -> dict[str, object]:
        return {"token": "anon", "endpoint_url": self.endpoint}

    @property
    def environment(self) -> dict[str, str]:
        return {"GOOGLE_APPLICATION_CREDENTIALS": str(self.account)}

    @property
    def client(self) -> dict[str, Any]:
        config = {"application_credentials": str(self.account), "base_url": self.endpoint}
        return {"config": config, "client_options": {"allow_http": True}}

    def _store(self) -> Any:
        return GCSStore(BUCKET, **self.client)


@dataclass(frozen=True)
class Azure(Cloud):
    """Azurite."""

    protocol: ClassVar[str] = "az"

    @property
    def address(self) -> str:
        return f"{self.endpoint}/{AZURE_ACCOUNT}"

    @property
    def options(self) -> dict[str, object]:
        return {
            "account_name": AZURE_ACCOUNT,
            "account_key": AZURE_KEY,
            "endpoint_url": self.address,
        }

    @property
    def anonymous(self) -> dict[str, object]:
        return {"account_name": AZURE_ACCOUNT, "anon": True, "endpoint_url": self.address}

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
        }

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
            f"BlobEndpoint={self.address};"
        )

    @property
    def sas_token(self) -> str:
        """A signature by which everything in the bucket is allowed for an hour."""
        end = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        place, version = f"/blob/{AZURE_ACCOUNT}/{BUCKET}", "2018-11-09"
        lines = ("rwdl", "", end, place, "", "", "https,http", version, "c", *[""] * 6)
        told = {"sp": "rwdl", "se": end, "spr": "https,http", "sv": version, "sr": "c"}
        return urlencode({**told, "sig": _signature("\n".join(lines))})

    @property
    def client(self) -> dict[str, Any]:
        config = {
            "account_name": AZURE_ACCOUNT,
            "account_key": AZURE_KEY,
            "endpoint": self.address,
        }
        return {"config": config, "client_options": {"allow_http": True}}

    def _store(self) -> Any:
        return AzureStore(BUCKET, **self.client)

    def make_bucket(self) -> None:
        headers = {
            "x-ms-blob-public-access": "container",
            "x-ms-date": formatdate(usegmt=True),
            "x-ms-version": "2021-08-06",
        }
        signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
        place = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
        signature = _signature("PUT" + "\n" * 12 + signed + place)
        headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{signature}"
        url = f"{self.address}/{BUCKET}?restype=container"
        urlopen(Request(url, headers=headers, method="PUT")).close()


def _signature(text: str) -> str:
    key = base64.b64decode(AZURE_KEY)
    return base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()


@contextmanager
def google_server(directory: Path) -> Iterator[Google]:
    """Run a server of Google's protocol that keeps objects in memory, with its log in a directory.

    It is moto, and `google_server.py` between.
    """
    directory.mkdir(parents=True)
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    account, public_file = directory / "account.json", directory / "public.pem"
    told = {"private_key": private.decode(), "private_key_id": "1", "client_email": ACCOUNT}
    account.write_text(json.dumps({"type": "service_account", **told}))
    public_file.write_bytes(public)
    port = free_port()
    program = Path(__file__).with_name("google_server.py")
    with server([sys.executable, program, port, ACCOUNT, public_file], directory, port):
        signed = b".".join(_encoded(part) for part in ({"alg": "RS256"}, {"iss": ACCOUNT}))
        signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        token = signed + b"." + base64.urlsafe_b64encode(signature)
        headers = {"Authorization": f"Bearer {token.decode()}"}
        url = f"http://{HERE}:{port}"
        urlopen(Request(f"{url}/{BUCKET}", headers=headers, method="PUT")).close()
        yield Google(url, account)


def _encoded(part: dict[str, str]) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(part).encode())


@contextmanager
def azure_server(directory: Path) -> Iterator[Azure]:
    """Run Azurite, with its objects and log in a directory."""
    program = _azurite()
    directory.mkdir(parents=True)
    port = free_port()
    command = ["node", program, "--blobHost", HERE, "--blobPort", port, "--location", directory]
    with server([*command, "--silent", "--skipApiVersionCheck"], directory, port):
        azure = Azure(f"http://{HERE}:{port}")
        azure.make_bucket()
        yield azure


def _azurite() -> Path:
    """Azurite's program, installed from the npm registry if its lock has changed."""
    place, lock = ENVIRONMENTS / "azurite", (AZURITE / "package-lock.json").read_bytes()
    made, program = place / ".made-from.json", place / "node_modules/azurite/dist/src/blob/main.js"
    if made.exists() and made.read_bytes() == lock:
        return program
    if shutil.which("npm") is None:
        lacking("npm is needed, which installs Azurite")
    if not (os.environ.get("CI") or os.environ.get("PEERS")):
        pytest.skip("Azurite is installed with PEERS=1, or in CI")
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
    with (ENVIRONMENTS / "azurite.lock").open("w") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        if not made.exists() or made.read_bytes() != lock:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(AZURITE, place)
            npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(npm, cwd=place, check=True, stdin=subprocess.DEVNULL)
            # Written last, so that an interrupted installation is made again.
            made.write_bytes(lock)
    return program
