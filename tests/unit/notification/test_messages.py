"""Mails and the terminal tell what a run has made, or why it has failed and how to continue."""

import socket
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest
from margin_cache.margin.disk_space import Place
from margin_cache.notification.failures import Job
from margin_cache.notification.messages import (
    MarginStatus,
    disk_space_lines,
    failure_message,
    failure_summary,
    finished_margins,
    forecast_lines,
    margins_to_make,
    nothing_to_do,
    printable,
    resume_command,
    run_details,
    stopped,
    success_message,
)
from margin_cache.planning.forecast import Forecast

MARGIN = MarginStatus("gaia_10arcs", "/out/gaia_10arcs", "/sky/gaia", 10.0, True, False, 1234, 56)
INCOMPLETE = MarginStatus("x_1arcs", "/out/x_1arcs", "/sky/x", 1.0, False, False)
COMMAND = "cd '/a dir'\nsnakemake --cores 2"


def text(message: EmailMessage) -> str:
    return message.get_content().replace("\r\n", "\n")


def test_success_tells_what_was_made():
    message = success_message([MARGIN], run_details(3725.4, ["run.log"]))
    assert message["Subject"] == "Margin cache done: gaia_10arcs"
    for line in (
        "The run is done.",
        "Margin gaia_10arcs",
        "    output: /out/gaia_10arcs",
        "    input: /sky/gaia",
        "    threshold: 10 arcsec",
        "    rows: 1234",
        "    files: 56",
        "Wall time: 1:02:05",
        f"Host: {socket.gethostname()}",
        f"Directory: {Path.cwd()}",
        "Log: run.log",
    ):
        assert line in text(message).splitlines()


def test_the_verdict_of_an_audit_is_the_subject():
    message = success_message([], "", ["audit: out/m is UNSAFE\n  missing  2"])
    assert message["Subject"] == "Margin cache audit: out/m is UNSAFE"
    assert "  missing  2" in text(message).splitlines()


def test_a_coarse_margin_is_not_said_to_end_at_the_threshold():
    margin = replace(MARGIN, threshold=8245.1683, cell_order=4)
    expected = "all rows within 8245.17 arcsec and some beyond (cells of order 4)"
    first, _ = finished_margins([margin]).splitlines()
    assert first == f"/out/gaia_10arcs: 1234 rows in 56 files, {expected}"
    assert expected in margins_to_make([margin])
    lines = text(success_message([margin], "")).splitlines()
    assert "    coarse, by cells of order 4: some rows are beyond it" in lines


def test_relative_paths_are_told_in_full():
    margin = replace(MARGIN, location="results/m", catalog="demo/sky")
    lines = text(success_message([margin], "")).splitlines()
    assert f"    output: {Path.cwd()}/results/m" in lines
    assert f"    input: {Path.cwd()}/demo/sky" in lines


def test_success_tells_apart_what_was_not_made():
    older = replace(MARGIN, name="older", was_complete=True, rows=None, files=None)
    message = success_message([older, INCOMPLETE], "")
    assert message["Subject"] == "Margin cache done: older"
    assert "made by an earlier run" in text(message)
    assert "Margin x_1arcs, which is not finished" in text(message)
    assert "rows" not in text(message)
    assert success_message([INCOMPLETE], "")["Subject"] == "Margin cache run done, no margin made"


def test_subject_names_a_few_margins_only():
    message = success_message([replace(MARGIN, name=f"m{number}") for number in range(5)], "")
    assert message["Subject"] == "Margin cache done: m0, m1, m2 and 2 more"
    assert "Margin m4" in text(message)


def test_failure_tells_where_and_how_to_go_on(tmp_path):
    log = tmp_path / "job.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff\x1b[31m\n")
    job = Job("map_partitions", {"work": "w", "job": "00000-ab"}, (str(log), "gone"))
    message = failure_message([MARGIN, INCOMPLETE], [job], COMMAND, "Wall time: 0:01:00")
    assert message["Subject"] == "Margin cache failed: x_1arcs in map_partitions"
    lines = text(message).splitlines()
    assert lines[0].startswith("The run has failed. Completed work is kept.")
    assert lines[2:4] == ["    cd '/a dir'", "    snakemake --cores 2"]
    for line in (
        "Failed: rule map_partitions",
        "    work: w",
        "    job: 00000-ab",
        f"    end of {log}:",
        "        line 99",
        "    end of gone:",
        "        (empty or missing)",
        "Margin gaia_10arcs",
        "Wall time: 0:01:00",
    ):
        assert line in lines
    assert "        line 80" not in lines
    assert "message:" not in text(message)


def test_failure_without_a_failed_job_is_a_run_that_was_stopped():
    message = failure_message([MARGIN], [], COMMAND, "")
    assert message["Subject"] == "Margin cache failed: gaia_10arcs"
    assert "the run itself was stopped" in text(message)


