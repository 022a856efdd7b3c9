"""Whatever is wrong, a run ends with one clear line, and what was there is left as it was."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from margin_cache.config.validation import settings_of_margins
from margin_cache.errors import MarginCacheError
from margin_cache.stages.prepare import prepare_margins
from support.margins import tree_digest
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

LAST_LINES = 10  # of the output: the error stands among them
THRESHOLD = 60.0
OTHER_THRESHOLD = 30.0
NAME = "small_60arcs"
# What a shell, Snakemake's wildcards or a format string could take for something else.
ODD_NAME = 'it\'s "odd" $HOME; é☆'
BRACES = " {x} {{y}}"


@dataclass
class Site:
    """A directory with a catalog, and the configuration of a run there."""

    root: Path
    config: dict[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)

    @property
    def catalog(self) -> Path:
        return self.root / "small"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def partition(self, number: int) -> Path:
        """File of a partition; 0 is the first, which is read before any job starts."""
        lines = (self.catalog / "partition_info.csv").read_text().split()[1:]
        order, pixel, group = lines[number].split(",")
        return self.catalog / f"Norder={order}" / f"Dir={group}" / f"Npix={pixel}.parquet"

    def run(self):
        config = {
            "input_catalog_path": self.catalog,
            "output_path": self.output,
            "margin_threshold": THRESHOLD,
            **self.config,
        }
        return run_workflow(self.root / "run", *self.arguments, config=config)


Fault = Callable[[Site], None]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A catalog that no test may change."""
    return small_catalog(tmp_path_factory.mktemp("pristine") / "small")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, pristine):
    """Where the margin of the pristine catalog was made: directories small, output and run."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copytree(pristine, root / "small")
    assert Site(root).run().returncode == 0
    return root


@pytest.fixture
def site(tmp_path, pristine):
    shutil.copytree(pristine, tmp_path / "small")
    return Site(tmp_path)


def with_finished_margin(site: Site, finished: Path) -> Site:
    """Give a site the margin that was made elsewhere, but not its intermediate files."""
    shutil.copytree(finished / "output", site.output)
    return site


def error_line(finished) -> str:
    """The one line that says what is wrong; the output has all that is asked of a failed run."""
    assert finished.returncode != 0, finished.stdout
    assert "Traceback" not in finished.stdout, finished.stdout
    lines = finished.stdout.rstrip().splitlines()
    errors = {line for line in lines[-LAST_LINES:] if line.startswith("error: ")}
    assert len(errors) == 1, finished.stdout
    return errors.pop()


def assert_says(line: str, words: tuple[str, ...]):
    for word in words:
        assert word in line


def assert_refused_before_any_job(site: Site, *words: str):
    """A run says in its last line what is wrong, starts no job and changes nothing."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    output_existed = site.output.exists()
    finished = site.run()
    line = error_line(finished)
    assert line == finished.stdout.rstrip().splitlines()[-1]
    assert_says(line, words)
    assert "Job stats" not in finished.stdout
    assert tree_digest(site.catalog) == catalog
    assert tree_digest(site.output) == output
    assert site.output.exists() == output_existed


def assert_fails_in_a_job(site: Site, *words: str):
    """A run says at its end what is wrong; neither a margin nor half of one has its name."""
    catalog, output = tree_digest(site.catalog), tree_digest(site.output)
    line = error_line(site.run())
    assert_says(line, words)
    assert tree_digest(site.catalog) == catalog
    visible = {name: text for name, text in tree_digest(site.output).items() if name[0] != "."}
    assert visible == output
    if not output:
        assert list(site.output.glob("[!.]*")) == []


# --- faults of the configuration, of which tests/unit/config has all -------------------------


def test_faulty_key_in_a_file_is_refused(site):
    site.config = {"margin_treshold": 5.0}
    assert_refused_before_any_job(site, "margin_treshold", "no such key", "margin_threshold")


def test_faulty_value_on_the_command_line_is_refused(site):
    site.arguments = ["--config", "partitions_per_job=many"]
    assert_refused_before_any_job(site, "partitions_per_job", "many", "auto")


