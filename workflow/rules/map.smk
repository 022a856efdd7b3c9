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
    params:
        name=name_of,
        script=script("map_partitions.py"),
    message:
        "Mapping {params.name}, job {wildcards.job}"
    shell:
        "{params.script} --plan {wildcards.work:q}/plan.npz"
        " --job {wildcards.job} --shard {output:q} 2> {log:q}"
