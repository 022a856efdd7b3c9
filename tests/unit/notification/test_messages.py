"""Mails and the terminal tell what a run has made, or why it has failed and how to continue."""

import socket
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from margin_cache.margin.forecast import DiskSpace, Forecast
from margin_cache.margin.model import Margin
from margin_cache.notification import (
    Job,
    disk_space_lines,
    failure_subject,
    failure_summary,
    finished,
    mail,
    making,
    nothing_to_do,
    printable,
    resume_command,
    run_details,
    stopped,
    success_subject,
)
from margin_cache.storage.files import write_json
from support.plans import planned_margin

DONE = {"rows": 1234, "files": 56, "collection": "", "is_default": False}
EXPECTED = Forecast(
    partitions=84,
    destinations=110,
    negative_pixels=26,
    map_jobs=21,
    reduce_jobs=20,
    read=3_857_414,
    rows=3290,
    size=1_212_805,
    output=1,
    intermediate=2,
)


@pytest.fixture
def margin(tmp_path: Path) -> Margin:
    return planned_margin("/out/gaia_10arcs", "/sky/gaia", tmp_path)


def finished_with(margin: Margin, **done: Any) -> list[str]:
    """What is said about a margin whose last job has written something."""
    write_json(margin.done_file, DONE | done)
    return finished(margin)


def test_the_details_of_a_run_say_how_long_and_where():
    assert run_details(3725.4, ["run.log"]).splitlines() == [
        "Wall time: 1:02:05",
        f"Host: {socket.gethostname()}",
        f"Directory: {Path.cwd()}",
        "Log: run.log",
    ]


def test_the_subject_tells_what_was_made():
    assert success_subject(["gaia_10arcs"], []) == "done: gaia_10arcs"
    assert success_subject([], []) == "run done, no margin made"
    many = [f"m{number}" for number in range(5)]
    assert success_subject(many, []) == "done: m0, m1, m2 and 2 more"


def test_the_verdict_of_an_audit_is_the_subject():
    audits = ["audit: out/m is UNSAFE\n  missing  2"]
    assert success_subject(["gaia_10arcs"], audits) == "audit: out/m is UNSAFE"


def test_the_subject_tells_what_was_not_made_and_which_jobs_have_failed():
    jobs = [Job("map_partitions"), Job("map_partitions"), Job("reduce_margins")]
    subject = failure_subject(["x_1arcs"], jobs)
    assert subject == "failed: x_1arcs in map_partitions, reduce_margins"
    assert failure_subject(["gaia_10arcs"], []) == "failed: gaia_10arcs"


def test_a_coarse_margin_is_not_said_to_end_at_the_threshold(tmp_path):
    parameters = {"threshold": 8245.1683, "margin_order": 4, "fine_filtering": False}
    margin = planned_margin("/out/gaia_10arcs", "/sky/gaia", tmp_path, **parameters)
    expected = "all rows within 8245.17 arcsec and some beyond (cells of order 4)"
    first, _ = finished_with(margin)
    assert first == f"/out/gaia_10arcs: 1234 rows in 56 files, {expected}"
    assert expected in making(margin, EXPECTED)


def test_command_is_quoted_and_has_its_directory(tmp_path, monkeypatch):
    directory = tmp_path / "a dir"
    directory.mkdir()
    monkeypatch.chdir(directory)
    words = ["snakemake", "--config", "a=b c"]
    assert resume_command(words) == f"cd '{directory}'\nsnakemake --config 'a=b c'"
    words = ["snakemake", "--directory=x", "--config", "a=b c"]
    assert resume_command(words) == "snakemake --directory=x --config 'a=b c'"


def test_terminal_says_where_a_margin_is_and_how_to_open_it(margin, tmp_path):
    assert finished(margin) == []
    assert finished_with(margin) == [
        "/out/gaia_10arcs: 1234 rows in 56 files, within 10 arcsec",
        '  to open it in Python: lsdb.open_catalog("/sky/gaia", margin_cache="/out/gaia_10arcs")',
    ]
    relative = planned_margin("results/m", "demo/sky", tmp_path, is_hats=False)
    assert finished_with(relative, rows=1, files=1) == [
        "results/m: 1 row in 1 file, within 10 arcsec",
        f'  to open it in Python: hipscat.read_from_hipscat("{Path.cwd()}/results/m")',
    ]


@pytest.mark.parametrize("is_default", [True, False])
def test_a_margin_is_opened_by_the_collection_that_lists_it(margin, is_default):
    lines = [
        "listed in the collection /out" + (", as its default margin" if is_default else ""),
        'to open it in Python: lsdb.open_catalog("/out", margin_cache="gaia_10arcs")',
    ]
    said = finished_with(margin, collection="/out", is_default=is_default)
    assert said[1:] == [f"  {line}" for line in lines]


