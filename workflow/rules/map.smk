rule map_partitions:
    input:
        lambda wildcards: job_inputs.partitions_read(margin_of(wildcards), wildcards.job),
    output:
        layout.SHARD,
    log:
        layout.MAP_LOG,
    conda:
        "../envs/margin_cache.yaml"
    threads: 1
    resources:
        mem_mb=asked("mem_mb", for_map),
        disk_mb=asked("disk_mb", for_map),
        runtime=asked("runtime", for_map),
    params:
        name=lambda wildcards: margin_of(wildcards).name,
        plan=lambda wildcards: str(margin_of(wildcards).files.plan),
        script=script("map_partitions.py"),
    message:
        "Mapping {params.name}, job {wildcards.job}"
    shell:
        "{params.script} --plan={params.plan:q} --job {wildcards.job}"
        " --threads {threads} --shard={output:q} 2> {log:q}"