def test_two_margins_of_a_name_are_refused(site):
    config = {
        "input_catalog_path": str(site.catalog),
        "output_path": str(site.output),
        "tmp_dir": str(site.root / "tmp"),
        "margin_threshold": THRESHOLD,
        "margins": [{"fine_filtering": True}, {"fine_filtering": False}],
    }
    with pytest.raises(MarginCacheError, match=f"output_artifact_name: two margins .* {NAME};"):
        prepare_margins(settings_of_margins(config))


# --- faults of the catalog that show before any job ------------------------------------------


def missing(site: Site):
    shutil.rmtree(site.catalog)


def file_instead(site: Site):
    shutil.rmtree(site.catalog)
    site.catalog.write_text("a catalog")


def no_info(site: Site):
    (site.catalog / "catalog_info.json").unlink()


def of_type(catalog_type: str) -> Fault:
    def fault(site: Site):
        edit_info(site, catalog_type=catalog_type)

    return fault


def edit_info(site: Site, **values: Any):
    path = site.catalog / "catalog_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def garbage_in(name: str, content: bytes) -> Fault:
    def fault(site: Site):
        (site.catalog / name).write_bytes(content)

    return fault


def edit_partition_info(edit: Callable[[list[str]], list[str]]) -> Fault:
    def fault(site: Site):
        path = site.catalog / "partition_info.csv"
        path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))

    return fault


def lost_partition(site: Site):
    site.partition(3).unlink()


def no_partitions(site: Site):
    for directory in site.catalog.glob("Norder=*"):
        shutil.rmtree(directory)
    edit_partition_info(lambda lines: lines[:1])(site)


def overlapping_partitions(site: Site):
    inside = site.catalog / "Norder=2/Dir=0/Npix=70.parquet"  # inside pixel 4 of order 0
    inside.parent.mkdir(parents=True)
    shutil.copy(site.catalog / "Norder=0/Dir=0/Npix=4.parquet", inside)
    edit_partition_info(lambda lines: [*lines, "2,70,0\n"])(site)


def cut_end(number: int) -> Fault:
    def fault(site: Site):
        path = site.partition(number)
        path.write_bytes(path.read_bytes()[:-100])

    return fault


def empty_file(site: Site):
    site.partition(5).write_bytes(b"")


def wrong_footer_length(number: int) -> Fault:
    """The magic bytes are there, but the footer is said to be longer than the file."""

    def fault(site: Site):
        path = site.partition(number)
        path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x0f" + b"PAR1")

    return fault


def without_column(column: str) -> Fault:
    """The column is nowhere, nor in _common_metadata."""
    return in_all_files(lambda table: table.drop_columns([column]))


def in_all_files(edit: Callable[[pa.Table], pa.Table]) -> Fault:
    """All partitions are edited, and _common_metadata."""

    def fault(site: Site):
        for path in site.catalog.rglob("*.parquet"):
            rewrite(path, edit)
        schema = pq.read_schema(site.partition(0))
        pq.write_metadata(schema, site.catalog / "_common_metadata")
        (site.catalog / "_metadata").unlink()

    return fault


def twin_column(table: pa.Table) -> pa.Table:
    return table.append_column("mag", table["mag"])


