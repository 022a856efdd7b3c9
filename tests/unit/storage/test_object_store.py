"""Objects are listed, read in a known state, written on a condition and deleted, in any store."""

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from margin_cache.errors import MarginCacheError, RetryableError
from margin_cache.storage import obstore_store
from margin_cache.storage.object_store import (
    ObjectChanged,
    ObjectState,
    ObjectStore,
    PermissionDenied,
    PreconditionFailed,
    connect,
    files_among,
    interruptible,
    parallel,
)
from margin_cache.storage.obstore_store import translate, web_headers
from support.cloud_servers import AZURE_ACCOUNT, AZURE_KEY, Azure, Google
from support.faulty_proxy import faulty_proxy
from support.faulty_server import Behaviour, faulty_server
from support.object_servers import BUCKET, S3, Bucket, free_port
from support.odd_servers import MISSING, PRESENT, FileHandler, odd_server, serving

CONTENT = bytes(range(256)) * 40
SECRET = "s3cret-51c0"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = timedelta(milliseconds=1)
    backoff = {"init_backoff": pause, "max_backoff": pause, "base": 2}
    monkeypatch.setitem(obstore_store.RETRIES, "backoff", backoff)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Behaviour]:
    """A web server that serves the CONTENT as `object`."""
    (tmp_path / "object").write_bytes(CONTENT)
    with faulty_server(tmp_path) as server:
        yield server


@pytest.fixture
def memory() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()


@pytest.fixture
def bucket(server: Bucket) -> ObjectStore:
    """An empty directory in a store."""
    for path in server.states("stores/it"):
        server.remove(f"stores/it/{path}")
    return connect(server.url("stores/it"), server.options)


of_s3 = pytest.mark.parametrize("server", ["s3"], indirect=True)


# --- reading ------------------------------------------------------------------------------------


def check_reading(store: ObjectStore) -> None:
    """The store has the CONTENT as `object` and nothing else."""
    state = store.state("object")
    assert state is not None and state.size == len(CONTENT)
    assert store.state("other") is None and store.read("other") is None
    assert store.states(["other", "object", "object"]) == {"object": state}
    assert store.read("object") == (CONTENT, state)
    assert bytes(store.read_range("object", 10, 300, state)) == CONTENT[10:300]
    assert bytes(store.read_range("object", 0, len(CONTENT), state)) == CONTENT
    assert bytes(store.read_range("object", 5, 5, state)) == b""
    for other in (ObjectState(len(CONTENT), "other"), ObjectState(20_000, state.etag)):
        with pytest.raises(ObjectChanged, match=f"^{store.url}/object: changed after the run"):
            store.read_range("object", 10, 300, other)
    with pytest.raises(ObjectChanged):
        store.read_range("other", 10, 300, state)


def test_objects_of_a_web_server_are_read(served: Behaviour) -> None:
    store = connect(served.url, {})
    check_reading(store)
    assert store.list() is None


def test_objects_in_a_store_are_read_and_listed(server: Bucket, bucket: ObjectStore) -> None:
    server.write("stores/it/object", CONTENT)
    server.write("stores/it2/object", CONTENT)
    check_reading(bucket)
    assert bucket.list() == bucket.states(["object"])
    synonym = {"s3": "s3a", "gs": "gcs", "az": "abfs"}[server.protocol]
    check_reading(connect(f"{synonym}://{BUCKET}/stores//./it/", server.anonymous))


def test_objects_of_any_driver_of_fsspec_are_read_and_listed(memory: Any) -> None:
    memory.pipe({"/stores/object": CONTENT, "/stores2/object": b""})
    store = connect("memory://stores", {})
    check_reading(store)
    assert store.list() == store.states(["object"])


