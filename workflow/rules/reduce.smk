rule reduce_margins:
    input:
        lambda wildcards: job_inputs.shards_read(margin_of(wildcards), wildcards.job),
    output:
        paths.RECEIPT,
        paths.FOOTERS,
    log:
        paths.REDUCE_LOG,
    benchmark:
        paths.REDUCE_BENCHMARK
    conda:
        "../envs/margin_cache.yaml"
    threads: 1
    resources:
        mem_mb=asked("reduce_margins", "mem_mb", for_reduce),
        disk_mb=asked("reduce_margins", "disk_mb", for_reduce),
        runtime=asked("reduce_margins", "runtime", for_reduce),
    params:
        name=lambda wildcards: margin_of(wildcards).name,
        plan=lambda wildcards: str(margin_of(wildcards).files.plan),
        staging_dir=lambda wildcards: str(margin_of(wildcards).files.staging_dir),
        covers=lambda wildcards, output: margin_of(wildcards).plan.covered_by_reduce_job(
            wildcards.job
        ),
        script=script("reduce_margins.py"),
    message:
        "Reducing {params.name}, job {wildcards.job:.5}: {params.covers}"
    shell:
        "{params.script} --plan={params.plan:q} --job {wildcards.job}"
        " --staging-dir={params.staging_dir:q} 2> {log:q}"
