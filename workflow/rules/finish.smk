rule finish_margin:
    input:
        lambda wildcards: receipts(margin_of(wildcards)),
    output:
        paths.DONE,
    log:
        paths.FINISH_LOG,
    benchmark:
        paths.FINISH_BENCHMARK
    localrule: FINISHED_LOCALLY
    conda:
        "../envs/margin_cache.yaml"
    threads: 1
    resources:
        mem_mb=asked("finish_margin", "mem_mb", for_finish),
        disk_mb=asked("finish_margin", "disk_mb", for_finish),
        runtime=asked("finish_margin", "runtime", for_finish),
    params:
        name=lambda wildcards: margin_of(wildcards).name,
        margin=lambda wildcards: str(margin_of(wildcards).files.margin_file),
        script=script("finish_margin.py"),
    message:
        "Finishing {params.name}"
    shell:
        "{params.script} --margin={params.margin:q} 2> {log:q}"
