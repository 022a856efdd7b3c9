"""A session answers what the rules ask for, and writes nothing before jobs start."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from margin_cache.config.model import MarginSettings
from margin_cache.errors import MarginCacheError
from margin_cache.margin.model import Margin, load_margin, save_margin
from margin_cache.margin.paths import audit_storage_files
from margin_cache.margin.prepare import finish_by_reducing
from margin_cache.margin.remote import load_options
from margin_cache.progress import Work
from margin_cache.run.audits import Audits, options_key
from margin_cache.run.reports import Reports
from margin_cache.run.session import Session, open_session, resource_functions
from margin_cache.storage.files import is_locked
from support.odd_servers import odd_server
from support.paths import ROOT
from support.peer_margins import DATA
from support.small_skies import small_catalog
from support.stages import run_map_jobs, run_reduce_jobs

Open = Callable[..., Session]


def job(plan_dir: str, name: str) -> SimpleNamespace:
    """Wildcards of a job."""
    return SimpleNamespace(plan_dir=plan_dir, job=name)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return small_catalog(tmp_path / "sky", rows=600, max_rows=100)


@pytest.fixture
def new_session(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["snakemake"])

    def make(*, is_module: bool = False, workflow: Any = None, **config: Any) -> Session:
        given = {"input_catalog_path": str(catalog), "partitions_per_job": 4, **config}
        ordinary = SimpleNamespace(execution_settings=SimpleNamespace(), dryrun=False)
        return Session(workflow or ordinary, given, ROOT, is_module)

    return make


def written() -> set[str]:
    return {path.name for path in Path().iterdir()} - {".snakemake"}


def test_a_reduce_job_reads_the_shards_that_it_needs(new_session: Open) -> None:
    session = new_session()
    ((plan_dir, margin),) = session.margins.items()
    plan = margin.plan
    for number, name in enumerate(plan.reduce_names):
        needed = [plan.map_names[need] for need in plan.needs_of(number)]
        shards = [str(margin.files.shard(shard)) for shard in needed]
        assert session.shards_of_job(job(plan_dir, name)) == shards
        assert shards


def test_the_last_job_waits_for_the_receipts_that_are_missing(new_session: Open) -> None:
    session = new_session()
    ((plan_dir, margin),) = session.margins.items()
    all_receipts = [str(margin.files.receipt(name)) for name in margin.plan.reduce_names]
    assert session.receipts(job(plan_dir, "")) == all_receipts
    assert list(session.margins_in_dag()) == [plan_dir]


def test_the_widest_margin_of_a_catalog_maps_for_the_others_and_is_finished_after_them(
    new_session: Open,
) -> None:
    session = new_session(margins=[{"margin_threshold": 10.0}, {"margin_threshold": 300.0}])
    narrow, wide = session.margins.values()
    assert narrow.name.endswith("_10arcs")
    plans = [str(margin.files.plan_dir) for margin in (narrow, wide)]
    receipts = [
        [str(margin.files.receipt(name)) for name in margin.plan.reduce_names]
        for margin in (narrow, wide)
    ]
    first = job(plans[0], narrow.plan.reduce_names[0])
    assert session.shards_of_job(first)
    assert all(Path(shard).is_relative_to(plans[1]) for shard in session.shards_of_job(first))
    # Its last job deletes the shards.
    assert session.receipts(job(plans[1], "")) == receipts[1] + receipts[0]
    assert session.receipts(job(plans[0], "")) == receipts[0]


def test_the_only_reduce_job_of_a_margin_finishes_it_too(new_session: Open) -> None:
    session = new_session(partitions_per_job=10**4, output_artifact_name="alone")
    (target,) = session.targets(None)
    ((plan_dir, margin),) = session.margins.items()
    (name,) = margin.plan.reduce_names
    assert target == str(margin.files.receipt(name))
    session.shards_of_job(job(plan_dir, name))
    session.start_margins()
    assert load_margin(margin.files.margin_file).is_finished_by_reducing
    # It has the time of both.
    separate = new_session()
    ((other_dir, other),) = separate.margins.items()
    first = job(other_dir, other.plan.reduce_names[0])
    minutes = [
        each.resources(rule)["runtime"](wildcards, [], 1)
        for each, rule, wildcards in (
            (session, "reduce_margins", job(plan_dir, name)),
            (separate, "reduce_margins", first),
            (separate, "finish_margin", first),
        )
    ]
    assert minutes[0] == minutes[1] + minutes[2]


def test_a_margin_has_a_finishing_job_where_reducing_cannot_finish_it(new_session: Open) -> None:
    margins = [{"margin_threshold": 10.0}, {"margin_threshold": 300.0}]
    session = new_session(partitions_per_job=10**4, margins=margins)
    narrow, wide = session.margins.values()
    # The shards of the wide one are deleted after both.
    only = str(narrow.files.receipt(narrow.plan.reduce_names[0]))
    assert session.targets(None) == [only, str(wide.done_file)]
    # After a kill between reducing and finishing.
    save_margin(wide)
    run_map_jobs(wide)
    run_reduce_jobs(wide)
    again = new_session(partitions_per_job=10**4, **margins[1])
    assert again.targets(None) == [str(wide.done_file)]
    assert again.receipts(job(str(wide.files.plan_dir), "")) == []
    # In a store.
    settings = replace(narrow.settings, output_path="s3://bucket/margins")
    remote = finish_by_reducing({"plan": replace(narrow, settings=settings)}, ["plan"])
    assert not remote["plan"].is_finished_by_reducing


def test_a_run_ends_with_the_done_file_unless_the_margin_is_complete(
    new_session: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    session = new_session()
    ((_, margin),) = session.margins.items()
    assert session.targets(None) == session.targets(None) == [str(margin.done_file)]
    # Printed once.
    assert capsys.readouterr().err.count("making margin sky_5arcs of ") == 1


def test_what_only_describes_prints_nothing_of_its_own(
    new_session: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    session = new_session(workflow=SimpleNamespace(execution_settings=None))
    session.targets(None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_module", [True, False])
def test_without_handlers_the_jobs_files_are_saved_when_the_rules_ask(
    new_session: Open, is_module: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a module, or with `--no-hooks`: those of each margin."""
    settings = SimpleNamespace(no_hooks=not is_module)
    margins = [{"margin_threshold": 5}, {"margin_threshold": 10}]
    session = new_session(
        is_module=is_module,
        workflow=SimpleNamespace(execution_settings=settings, dryrun=False),
        completion_email_address="a@example.org",
        margins=margins,
    )
    assert len(session.margins) == 2
    for plan_dir, margin in session.margins.items():
        session.receipts(job(plan_dir, ""))
        assert margin.files.plan.exists()
        assert is_locked(margin.files.plan_lock)
    done: list[Margin] = []
    for margin in session.margins.values():
        session.do_before_jobs(partial(done.append, margin))
    assert done == list(session.margins.values())
    # A process that runs a job loads them, and does not compute its own request again.
    of_job = new_session(workflow=SimpleNamespace(is_main_process=False), margins=margins)
    assert set(of_job.margins) == set(session.margins)
    for plan_dir, margin in of_job.margins.items():
        request = of_job.resources("map_partitions")["mem_mb"]
        assert request(job(plan_dir, margin.plan.map_names[0]), [], 1) == 1
    # A mail that nobody sends is not passed over in silence.
    assert capsys.readouterr().err.count("completion_email_address: ") == 1


