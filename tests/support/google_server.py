"""A server of Google Cloud Storage's XML protocol: moto, with generations and bearer tokens.

A program with three arguments: the port, the address of a service account and the file of its
public key. Everyone can read; who writes must have a token that the account has signed.
"""

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_AMAZON = "AWS4-HMAC-SHA256 Credential=any/20200101/us-east-1/s3/aws4_request, Signature=0"


class Google:
    def __init__(self, moto: Callable[..., Iterable[bytes]], account: str, public_key: Any) -> None:
        self.moto, self.account, self.public_key = moto, account, public_key
        self.lock = threading.Lock()
        self.generations: dict[str, str] = {}
        self.numbers = count(1_700_000_000_000_000)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        token = environ.get("HTTP_AUTHORIZATION", "")
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if not self.is_signed(token) and (token or method not in ("GET", "HEAD")):
            start("401 Unauthorized", [("Content-Length", "0")])
            return []
        environ["HTTP_AUTHORIZATION"] = _AMAZON
        with self.lock:  # so that an object and its generation belong together
            expected = environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH")
            if expected not in (None, self.generations.get(path, "0")):
                start("412 Precondition Failed", [("Content-Length", "0")])
                return []
            if method == "PUT":
                self.generations[path] = str(next(self.numbers))
            elif method == "DELETE":
                self.generations.pop(path, None)
            generation = self.generations.get(path)

            def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
                own = [("x-goog-generation", generation)] if generation else []
                return start(status, [*headers, *own], *more)

            return list(self.moto(environ, begin))

    def is_signed(self, token: str) -> bool:
        """Return whether this is a token that the service account has signed itself."""
        try:
            signed, _, signature = token.removeprefix("Bearer ").rpartition(".")
            self.public_key.verify(
                _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            return json.loads(_decoded(signed.partition(".")[2]))["iss"] == self.account
        except (ValueError, KeyError, InvalidSignature):
            return False


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


if __name__ == "__main__":
    port, account, file = sys.argv[1:]
    key = serialization.load_pem_public_key(Path(file).read_bytes())
    moto = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(port), Google(moto, account, key), threaded=True)
