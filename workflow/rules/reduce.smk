rule reduce_margins:
    input:
        lambda wildcards: job_inputs.shards_read(margin_of(wildcards), wildcards.job),
    output:
        layout.RECEIPT,
        layout.FOOTERS,
    log:
        layout.REDUCE_LOG,
    conda:
        "../envs/margin_cache.yaml"
    threads: 1
    resources:
        mem_mb=asked("mem_mb", for_reduce),
        disk_mb=asked("disk_mb", for_reduce),
        runtime=asked("runtime", for_reduce),
    params:
        name=lambda wildcards: margin_of(wildcards).name,
        plan=lambda wildcards: str(margin_of(wildcards).files.plan),
        staging_dir=lambda wildcards: str(margin_of(wildcards).files.staging_dir),
        script=script("reduce_margins.py"),
    message:
        "Reducing {params.name}, job {wildcards.job}"
    shell:
        "{params.script} --plan={params.plan:q} --job {wildcards.job}"
        " --staging-dir={params.staging_dir:q} 2> {log:q}"
