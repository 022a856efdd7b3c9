rule reduce_margins:
    input:
        shards_of,
    output:
        receipt="{work}/receipts/{job}.json",
        footers="{work}/receipts/{job}.parquet",
    log:
        "{work}/logs/reduce_margins/{job}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=asked("mem_mb", for_reduce),
        disk_mb=asked("disk_mb", for_reduce),
        runtime=asked("runtime", for_reduce),
    params:
        name=name_of,
        building=lambda wildcards: str(MARGINS[wildcards.work].building),
        script=script("reduce_margins.py"),
    message:
        "Reducing {params.name}, job {wildcards.job}"
    shell:
        "{params.script} --plan {wildcards.work:q}/plan.npz"
        " --job {wildcards.job} --building {params.building:q}"
        " --receipt {output.receipt:q} --footers {output.footers:q} 2> {log:q}"