def test_terminal_says_that_a_complete_margin_leaves_nothing_to_do(margin):
    assert "is complete in /out" in nothing_to_do(margin)
    finished_with(margin)
    assert nothing_to_do(margin) == (
        "margin gaia_10arcs is complete (1234 rows) in /out/gaia_10arcs: nothing to do. To make it "
        "again, use --forceall."
    )


def test_a_stopped_run_ends_with_two_lines_at_most(tmp_path):
    logs = [tmp_path / "snakemake.log", tmp_path / "1.log", tmp_path / "2.log"]
    logs[0].write_text("error: one\nerror: two\n")
    jobs = []
    for log, line in zip(logs[1:], ("error: one", "error: killed")):
        log.write_text(f"{line}\n")
        jobs.append(Job("map", logs=(str(log),)))
    last = stopped("SIGINT")
    assert last.startswith("stopped by SIGINT. Completed work is kept; repeat the same command")
    assert failure_summary([str(logs[0])], jobs, "SIGINT").splitlines() == ["error: one", last]
    assert failure_summary([str(logs[0])], jobs[1:], "SIGINT") == last


def test_terminal_names_a_few_errors_only(tmp_path):
    log = tmp_path / "snakemake.log"
    log.write_text("".join(f"error: {number}\n" for number in range(9)))
    _, *errors = failure_summary([str(log)]).splitlines()
    assert errors[4:] == ["error: 4", "error: more errors are in the log: 4"]


def test_terminal_repeats_each_error_once_and_tells_how_to_continue(tmp_path):
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    logs[0].write_bytes(b"Error in rule\nerror: no such file \xff \nerror: one\nan error: no\n")
    logs[1].write_text("error: one\nerror: two")
    advice, *errors = failure_summary(map(str, logs)).splitlines()
    assert errors == ["error: no such file \ufffd", "error: one", "error: two"]
    assert advice.startswith("Completed work is kept. Fix the error, then repeat the same command")


def test_terminal_refers_to_the_log_of_a_job_that_tells_no_error(tmp_path):
    log = tmp_path / "1.log"
    log.write_text("Error in rule map\n")
    for logs in ([str(log)], []):
        _, error = failure_summary(logs).splitlines()
        assert error.startswith("error: a job failed. See its log")


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n", "\u2028", "\x85", "\n\n"])
def test_nothing_that_a_mail_tells_gets_into_its_header(newline):
    evil = f"x{newline}Bcc: evil@example.org{newline}{newline}Body"
    content = mail(f"done: {evil}", [evil]).as_bytes()
    message = message_from_bytes(content, policy=default)
    assert set(message.keys()) == {
        "Subject",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert message["Subject"].startswith("Margin cache done: x")


def test_mail_has_short_lines_of_ascii_characters():
    parts = ["é\udcff\x00\x1b[31m ☆\n" + "x" * 5000]
    content = mail("☆" * 100, parts).as_bytes()
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) < 999
    message = message_from_bytes(content, policy=default)
    assert "é???[31m ☆" in message.get_content().splitlines()


def test_what_is_printable_stays():
    assert printable("a\tb\nc é☆") == "a\tb\nc é☆"
    assert printable("\x1b[31m\r\x7f\u2028\udc80") == "?[31m????"


def test_terminal_tells_what_a_margin_will_take(margin):
    assert making(margin, EXPECTED).splitlines() == [
        "making margin gaia_10arcs of /sky/gaia within 10 arcsec in /out",
        "  84 partitions; up to 110 pixels get margin rows, 26 of them outside the catalog",
        "  jobs to do: 21 map (reading 3.86 MB), 20 reduce",
        "  about 3290 rows and 1.21 MB are expected",
    ]
    changed = replace(EXPECTED, negative_pixels=0, map_jobs=0, read=0)
    assert making(margin, changed).splitlines()[1:3] == [
        "  84 partitions; up to 110 pixels get margin rows",
        "  jobs to do: 20 reduce",
    ]


def test_terminal_tells_how_much_disk_space_there_is_and_where_it_may_not_be_enough():
    output = DiskSpace(["output_path"], Path("/out"), 1000, 1000)
    scratch = DiskSpace(["tmp_dir"], Path("/scratch"), 2000, 1999)
    assert disk_space_lines([output, scratch]).splitlines() == [
        "  output_path: about 1 kB are needed, 1 kB are free",
        "  tmp_dir: about 2 kB are needed, 2 kB are free, WHICH MAY NOT BE ENOUGH",
    ]
