"""What jobs have cost is read from what Snakemake writes of them."""

from pathlib import Path

from margin_cache.margin.paths import PlanFiles
from margin_cache.report.benchmarks import read_costs

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write(files: PlanFiles, rule: str, job: str, text: str) -> None:
    path = files.benchmarks_dir(rule) / f"{job}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_jobs_are_put_together_by_stages(tmp_path: Path):
    files = PlanFiles(tmp_path)
    assert read_costs(files) == []
    write(files, "reduce_margins", "0", HEADER + "2.5\t0:00:02\t80.5\t1\t1\t1\t0\t0\t90\t2.25\n")
    write(files, "map_partitions", "0", HEADER + "1\t0:00:01\t60\t1\t1\t1\t0\t0\t90\t0.5\n")
    write(files, "map_partitions", "1", HEADER + "3\t0:00:03\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n")
    mapping, reducing = read_costs(files)
    assert (mapping.stage, reducing.stage) == ("Mapping", "Reducing")
    assert mapping.seconds.tolist() == [1, 3]
    assert mapping.cpu_seconds.tolist() == [0.5, 0]
    assert mapping.memory_mb.tolist() == [60, 0]
    assert (reducing.seconds[0], reducing.cpu_seconds[0], reducing.memory_mb[0]) == (
        2.5,
        2.25,
        80.5,
    )


def test_files_that_a_kill_cut_off_do_not_count(tmp_path: Path):
    files = PlanFiles(tmp_path)
    for job, text in enumerate(("", HEADER, HEADER + "1\t0:00:0", "s\n1\n")):
        write(files, "finish_margin", str(job), text)
    assert read_costs(files) == []