def test_a_dry_run_of_a_module_writes_nothing(new_session: Open) -> None:
    dry = SimpleNamespace(execution_settings=SimpleNamespace(), dryrun=True)
    session = new_session(is_module=True, workflow=dry)
    ((plan_dir, _),) = session.margins.items()
    session.receipts(job(plan_dir, ""))
    assert written() == set()


def test_an_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["snakemake"])
    config = {"input_catalog_path": str(tmp_path / "nothing")}
    with pytest.raises(SystemExit) as ended:
        open_session(SimpleNamespace(), config, ROOT, is_module=False)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: input_catalog_path: ")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "the margin of this configuration, results/sky_5arcs, does not exist. Make it first"),
        ("nowhere", "nowhere is not a directory. Give the margin to check."),
        ("nothing", "nothing has no metadata of a margin. Give the margin to check."),
        ("../sky", "../sky has no metadata of a margin. Give the margin to check."),
        ("collection", "collection is a collection without a default margin"),
    ],
)
def test_an_audit_of_no_margin_is_refused_when_its_rule_asks(
    new_session: Open, capsys: pytest.CaptureFixture[str], path: str, line: str
) -> None:
    Path("nothing").mkdir()
    Path("collection").mkdir()
    Path("collection/collection.properties").write_text("all_margins=a b\n")
    audits = Audits(new_session(audit_catalog_path=path))
    with pytest.raises(SystemExit):
        audits.results(None)
    assert capsys.readouterr().err.startswith(f"error: audit_catalog_path: {line}")
    assert not audits.add_work(Work()) and not audits.verdicts(are_finished=True)