def test_failure_stays_short_however_many_jobs_have_failed(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("x" * 10_000_000 + "\n" + "y" * 10_000_000)
    job = Job("map_partitions", {"job": "1"}, (str(log),))
    message = failure_message([MARGIN], [job] * 1000, COMMAND, "")
    assert len(text(message)) < 10_000
    assert "More failed jobs: 995." in text(message)


def test_failure_tells_each_log_once_and_what_the_executor_says(tmp_path):
    log = tmp_path / "empty.log"
    log.touch()
    job = Job("map", {}, (str(log), "slurm.log", str(log)), "SLURM status\nOUT_OF_MEMORY")
    lines = text(failure_message([MARGIN], [job], COMMAND, "")).splitlines()
    assert "    message: SLURM status OUT_OF_MEMORY" in lines
    assert [line for line in lines if "end of" in line] == [
        f"    end of {log}:",
        "    end of slurm.log:",
    ]
    assert "        (empty or missing)" in lines


def test_command_is_quoted_and_has_its_directory_if_that_is_known():
    words = ["snakemake", "--config", "a=b c"]
    assert resume_command(words, None) == "snakemake --config 'a=b c'"
    assert resume_command(words, Path("/a dir")) == "cd '/a dir'\nsnakemake --config 'a=b c'"


def test_terminal_says_where_a_margin_is_and_how_to_open_it():
    relative = replace(MARGIN, location="results/m", catalog="demo/sky", format="hipscat")
    assert finished_margins([MARGIN, INCOMPLETE, relative]).splitlines() == [
        "/out/gaia_10arcs: 1234 rows in 56 files, within 10 arcsec",
        '  to open it in Python: lsdb.open_catalog("/sky/gaia", margin_cache="/out/gaia_10arcs")',
        "results/m: 1234 rows in 56 files, within 10 arcsec",
        f'  to open it in Python: hipscat.read_from_hipscat("{Path.cwd()}/results/m")',
    ]
    assert finished_margins([INCOMPLETE]) == ""


@pytest.mark.parametrize("is_default", [True, False])
def test_a_margin_is_opened_by_the_collection_that_lists_it(is_default):
    margin = replace(MARGIN, collection="/out", is_default=is_default)
    lines = [
        "listed in the collection /out" + (", as its default margin" if is_default else ""),
        'lsdb.open_catalog("/out", margin_cache="gaia_10arcs")',
    ]
    assert finished_margins([margin]).splitlines()[1:] == [
        f"  {lines[0]}",
        f"  to open it in Python: {lines[1]}",
    ]
    mail = text(success_message([margin], "")).splitlines()
    assert f"    {lines[0]}" in mail and f"    open it with {lines[1]}" in mail


def test_terminal_says_that_a_complete_margin_leaves_nothing_to_do():
    assert nothing_to_do(MARGIN) == (
        "margin gaia_10arcs is complete (1234 rows) in /out/gaia_10arcs: nothing to do. To make it "
        "again, use --forceall."
    )
    assert "is complete in /out" in nothing_to_do(replace(MARGIN, rows=None))


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
    content = success_message([replace(MARGIN, name=evil)], "").as_bytes()
    message = message_from_bytes(content, policy=default)
    assert set(message.keys()) == {
        "Subject",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert message["Subject"].startswith("Margin cache done: x")


def test_mail_has_short_lines_of_ascii_characters():
    margin = replace(MARGIN, name="☆" * 100)
    content = success_message([margin], "é\udcff\x00\x1b[31m ☆\n" + "x" * 5000).as_bytes()
    assert content.isascii()
    assert success_message([MARGIN], "Grüße").as_bytes().isascii()
    assert max(map(len, content.split(b"\r\n"))) < 999
    message = message_from_bytes(content, policy=default)
    assert "é???[31m ☆" in message.get_content().splitlines()


def test_what_is_printable_stays():
    assert printable("a\tb\nc é☆") == "a\tb\nc é☆"
    assert printable("\x1b[31m\r\x7f\u2028\udc80") == "?[31m????"


def test_terminal_tells_what_a_margin_will_take():
    expected = Forecast(
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
        memory_mb=562,
    )
    assert forecast_lines(expected).splitlines() == [
        "  84 partitions; up to 110 pixels get margin rows, 26 of them outside the catalog",
        "  jobs to do: 21 map (reading 3.86 MB), 20 reduce; the largest needs 562 MB of memory",
        "  about 3290 rows and 1.21 MB are expected",
    ]
    first, *_ = forecast_lines(replace(expected, negative_pixels=0)).splitlines()
    assert first == "  84 partitions; up to 110 pixels get margin rows"


def test_terminal_tells_how_much_disk_space_there_is_and_where_it_may_not_be_enough():
    output = Place(("output_path",), Path("/out"), 1000, 1000)
    scratch = Place(("tmp_dir",), Path("/scratch"), 2000, 1999)
    assert disk_space_lines([output, scratch]).splitlines() == [
        "  output_path: about 1 kB are needed, 1 kB are free",
        "  tmp_dir: about 2 kB are needed, 2 kB are free, WHICH MAY NOT BE ENOUGH",
    ]