def rewrite(path: Path, edit: Callable[[pa.Table], pa.Table], **options: Any):
    pq.write_table(edit(pq.ParquetFile(path).read()), path, **options)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(fault, words, id=name)
        for name, fault, words in [
            ("missing", missing, ("no such directory",)),
            ("file", file_instead, ("is a file",)),
            ("foreign", no_info, ("HiPSCat catalog", "catalog_info.json")),
            ("margin", of_type("margin"), ("type margin", "object or source")),
            ("index", of_type("index"), ("type index", "object or source")),
            ("association", of_type("association"), ("type association", "object or source")),
            ("info", garbage_in("catalog_info.json", b"\xff{"), ("catalog_info.json", "damaged")),
            ("info-list", garbage_in("catalog_info.json", b"[]"), ("catalog_info.json", "damaged")),
            ("lost", lost_partition, ("partition_info.csv lists", "Npix=", "missing")),
            (
                "unlisted",
                edit_partition_info(lambda lines: lines[:-1]),
                ("partition_info.csv does not list", "Npix=", "there"),
            ),
            (
                "partition-info",
                garbage_in("partition_info.csv", b"Norder,Npix\n\xff\x00,1\n"),
                ("partition_info.csv", "damaged"),
            ),
            (
                "partition-info-long",
                garbage_in("partition_info.csv", b"x" * 200_000),
                ("partition_info.csv", "damaged"),
            ),
            ("no-partitions", no_partitions, ("no partitions",)),
            ("overlap", overlapping_partitions, ("Npix=4.parquet", "Npix=70.parquet", "overlap")),
            ("common", garbage_in("_common_metadata", b"PAR1"), ("_common_metadata", "read")),
        ]
    ],
)
def test_faulty_catalog_is_refused(site, fault, words):
    fault(site)
    assert_refused_before_any_job(site, str(site.catalog), *words)


@pytest.mark.parametrize(
    ("fault", "number", "words"),
    [
        pytest.param(cut_end(0), 0, ("truncated", "copy it again"), id="cut-first"),
        pytest.param(cut_end(7), 7, ("truncated", "copy it again"), id="cut"),
        pytest.param(empty_file, 5, ("empty", "0 bytes", "copy it again"), id="empty"),
        pytest.param(wrong_footer_length(0), 0, ("cannot be read",), id="footer-length"),
    ],
)
def test_damaged_partition_is_refused(site, fault, number, words):
    fault(site)
    assert_refused_before_any_job(site, str(site.partition(number)), *words)


@pytest.mark.parametrize("column", ["_hipscat_index", "ra", "dec"])
def test_catalog_without_a_needed_column_is_refused(site, column):
    without_column(column)(site)
    assert_refused_before_any_job(site, str(site.catalog), f"no column {column}")


def test_catalog_with_two_columns_of_a_name_is_refused(site):
    in_all_files(twin_column)(site)
    assert_refused_before_any_job(site, str(site.catalog), "several columns mag", "rename")


def test_pixel_that_the_catalog_lacks_is_refused(site):
    site.config = {"debug_filter_pixel_list": [[0, 4], [3, 5]]}
    assert_refused_before_any_job(site, "debug_filter_pixel_list", "no partition [3, 5]")


# --- faults of the places --------------------------------------------------------------------


def test_output_that_is_the_input_is_refused(site):
    site.config = {"output_path": site.root, "output_artifact_name": "small", "overwrite": True}
    assert_refused_before_any_job(site, "output_path", str(site.catalog), "another place")


def test_output_inside_the_input_is_refused(site):
    site.config = {"output_path": site.catalog / "margins", "overwrite": True}
    assert_refused_before_any_job(site, "output_path", "inside", str(site.catalog))


def test_output_inside_the_input_by_a_link_is_refused(site):
    (site.root / "link").symlink_to(site.catalog)
    site.config = {"output_path": site.root / "link"}
    assert_refused_before_any_job(site, "output_path", "inside", str(site.catalog))


def test_output_around_the_input_is_refused(site):
    site.config = {
        "output_path": site.root.parent,
        "output_artifact_name": site.root.name,
        "overwrite": True,
    }
    assert_refused_before_any_job(site, "output_path", "around", str(site.catalog))


def test_intermediate_files_inside_the_input_are_refused(site):
    site.config = {"tmp_dir": site.catalog / "tmp"}
    assert_refused_before_any_job(site, "tmp_dir", "inside", str(site.catalog))


@pytest.mark.parametrize("key", ["output_path", "tmp_dir"])
def test_place_inside_the_input_of_another_margin_is_refused(site, pristine, key):
    site.config = {"margins": [{}, {"input_catalog_path": str(pristine), key: str(site.catalog)}]}
    site.config["margins"][1]["output_artifact_name"] = "second"
    assert_refused_before_any_job(site, key, "inside", str(site.catalog))