def make_margin(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "properties").write_text("obs_collection=m\ndataproduct_type=margin\n")


def test_margins_of_one_name_have_their_own_audits(new_session: Open, catalog: Path) -> None:
    """By path, by a link, by name or by default in a collection."""
    paths = ["results/m", "elsewhere/m", "collection/m"]
    for path in (*paths, "../listed/far"):
        make_margin(Path(path))
    Path("link").symlink_to("elsewhere")
    properties = "hats_primary_table_url=../../sky\nall_margins=m {}\ndefault_margin={}\n"
    listed = Path("../listed/far").resolve()
    for name, default in (("collection", "m"), ("other", listed)):
        Path(name).mkdir(exist_ok=True)
        Path(name, "collection.properties").write_text(properties.format(listed, default))

    def audited(catalog: Path, path: str) -> tuple[str, str]:
        session = new_session(input_catalog_path=str(catalog), audit_catalog_path=path)
        ((request, *_),) = Audits(session).requests().values()
        return request.margin, request.output_dir

    found = dict([audited(catalog, path) for path in (*paths, "collection")])
    assert len(found) == len(set(found.values())) == 3
    assert found["results/m"] == "results/m_audit"
    assert audited(catalog, "link/m")[1] == found["elsewhere/m"]
    collection = Path("collection")
    assert audited(collection, "collection/m") == audited(collection, "collection")
    assert audited(collection, "far") == audited(catalog, "other") == audited(catalog, str(listed))


def test_keys_override_what_an_audited_margin_says_of_itself(new_session: Open) -> None:
    make_margin(Path("results/m"))

    def request(**config: Any) -> tuple[Any, ...]:
        session = new_session(audit_catalog_path="results/m", **config)
        ((asked, *_),) = Audits(session).requests().values()
        return asked.threshold, asked.cell_order, asked.is_coarse, asked.only_pixels

    assert request() == (None, None, None, None)
    keys = {"audit_threshold": 7.5, "margin_order": 6, "fine_filtering": False}
    assert request(**keys, debug_filter_pixel_list=[[0, 4]]) == (7.5, 6, True, ((0, 4),))


