rule map_partitions:
    input:
        lambda wildcards: job_inputs.partitions_read(margin_of(wildcards), wildcards.job),
    output:
        paths.SHARD,
    log:
        paths.MAP_LOG,
    benchmark:
        paths.MAP_BENCHMARK
    conda:
        "../envs/margin_cache.yaml"
    threads: 1
    resources:
        mem_mb=asked("map_partitions", "mem_mb", for_map),
        disk_mb=asked("map_partitions", "disk_mb", for_map),
        runtime=asked("map_partitions", "runtime", for_map),
    params:
        name=lambda wildcards: margin_of(wildcards).name,
        plan=lambda wildcards: str(margin_of(wildcards).files.plan),
        covers=lambda wildcards, output: margin_of(wildcards).plan.covered_by_map_job(wildcards.job),
        script=script("map_partitions.py"),
    message:
        "Mapping {params.name}, job {wildcards.job:.5}: {params.covers}"
    shell:
        "{params.script} --plan={params.plan:q} --job {wildcards.job}"
        " --threads {threads} --shard={output:q} 2> {log:q}"