@pytest.mark.parametrize("key", ["output_path", "tmp_dir"])
def test_place_below_a_file_is_refused(site, key):
    (site.root / "file").write_text("not a directory")
    site.config = {key: site.root / "file" / "below"}
    assert_refused_before_any_job(site, key, str(site.root / "file"), "not a directory")


@pytest.mark.parametrize("key", ["output_path", "tmp_dir"])
def test_place_that_cannot_be_made_is_refused(site, key):
    site.config = {key: "/proc/margins"}
    assert_refused_before_any_job(site, key, "/proc", "cannot be written to")


def test_file_of_the_margins_name_is_refused(site):
    site.output.mkdir()
    (site.output / NAME).write_text("not a directory")
    site.config = {"overwrite": True}
    assert_refused_before_any_job(site, "output_path", NAME, "is a file")


# --- what stands in the margin's place -------------------------------------------------------


def foreign_directory(site: Site):
    (site.output / NAME / "notes").mkdir(parents=True)
    (site.output / NAME / "notes" / "letter.txt").write_text("keep me")


def test_foreign_directory_of_the_margins_name_is_kept(site):
    foreign_directory(site)
    assert_refused_before_any_job(
        site, "output_path", str(site.output / NAME), "not made by this workflow", "overwrite: true"
    )


def test_foreign_directory_of_the_margins_name_is_replaced_on_demand(site, finished):
    foreign_directory(site)
    site.config = {"overwrite": True}
    assert site.run().returncode == 0
    assert [path.name for path in site.output.iterdir()] == [NAME]
    assert catalog_digest(site.output / NAME) == catalog_digest(finished / "output" / NAME)


def test_margin_made_with_other_parameters_is_kept(site, finished):
    with_finished_margin(site, finished)
    site.config = {"output_artifact_name": NAME, "margin_threshold": OTHER_THRESHOLD}
    assert_refused_before_any_job(
        site,
        "output_path",
        str(site.output / NAME),
        "other parameters",
        "margin_threshold 60.0, not 30.0",
        "overwrite: true",
    )


def test_margin_of_the_catalog_in_another_compression_is_kept(site):
    assert site.run().returncode == 0
    pq.write_table(pq.ParquetFile(site.partition(0)).read(), site.partition(0), compression="zstd")
    assert_refused_before_any_job(
        site, "output_path", str(site.output / NAME), "other partitions, columns, compression"
    )


def test_margin_made_with_other_parameters_is_replaced_on_demand(site, finished):
    with_finished_margin(site, finished)
    site.config = {
        "output_artifact_name": NAME,
        "margin_threshold": OTHER_THRESHOLD,
        "overwrite": True,
    }
    assert site.run().returncode == 0
    assert [path.name for path in site.output.iterdir()] == [NAME]
    info = json.loads((site.output / NAME / "catalog_info.json").read_text())
    assert info["margin_threshold"] == OTHER_THRESHOLD


def test_margin_is_kept_when_the_run_that_replaces_it_fails(site, finished):
    with_finished_margin(site, finished)
    site.config = {
        "output_artifact_name": NAME,
        "margin_threshold": OTHER_THRESHOLD,
        "overwrite": True,
    }
    wrong_footer_length(9)(site)
    assert_fails_in_a_job(site, str(site.partition(9)), "cannot be read")


# --- faults that only a job can find ---------------------------------------------------------