def test_an_audit_does_not_judge_the_margin_that_the_configuration_would_make(
    new_session: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    make_margin(Path("results/other"))
    Path("results/sky_5arcs").symlink_to("other")
    entries = [{"audit_catalog_path": "results/other"}, {"audit_catalog_path": "results/sky_5arcs"}]
    session = new_session(margins=entries[:1])
    assert len(Audits(session).results(None)) > 1
    printed = capsys.readouterr().err
    assert "sky_5arcs" not in printed
    with pytest.raises(SystemExit):
        session.targets(None)
    assert "error: output_path: results/sky_5arcs is a link" in capsys.readouterr().err
    Path("results/sky_5arcs").unlink()
    make_margin(Path("results/sky_5arcs"))
    audits = Audits(new_session(margins=entries))
    assert [request.margin for request, *_ in audits.requests().values()] == [
        entry["audit_catalog_path"] for entry in entries
    ]
    with pytest.raises(SystemExit):
        new_session().targets(None)
    assert "results/sky_5arcs exists and was not made by this workflow" in capsys.readouterr().err
    with pytest.raises(MarginCacheError, match=r"two audits would be written into results/other_"):
        Audits(new_session(margins=[entries[0], {**entries[0], "audit_seed": 1}])).requests()


def test_a_report_of_a_margin_that_is_made_waits_for_it(new_session: Open) -> None:
    session = new_session()
    reports = Reports(session)
    ((_, margin),) = session.margins.items()
    files = [str(margin.done_file), str(margin.files.report_page)]
    assert reports.pages(None) == files
    assert reports.existing_pages(None) == []


def test_two_reports_in_one_directory_are_refused(
    new_session: Open, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session(margins=[{"output_path": "a"}, {"output_path": "b", "tmp_dir": "tmp"}])
    for margin in session.margins.values():
        monkeypatch.setattr(type(margin.files), "pages_dir", Path("results"))
    with pytest.raises(SystemExit):
        Reports(session).pages(None)
    assert "several reports would be written to results/sky_5arcs_report" in capsys.readouterr().err


def test_snakemakes_report_names_the_verdict_of_a_margin(
    new_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session()
    ((_, margin),) = session.margins.items()
    wildcards = SimpleNamespace(report_dir=str(margin.files.report_dir))
    assert Reports(session).category(wildcards) == "Margin sky_5arcs (not audited)"
    audit = {"verdict": "clean"}
    monkeypatch.setattr("margin_cache.run.reports.read_audit_of_margin", lambda margin: audit)
    assert Reports(session).category(wildcards) == "Margin sky_5arcs (audit: clean)"


def test_a_request_grows_with_the_attempts() -> None:
    from margin_cache.planning.jobs import Request

    resources = resource_functions(lambda wildcards, input: Request(100, 5, 10))
    assert list(resources) == ["mem_mb", "disk_mb", "runtime"]
    mem_mb = resources["mem_mb"]
    assert [mem_mb(None, [], attempt) for attempt in (1, 2, 3)] == [100, 200, 300]


@pytest.mark.parametrize(
    ("catalog", "output_path", "margin", "key"),
    [
        ("gaia", "s3://sky/lab", "s3://sky/lab/m", "output_storage_options"),
        ("gaia", "s3a://sky//", "s3://sky/lab/m", "output_storage_options"),
        ("gaia", "s3://sky/la", "s3://sky/lab/m", "input_storage_options"),
        ("gaia", "results", "s3://sky/lab/m", "input_storage_options"),
        ("s3://other/gaia", "results", "s3://sky/lab/m", "input_storage_options"),
        ("https://a.org/gaia", "results", "https://a.org/m", "input_storage_options"),
        ("https://a.org/gaia", "results", "https://a.org.evil.org/m", ""),
        ("https://a.org/gaia", "results", "https://b.org/m", ""),
        ("https://a.org/gaia", "results", "s3://sky/lab/m", ""),
        ("https://a.org/gaia", "s3://sky/lab", "results/m", ""),
    ],
)
def test_the_options_of_an_audited_margin_follow_from_its_place(
    catalog: str, output_path: str, margin: str, key: str
) -> None:
    """Those of the catalog are not sent to another server."""
    settings = MarginSettings(input_catalog_path=catalog, output_path=output_path)
    assert options_key(settings, margin) == key


def test_jobs_of_an_audit_find_options_but_no_secret_is_saved(
    new_session: Open, tmp_path: Path
) -> None:
    options = {"headers": {"Authorization": "s3cret"}}
    with odd_server(DATA / "hats_import") as url:
        given = {"audit_catalog_path": f"{url}/margin", "input_storage_options": options}
        file = tmp_path / "secrets.yaml"
        file.write_text(json.dumps(given))
        workflow = SimpleNamespace(execution_settings=None, dryrun=False, configfiles=[file])
        session = new_session(workflow=workflow, **given)
        audits = Audits(session)
        audits.results(None)
    for action in session.before_jobs:
        action()
    (directory,) = map(Path, audits.requests())
    assert json.loads((directory / "request.json").read_text())["margin"] == f"{url}/margin"
    assert list(map(load_options, audit_storage_files(directory))) == [{}, options]
    for path in directory.iterdir():
        assert "s3cret" not in path.read_text()
