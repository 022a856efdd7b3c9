"""On a real SLURM cluster, a catalog in S3 makes the margin there that one on disk makes here."""

from pathlib import Path

from support.object_servers import s3_server
from support.paths import ROOT
from support.remote_catalogs import NAME, configured, made_on_disk, only_parquet
from support.slurm_cluster import Cluster
from support.small_skies import small_catalog
from support.workflow_runs import run_workflow

PROFILE = (
    *("--workflow-profile", ROOT / "profiles/slurm"),
    *("--default-resources", "slurm_account=lab", "slurm_partition=main"),
    *("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "1"),
)


def test_a_margin_from_s3_to_s3(cluster: Cluster, tmp_path: Path) -> None:
    catalog = small_catalog(tmp_path / "sky/sky", rows=2000, max_rows=100)
    with s3_server(tmp_path / "s3") as s3:
        url = s3.upload(catalog, "input/sky")
        config = configured(url, s3, "output", partitions_per_job=50)
        run = tmp_path / "run"
        run_workflow(run, *PROFILE, config=config, check=True)
        found = only_parquet(s3.digests(f"output/{NAME}"))
        assert found == only_parquet(made_on_disk(tmp_path / "local", catalog, s3))
        assert len(found) > 20
        jobs = cluster.jobs_of(run)
        assert len(jobs) >= 2
        assert {job["state"] for job in jobs} == {"COMPLETED"}