def cut_middle(site: Site):
    """The end is whole, but a part of the data before it is gone."""
    path = site.partition(9)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4] + content[len(content) // 2 :])


def zeroed_data(site: Site):
    path = site.partition(9)
    content = path.read_bytes()
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    path.write_bytes(b"PAR1" + bytes(len(content) - footer - 4) + content[-footer:])


def other_type(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("mag")
    return table.set_column(place, "mag", table["mag"].cast(pa.float64()))


def other_order(table: pa.Table) -> pa.Table:
    names = table.column_names
    return table.select([names[1], names[0], *names[2:]])


def extra_column(table: pa.Table) -> pa.Table:
    return table.append_column("surprise", pa.nulls(table.num_rows, pa.int8()))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        pytest.param(other_type, ("column mag", "double", "float"), id="type"),
        pytest.param(lambda table: table.drop_columns(["mag"]), ("lacks", "mag"), id="missing"),
        pytest.param(lambda table: table.drop_columns(["dec"]), ("no column dec",), id="position"),
        pytest.param(extra_column, ("has a column surprise",), id="extra"),
        pytest.param(twin_column, ("several columns mag",), id="twin"),
        pytest.param(other_order, ("another order",), id="order"),
    ],
)
def test_partition_of_another_schema_is_named(site, edit, words):
    rewrite(site.partition(9), edit)
    assert_fails_in_a_job(site, str(site.partition(9)), *words)


@pytest.mark.parametrize("fault", [wrong_footer_length(9), cut_middle, zeroed_data])
def test_partition_corrupted_inside_is_named(site, fault):
    fault(site)
    assert_fails_in_a_job(site, str(site.partition(9)), "cannot be read")


@pytest.mark.parametrize(
    ("column", "value"), [("ra", None), ("dec", float("nan")), ("dec", float("inf"))]
)
def test_rows_without_coordinates_are_counted(site, column, value):
    path = site.partition(9)
    rows = [1, 30, 31, 95]  # in three row groups of 40

    def edit(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        for row in rows:
            values[row] = value
        place = table.schema.get_field_index(column)
        return table.set_column(place, table.schema.field(place), pa.array(values, pa.float64()))

    rewrite(path, edit, row_group_size=40)
    assert_fails_in_a_job(site, str(path), f"{len(rows)} rows", column)


# --- what is odd but right -------------------------------------------------------------------


def catalog_digest(place: Path) -> dict[str, str]:
    """Digests of a margin's files but for the two that hold paths or a date."""
    digest = tree_digest(place)
    return {name: digest[name] for name in digest if not name.endswith("_info.json")}


@pytest.mark.parametrize("odd", ["small", "output", "tmp", "run"])
def test_odd_name_of_a_directory_does_not_matter(tmp_path, pristine, finished, odd):
    places = {name: tmp_path / name for name in ("small", "output", "tmp", "run")}
    # Snakemake would take braces in the paths of intermediate files for wildcards.
    name = ODD_NAME if odd == "tmp" else ODD_NAME + BRACES
    places[odd] = tmp_path / name / odd
    check_odd_names(pristine, finished, places)


def test_odd_names_of_all_directories_do_not_matter(tmp_path, pristine, finished):
    places = {name: tmp_path / ODD_NAME / name for name in ("small", "output", "tmp", "run")}
    check_odd_names(pristine, finished, places)


def test_odd_relative_names_do_not_matter(tmp_path, pristine, finished):
    places = {name: Path(ODD_NAME, name) for name in ("small", "output", "tmp")}
    check_odd_names(pristine, finished, {**places, "run": tmp_path / "run"})


def check_odd_names(pristine: Path, finished: Path, places: dict[str, Path]):
    shutil.copytree(pristine, places["run"] / places["small"])
    config = {
        "input_catalog_path": places["small"],
        "output_path": places["output"],
        "tmp_dir": places["tmp"],
        "margin_threshold": THRESHOLD,
    }
    done = run_workflow(places["run"], config=config)
    assert done.returncode == 0, done.stdout
    made = places["run"] / places["output"] / NAME
    assert catalog_digest(made) == catalog_digest(finished / "output" / NAME)
    assert json.loads((made / "catalog_info.json").read_text(encoding="utf-8"))[
        "primary_catalog"
    ] == str(places["small"])


def test_margin_of_the_test_catalog_is_not_empty(finished):
    rows = [pq.read_metadata(path).num_rows for path in (finished / "output").rglob("*.parquet")]
    assert np.min(rows) > 0
    assert len(rows) > 10
