"""On a real SLURM cluster, a catalog in S3 makes the margins there that one on disk makes here."""

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


def test_two_margins_of_one_reading_from_s3_to_s3(cluster: Cluster, tmp_path: Path) -> None:
    """Only one of them has map jobs."""
    catalog = small_catalog(tmp_path / "sky/sky", rows=2000, max_rows=100)
    thresholds = {NAME: 60.0, "narrow": 20.0}
    with s3_server(tmp_path / "s3") as s3:
        url = s3.upload(catalog, "input/sky")
        config = configured(url, s3, "output", partitions_per_job=50)
        config["margins"] = [
            {"output_artifact_name": name, "margin_threshold": threshold}
            for name, threshold in thresholds.items()
        ]
        run = tmp_path / "run"
        run_workflow(run, *PROFILE, config=config, check=True)
        for name, threshold in thresholds.items():
            found = only_parquet(s3.digests(f"output/{name}"))
            on_disk = made_on_disk(tmp_path / name, catalog, s3, margin_threshold=threshold)
            assert found == only_parquet(on_disk)
            assert len(found) > 10
        mapped = run.glob("intermediate/*/*/logs/map_partitions/*.log")
        assert {path.relative_to(run / "intermediate").parts[0] for path in mapped} == {NAME}
        jobs = cluster.jobs_of(run)
        assert len(jobs) >= 3
        assert {job["state"] for job in jobs} == {"COMPLETED"}
