def partitions_of(wildcards):
    plan = MARGINS[wildcards.work].plan
    return plan.files_of(plan.map_job_of(wildcards.job))


def shard(path):
    """Mark a shard as temporary, unless a margin wants to keep its shards."""
    keep = any(not m.settings.delete_intermediate_parquet_files for m in MARGINS.values())
    return path if keep else temp(path)


rule map_partitions:
    input:
        partitions_of,
    output:
        shard("{work}/shards/{job}.arrow"),
    log:
        "{work}/logs/map_partitions/{job}.log",
    threads: 1
    params:
        name=lambda wildcards: MARGINS[wildcards.work].name,
    message:
        "Mapping {params.name}, job {wildcards.job}"
    shell:
        "{PYTHON} {SCRIPTS:q}/map_partitions.py --plan {wildcards.work:q}/plan.npz"
        " --job {wildcards.job} --shard {output:q} 2> {log:q}"