def test_an_object_that_changes_while_fsspec_reads_it_is_rejected(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/stores/object", CONTENT)
    store = connect("memory://stores", {})
    state = store.state("object")
    assert state is not None
    read = type(memory).cat_file

    def read_late(self: Any, path: str, **options: Any) -> bytes:
        self.pipe(path, CONTENT + b"!")
        return read(self, path, **options)

    monkeypatch.setattr(type(memory), "cat_file", read_late)
    with pytest.raises(ObjectChanged):
        store.read_range("object", 5, 9, state)


def test_names_that_cannot_be_files_are_left_out() -> None:
    names = ("a", "a/b", "c", "c/d/e", "ab", "f", "g/", "../h", "i//j")
    listed = files_among({name: ObjectState(1, "etag") for name in names})
    assert set(listed) == {"a/b", "ab", "c/d/e", "f"}


@of_s3
def test_markers_of_empty_directories_are_left_out(s3: S3, bucket: ObjectStore) -> None:
    s3.write("stores/it/Norder=5/", b"")
    s3.write("stores/it/Norder=5/Dir=0/Npix=7.parquet", b"")
    s3.write("stores/it/Norder=6/", b"")
    assert set(bucket.list() or ()) == {"Norder=5/Dir=0/Npix=7.parquet"}


@of_s3
def test_a_bucket_with_a_name_that_obstore_does_not_list_is_read_by_names(
    s3: S3, bucket: ObjectStore
) -> None:
    s3.write("stores/it/object", CONTENT)
    s3.write("stores/it/a//b", CONTENT)
    check_reading(bucket)
    assert bucket.list() is None


@pytest.mark.parametrize("name", ["a b", "ü=1", "a%20b", "a+b*~", "Norder=0/Dir=0/Npix=5.parquet"])
def test_special_characters_in_names(
    name: str, served: Behaviour, tmp_path: Path, server: Bucket
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"1")
    bucket = connect(server.url("special"), server.options)
    bucket.put(name, b"1", None)
    assert list(bucket.list() or ()) == [name]
    for store in (connect(served.url, {}), bucket):
        found = store.read(name)
        assert found is not None and found[0] == b"1"
    bucket.delete([name])


@of_s3
def test_a_store_without_conditions_is_looked_at_before_writing(
    bucket: ObjectStore, s3: S3
) -> None:
    with faulty_proxy(s3.endpoint) as proxy:
        proxy.refuses_conditions = True
        proxy.latency = 0.1
        store = connect(bucket.url, {**s3.options, "endpoint_url": proxy.url})
        # All of these are under way before the first one is refused.
        parallel(lambda number: store.put(f"other{number}", b"other", None), range(4))
        store.delete(f"other{number}" for number in range(4))
        first = store.put("object", b"first", None)
        with pytest.raises(PreconditionFailed):
            store.put("object", b"second", None)
        second = store.put("object", b"second", first)
        with pytest.raises(PreconditionFailed):
            store.put("object", b"third", first)
    assert bucket.read("object") == (b"second", second)


# --- failures -----------------------------------------------------------------------------------


def test_a_server_that_fails_half_of_its_requests_is_read(served: Behaviour) -> None:
    store = connect(served.url, {})
    state = store.state("object")
    assert state is not None
    served.fails_each = 2
    served.requests.clear()
    starts = range(0, len(CONTENT), 256)
    parts = parallel(lambda start: store.read_range("object", start, start + 256, state), starts)
    assert b"".join(parts) == CONTENT
    assert len(served.requests) > 1.5 * len(parts)


def test_a_server_that_always_fails_ends_in_one_line(server: Bucket) -> None:
    with faulty_proxy(server.endpoint) as proxy:
        proxy.is_down = True
        store = connect(server.url("stores"), server.through(proxy.url).options)
        calls = (
            store.list,
            lambda: store.state("a"),
            lambda: store.read("a"),
            lambda: store.read_range("a", 0, 5, ObjectState(9, "")),
            lambda: store.put("a", b"1", None),
            lambda: store.delete(["a"]),
        )
        for call in calls:
            with pytest.raises(
                RetryableError,
                match=r"failed 8 times \(status 503\)\. Check the URL and the server\.$",
            ):
                call()
        assert proxy.requests == 8 * len(calls)


def test_ranges_are_read_through_failures(
    server: Bucket, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Error statuses, resets, truncated bodies, whole objects, and servers that send nothing."""
    monkeypatch.setitem(obstore_store._CLIENT, "read_timeout", "1s")
    state = bucket.put("object", CONTENT, None)
    with faulty_proxy(server.endpoint) as proxy:
        store = connect(bucket.url, server.through(proxy.url).options)
        proxy.fails_each, proxy.faults = 3, (*proxy.faults, "stall")
        starts = range(0, len(CONTENT), 512)
        parts = parallel(lambda at: store.read_range("object", at, at + 512, state), starts)
        assert b"".join(parts) == CONTENT
        assert proxy.failed >= len(proxy.faults)
        proxy.fails_each, proxy.faults = 1, ("whole",)
        with pytest.raises(RetryableError, match="the server ignores range requests"):
            store.read_range("object", 0, 10, state)


def test_a_server_that_ignores_ranges_is_named(served: Behaviour) -> None:
    store = connect(served.url, {})
    state = store.state("object")
    assert state is not None
    served.ignores_range = True
    with pytest.raises(RetryableError, match="the server ignores range requests"):
        store.read_range("object", 0, 10, state)
    assert store.read("object") == (CONTENT, state)


def test_an_unreachable_server_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}/sky"
    with pytest.raises(RetryableError, match=rf"^{url}/a: failed 8 times \(Connection refused\)"):
        connect(url, {}).state("a")


def test_a_missing_bucket_is_named(server: Bucket) -> None:
    url = f"{server.protocol}://none/sky"
    store = connect(url, server.options, "output")
    for call in (store.list, lambda: store.put("a", b"1", None)):
        with pytest.raises(MarginCacheError, match=f"^{url}: the bucket does not exist"):
            call()


@pytest.mark.parametrize("missing", MISSING)
def test_missing_files_of_odd_servers(missing: str, tmp_path: Path) -> None:
    """A refusal is reported, because only the catalog knows which files are optional."""
    (tmp_path / "object").write_bytes(CONTENT)
    with odd_server(tmp_path, missing=missing) as url:
        store = connect(url, {})
        assert store.read("object") == (CONTENT, store.state("object"))
        if missing in ("401", "403"):
            for call in (store.read, store.state):
                with pytest.raises(PermissionDenied, match=r"other: permission denied, or there"):
                    call("other")
        else:
            assert store.read("other") is None
            if missing != "untyped page":
                assert store.state("other") is None


@pytest.mark.parametrize("present", PRESENT)
def test_files_of_odd_servers_are_read(present: str, tmp_path: Path) -> None:
    content = b"PAR1" + CONTENT
    (tmp_path / "object").write_bytes(content)
    with odd_server(tmp_path, present=present) as url:
        store = connect(url, {})
        state = store.state("object")
        assert state is not None and state.size == len(content)
        assert bytes(store.read_range("object", 10, 20, state)) == content[10:20]


# --- writing ------------------------------------------------------------------------------------


def test_an_object_is_written_from_memory_and_from_a_file(
    server: Bucket, bucket: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    for content in (CONTENT, tmp_path / "file"):
        state = bucket.put("object", content, None)
        assert server.read("stores/it/object") == CONTENT
        assert bucket.state("object") == state
        bucket.delete(["object", "none"])
        assert bucket.state("object") is None


def test_only_the_expected_object_is_replaced(server: Bucket, bucket: ObjectStore) -> None:
    first = bucket.put("object", b"a", None)
    with pytest.raises(PreconditionFailed):
        bucket.put("object", b"b", None)
    with pytest.raises(PreconditionFailed):
        bucket.put("object", b"b", ObjectState(1, "0123"))
    assert server.read("stores/it/object") == b"a"
    bucket.put("object", b"b", first)
    assert server.read("stores/it/object") == b"b"
    bucket.delete(["object"])
    with pytest.raises(PreconditionFailed):
        bucket.put("object", b"c", first)


@pytest.mark.parametrize("server", ["gs", "az"], indirect=True)  # moto looks before it writes
def test_of_those_who_write_an_object_at_once_one_succeeds(bucket: ObjectStore) -> None:
    before = None
    for number in range(3):

        def put(
            writer: int, number: int = number, before: ObjectState | None = before
        ) -> ObjectState | None:
            with suppress(PreconditionFailed):
                return bucket.put("object", bytes([number, writer]), before)
            return None

        (before,) = filter(None, parallel(put, range(8)))
        assert bucket.state("object") == before


def test_an_object_written_through_failures_is_whole(
    server: Bucket, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(obstore_store._CLIENT, "read_timeout", "500ms")
    with faulty_proxy(server.endpoint) as proxy:
        store = connect(bucket.url, server.through(proxy.url).options)
        proxy.fails_each, state = 3, None
        for number in range(9):
            state = store.put("object", CONTENT + bytes([number]), state)
            assert server.read("stores/it/object") == CONTENT + bytes([number])
        assert proxy.failed >= 3
        # A server that sends nothing for a while.
        proxy.fails_each, proxy.faults = 2, ("stall",)
        state = store.put("object", CONTENT, state)
        store.delete(["object"])
        assert server.states("stores/it") == {} and proxy.failed >= 5


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("s3://sky/a", {"kay": SECRET}, "kay is not an option for s3://. Known are "),
        ("s3://sky/a", {"client_kwargs": {"regoin": SECRET}}, "client_kwargs.regoin is not"),
        ("s3://sky/a", {"client_kwargs": SECRET}, "client_kwargs is not an option"),
        ("gs://sky/a", {"token": f"/none/{SECRET}"}, "the value of token is not valid"),
        ("az://sky/a", {"connection_string": SECRET}, "the value of connection_string is not"),
        ("https://sky/a", {"headers": SECRET}, "the value of headers is not valid"),
        *(
            (f"{protocol}://sky/a", {"endpoint_url": "127.0.0.1:9000"}, "must begin with https://")
            for protocol in ("s3", "gs", "az")
        ),
        ("s3://sky/a", {"key": f"{SECRET}\n", "secret": "b"}, "the value of key is not valid"),
        ("s3://sky/a", {"region_name": "a\nb"}, "the value of region_name is not valid"),
        ("gs://sky/a", {"token": {"type": SECRET}}, "gs://sky/a: the store cannot be used ("),
        ("ftp://127.0.0.1:1/sky", {}, "cannot connect (ConnectionRefusedError"),
        ("nowhere://sky/a", {}, "nowhere://sky/a: has no driver (Protocol not known: nowhere)."),
        ("sftp://127.0.0.1/sky", {}, 'requires "paramiko" to be installed'),
    ],
)
def test_options_and_protocols_that_do_not_work_end_in_one_line(
    url: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(MarginCacheError) as error:
        connect(url, options, "output")
    assert words in str(error.value)
    assert str(error.value).startswith(("output_storage_options: ", url))
    assert SECRET not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_an_environment_that_obstore_cannot_use_ends_in_one_line(
    name: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"AWS_ACCESS_KEY_ID": SECRET, "AWS_SECRET_ACCESS_KEY": "b", name: f"{SECRET}\n"}
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    options = {} if name == "AWS_ENDPOINT_URL" else {"endpoint_url": s3.endpoint}
    with pytest.raises(MarginCacheError) as error:
        connect("s3://sky/a", options).list()
    assert str(error.value).startswith("s3://sky/a: the ") and "\n" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("s3://sky/a", {"key": SECRET}, "(Missing SecretAccessKey)"),
        ("s3://sky/a", {"secret": SECRET}, "(Missing AccessKeyId)"),
        ("az://sky/a", {"account_key": SECRET}, "(Account must be specified)"),
        ("az://sky/a", {"account_name": "a", "account_key": SECRET}, "(Invalid Access Key)"),
        ("gs://sky/a", {"token": {"type": "service_account"}}, "(missing field `private_key`)"),
    ],
)
def test_a_missing_credential_is_named(
    url: str, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if url.startswith("s3"):
        options["endpoint_url"] = "http://127.0.0.1:1"
    with pytest.raises(MarginCacheError) as error:
        connect(url, options)
    assert str(error.value).startswith(f"{url}: the store cannot be used {words}")
    assert SECRET not in str(error.value)


def test_an_expired_token_in_the_usual_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    lines = ("start_url=https://a", "region=us-east-1", "account_id=1", "role_name=r")
    (tmp_path / ".aws/config").write_text("\n".join(["[default]", *(f"sso_{x}" for x in lines)]))
    with pytest.raises(MarginCacheError, match=r"^s3://sky: no credentials .Error loading SSO"):
        connect("s3://sky/a", {"endpoint_url": "http://127.0.0.1:1"})


VIRTUAL_MACHINE = "Error performing GET http://169.254.169.254/metadata/identity/oauth2/token?"
NO_TOKEN = "Error performing token request: Error performing POST https://accounts.google.com/o/"


@pytest.mark.parametrize(
    ("url", "options", "text", "words"),
    [
        ("az://sky/a", {"account_name": "a"}, VIRTUAL_MACHINE, "account_key, sas_token, or "),
        ("gs://sky/a", {}, f"{NO_TOKEN} - status code: 400 Bad Request: invalid_grant", "token)"),
        ("s3://sky/a", {"anon": True}, "status code: 400 <Code>ExpiredToken<", "key and secret)"),
    ],
)
def test_credentials_that_are_missing_or_expired_are_named(
    url: str, options: dict[str, Any], text: str, words: str
) -> None:
    store = connect(url, {**options, "endpoint_url": "http://127.0.0.1:1"})
    assert isinstance(store, obstore_store.ObstoreStore)
    error = store._error_of(url, text, "read")
    assert isinstance(error, PermissionDenied)
    assert str(error).startswith(f"{url}: credentials are missing or have expired ({words}")


class Refusing(FileHandler):
    """Answers each request with an error of a store, which is in the path."""

    def do_GET(self) -> None:
        status, code = self.path.partition("?")[0].rstrip("/").rpartition("/")[2].split("-")
        text = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>"
        self.send(int(status), text.encode(), {"Content-Type": "application/xml"})

    do_PUT = do_GET

    def do_POST(self) -> None:
        """Answer a deletion."""
        error = f"<Code>AccessDenied</Code><Message>{SECRET}</Message>"
        text = f"<DeleteResult><Error><Key>a</Key>{error}</Error></DeleteResult>"
        self.send(200, text.encode(), {"Content-Type": "application/xml"})


@pytest.mark.parametrize(
    ("answer", "action", "words"),
    [
        ("403-InvalidObjectState", "read", "it is archived. Restore it first."),
        ("409-BlobArchived", "read", "it is archived. Restore it first."),
        ("301-PermanentRedirect", "read", "the bucket is in another region. Give its region_name"),
        ("400-AuthorizationHeaderMalformed", "read", "the bucket is in another region."),
        ("403-RequestTimeTooSkewed", "read", "the clock of this machine is wrong."),
        ("403-SignatureDoesNotMatch", "read", "the credentials are wrong (SignatureDoesNotMatch)"),
        ("400-InvalidToken", "read", "the credentials are wrong (InvalidToken). Give credentials"),
        ("403-AccessDenied", "read", "permission denied, or there is no such file"),
        ("403-AccessDenied", "written", "permission denied, it cannot be written"),
        ("409-OperationAborted", "written", "was written by another run meanwhile"),
    ],
)
def test_refusals_of_stores_say_what_to_do(answer: str, action: str, words: str) -> None:
    with serving(Refusing) as url:
        store = connect("s3://sky", {"key": "a", "secret": "b", "endpoint_url": url})
        with pytest.raises(MarginCacheError) as error:
            store.read(answer) if action == "read" else store._put(answer, b"", None)
    assert str(error.value).startswith(f"s3://sky/{answer}: ")
    assert words in str(error.value)
    assert SECRET not in str(error.value)


def test_a_refused_deletion_says_so() -> None:
    with serving(Refusing) as url:
        store = connect("s3://sky", {"key": "a", "secret": "b", "endpoint_url": url})
        with pytest.raises(
            PermissionDenied, match="permission denied, it cannot be deleted"
        ) as error:
            store.delete(["a"])
    assert SECRET not in str(error.value)


def test_a_refused_list_of_an_output_says_so() -> None:
    """Those of inputs are asked for each file by its name."""
    with serving(Refusing) as url:
        options = {"key": "a", "secret": "b", "endpoint_url": url}
        assert connect("s3://403-AccessDenied", options).list() is None
        with pytest.raises(PermissionDenied, match="credentials are wrong"):
            connect("s3://403-SignatureDoesNotMatch", options, "output").list()


def test_an_interrupt_does_not_wait_for_a_server() -> None:
    def interrupt() -> None:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    pl.LazyFrame({"a": [1]}).collect()  # from now on, an interrupt ends no wait of this process
    held = threading.Event()

    def call() -> None:
        threading.Thread(target=interrupt).start()
        held.wait(60)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interruptible(call)
    with pytest.raises(KeyboardInterrupt):
        parallel(lambda first: call() if first else held.wait(60), [True, False])
    held.set()
    assert time.monotonic() - start < 30


class Endless(FileHandler):
    """Answers each request for a list with the same page, which says that more follow."""

    def do_GET(self) -> None:
        entry = "<Contents><Key>it/a</Key><Size>1</Size>"
        date = "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        more = "<NextContinuationToken>more</NextContinuationToken><IsTruncated>true</IsTruncated>"
        text = f"<ListBucketResult>{entry}{date}{more}</ListBucketResult>"
        self.send(200, text.encode(), {"Content-Type": "application/xml"})


@pytest.mark.parametrize("action", ["written", "deleted"])
def test_a_refused_change_is_told_as_what_it_is(action: str) -> None:
    class Refuses(FileHandler):
        def do_PUT(self) -> None:
            self.send(403, b"<Error><Code>AccessDenied</Code></Error>", {})

        do_POST = do_DELETE = do_PUT

    with serving(Refuses) as url:
        options = {"endpoint_url": url, "key": "a", "secret": "b"}
        store = connect("s3://sky", options, "output")
        with pytest.raises(PermissionDenied, match=f"x: permission denied, it cannot be {action}"):
            store.delete(["x"]) if action == "deleted" else store.put("x", b"", None)


def test_a_list_without_an_end_ends_in_one_line() -> None:
    with serving(Endless) as url:
        store = connect("s3://sky/it", {"anon": True, "endpoint_url": url})
        with pytest.raises(MarginCacheError, match="s3://sky/it: the store lists the same objects"):
            store.list()


def test_weak_etags_and_those_without_quotes_are_the_same() -> None:
    assert {obstore_store._bare(etag) for etag in ('W/"a"', '"a"', "a")} == {"a"}


def test_credentials_come_from_the_usual_files(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    url, options = f"s3://{BUCKET}/stores", {"endpoint_url": s3.endpoint}
    (tmp_path / "credentials").write_text(
        "[other]\naws_access_key_id = any\naws_secret_access_key = any\n"
    )
    connect(url, {**options, "profile": "other"}).put("object", CONTENT, None)
    (tmp_path / "config").write_text(f"[profile other]\nendpoint_url = {s3.endpoint}\n")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert connect(url, {}).read("object") is not None
    with pytest.raises(MarginCacheError, match="no credentials"):
        connect(url, {**options, "profile": "none"})


def test_credentials_of_the_options_are_not_mixed_with_those_of_the_environment(
    az: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Seeing(FileHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers))
            self.send(404, b"", {})

    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    with serving(Seeing) as url:
        connect("s3://sky", {"key": "mine", "secret": "b", "endpoint_url": url}).read("a")
        token = {"key": "mine", "secret": "b", "token": "own", "endpoint_url": url}
        connect("s3://sky", token).read("a")
    assert "Credential=mine/" in seen[0] and "security-token" not in seen[0]
    assert "x-amz-security-token: own" in seen[1]
    wrong = base64.b64encode(SECRET.encode()).decode()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    # With the slash at the end that the portal shows.
    options = {"account_name": AZURE_ACCOUNT, "endpoint_url": f"{az.address}/"}
    assert can_write(az.url("stores"), {**options, "sas_token": az.sas_token})


def can_write(url: str, options: dict[str, Any]) -> bool:
    try:
        connect(url, options).put("credentials", CONTENT, None)
    except PermissionDenied as error:
        assert SECRET not in str(error)
        return False
    return True


def test_credentials_of_google_are_a_file_or_a_mapping(
    gs: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = gs.url("stores"), {"endpoint_url": gs.endpoint}
    key = json.loads(gs.account.read_text())
    assert can_write(url, {**options, "token": str(gs.account)})
    assert can_write(url, {**options, "token": key})
    assert not can_write(url, {**options, "token": {**key, "client_email": SECRET}})
    assert not can_write(url, gs.anonymous)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gs.account))
    assert can_write(url, options)
    assert can_write(url, {**options, "token": "google_default", "project": "any"})


def test_credentials_of_azure_are_a_key_a_signature_or_a_connection_string(
    az: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, named = az.url("stores"), {"account_name": AZURE_ACCOUNT}
    options = {**named, "endpoint_url": az.address}
    signed = f"BlobEndpoint={az.address};SharedAccessSignature={az.sas_token}"
    assert can_write(url, {"connection_string": az.connection_string})
    assert can_write(url, {"connection_string": signed})
    assert can_write(url, {**options, "sas_token": az.sas_token})
    assert can_write(url, {**options, "sas_token": f"?{az.sas_token}"})
    host = f"abfss://{BUCKET}@{AZURE_ACCOUNT}.dfs.core.windows.net/stores"
    assert can_write(host, {"account_key": AZURE_KEY, "endpoint_url": az.address})
    wrong = base64.b64encode(SECRET.encode()).decode()
    assert not can_write(url, {**options, "account_key": wrong})
    assert not can_write(url, az.anonymous)
    with monkeypatch.context() as patch:
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", az.connection_string)
        assert can_write(url, {})
    with monkeypatch.context() as patch:
        for name, value in az.environment.items():
            patch.setenv(name, value)
        assert can_write(url, {"endpoint_url": az.address})


@pytest.mark.parametrize(
    ("text", "account", "endpoint"),
    [
        ("AccountName=a;AccountKey=k;EndpointSuffix=core.chinacloudapi.cn", "a", "a.blob.core.chi"),
        ("BlobEndpoint=https://b.blob.example.org/;SharedAccessSignature=s=1", "b", "b.blob.exam"),
    ],
)
def test_connection_strings_of_azure_name_account_and_server(
    text: str, account: str, endpoint: str
) -> None:
    config = translate("abfs", {"connection_string": text}, "input")
    assert config["account_name"] == account
    assert config["endpoint"].startswith(f"https://{endpoint}")


def test_stores_with_another_endpoint_or_account_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "one")

    def servers(url: str, *all_options: dict[str, Any]) -> int:
        return len({connect(url, options).server for options in all_options})

    of_one = {"account_name": "one", "account_key": AZURE_KEY}
    string = f"AccountName=one;AccountKey={AZURE_KEY};EndpointSuffix=core.windows.net"
    strings = {"connection_string": string}, {"connection_string": string.replace("one", "two")}
    assert servers("az://sky/a", {}, {"anon": True}, of_one, strings[0]) == 1
    assert servers("az://sky/a", of_one, strings[1]) == 2
    keys = {"key": "a", "secret": "b"}
    local = {"endpoint_url": "http://a"}, {"endpoint_url": "http://a/", "anon": True}
    assert servers("s3://sky/a", *({**keys, **options} for options in local)) == 1
    assert servers("s3://sky/a", {**keys, **local[0]}, {**keys, "endpoint_url": "http://b"}) == 2


def test_a_web_server_gets_the_password_in_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine sky.example login who password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def header(url: str, options: dict[str, Any]) -> str:
        own = translate("http", options, "input").get("default_headers", {})
        return web_headers(url, own).get("Authorization", "")

    assert header("https://sky.example/a", {}).startswith("Basic ")
    assert header("https://other.example/a", {}) == ""
    own = {"client_kwargs": {"headers": {"Authorization": "Bearer a"}}}
    assert header("https://sky.example/a", own) == "Bearer a"
