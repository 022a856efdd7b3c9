"""A run that ends sends one mail, and one that cannot be sent does no harm."""

import base64
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER
from support.margins import tree_digest
from support.small_skies import small_catalog
from support.smtp_server import (
    ALL,
    HERE,
    PASSWORD,
    SHORT,
    USER,
    assert_is_one_warning,
    free_port,
    mail_server,
    make_certificate,
    mute,
    odd_server,
)
from support.workflow_runs import run_workflow, set_in_runs

THRESHOLD = 60.0
NAME = "small_60arcs"


@pytest.fixture(autouse=True)
def without_login(monkeypatch):
    for name in (SMTP_USER, SMTP_PASSWORD):
        monkeypatch.delenv(name, raising=False)


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


def test_a_finished_run_sends_one_mail(tmp_path, catalog, monkeypatch):
    trusted = make_certificate(tmp_path, f"subjectAltName=IP:{HERE}")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv(SMTP_USER, USER)
    monkeypatch.setenv(SMTP_PASSWORD, PASSWORD)
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
    output_dir = tmp_path / "results" / NAME
    files = list(output_dir.rglob("Npix=*.parquet"))
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    for line in (
        f"results/{NAME}: {rows} rows in {len(files)} files, within 60 arcsec",
        f'  to open it in Python: hipscat.read_from_hipscat("{output_dir}")',
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
    column = table.schema.get_field_index("ra")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(ra)), path)
    return lambda: path.write_bytes(content)


def test_a_failed_run_sends_one_mail_whose_command_resumes_it(tmp_path):
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
        (error,) = {line for line in failed.stdout.splitlines() if line.startswith("error: ")}
        assert error in lines
        mend()
        (command,) = [line.strip() for line in lines if "bin/snakemake" in line]
        assert shlex.split(command)[-1] == "2"
        gone_on = subprocess.run(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert gone_on.returncode == 0, gone_on.stdout + gone_on.stderr
        assert [other.message["Subject"] for other in inbox.mails] == [f"Margin cache done: {NAME}"]


def test_a_failed_run_without_a_mail_server_warns_in_one_line(tmp_path):
    catalog = small_catalog(tmp_path / "small", rows=300)
    with_missing_position(catalog)
    smtp = {"host": HERE, "port": free_port()}
    failed = run_workflow(tmp_path / "run", config=config_of(catalog, smtp))
    assert failed.returncode == 1
    (warning,) = warnings_in(failed.stdout)
    assert_is_one_warning(warning, "Connection refused", *ALL)
    assert any(line.startswith("error: ") for line in failed.stdout.splitlines())


def test_a_mute_mail_server_does_not_stop_a_run(tmp_path, catalog, monkeypatch):
    set_in_runs(monkeypatch, tmp_path / "site", "notification.TIMEOUT", SHORT)
    with odd_server(mute) as port:
        smtp = {"host": HERE, "port": port}
        config = config_of(catalog, smtp)
        done = run_workflow(tmp_path / "run", config=config, check=True)
    (warning,) = warnings_in(done.stdout)
    assert_is_one_warning(warning, "timed out")
    lines = done.stdout.splitlines()
    assert lines[lines.index(warning) - 2].startswith(f"results/{NAME}: ")


def test_an_invalid_mail_address_is_refused_before_any_job(tmp_path, catalog):
    config = config_of(catalog, {}, completion_email_address="one@example.org\nBcc: x@example.org")
    refused = run_workflow(tmp_path, config=config)
    assert refused.returncode == 1
    line = refused.stdout.rstrip().splitlines()[-1]
    assert line.startswith("error: completion_email_address: ")
    assert "is not an address" in line
    assert not (tmp_path / "intermediate").exists()
