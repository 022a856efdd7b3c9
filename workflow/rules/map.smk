rule map_partitions:
    input:
        partitions_of,
    output:
        "{work}/shards/{job}.arrow",
    log:
        "{work}/logs/map_partitions/{job}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=asked("mem_mb", for_map),
        disk_mb=asked("disk_mb", for_map),
        runtime=asked("runtime", for_map),
    params:
        name=name_of,
        script=script("map_partitions.py"),
    message:
        "Mapping {params.name}, job {wildcards.job}"
    shell:
        "{params.script} --plan {wildcards.work:q}/plan.npz"
        " --job {wildcards.job} --threads {threads} --shard {output:q} 2> {log:q}"
