# A margin: map jobs write shards, reduce jobs the files of the margin, the last job its metadata. If
# there is one reduce job, that writes the metadata too.
# Partitions are no input files: the state of those of a map job is in its name.
rule map_partitions:
    output:
        shard=paths.SHARD,
    log:
        paths.MAP_LOG,
    benchmark:
        paths.MAP_BENCHMARK
    conda:
        "../envs/margin_cache.yaml"
    resources:
        **session.resources("map_partitions"),
    params:
        name=session.margin_name,
        plan=paths.PLAN,
        covers=session.pixels_covered,
        script=session.script("map_partitions.py"),
    message:
        "Mapping {params.name}, job {wildcards.job:.5}: {params.covers}"
    shell:
        "{params.script} --plan={params.plan:q} --job {wildcards.job}"
        " --shard={output.shard:q} --failure-mark={log:q}.failed 2> {log:q}"


rule reduce_margins:
    input:
        shards=session.shards_of_job,
    output:
        receipt=paths.RECEIPT,
        footers=paths.FOOTERS,
    log:
        paths.REDUCE_LOG,
    benchmark:
        paths.REDUCE_BENCHMARK
    conda:
        "../envs/margin_cache.yaml"
    resources:
        **session.resources("reduce_margins"),
    params:
        name=session.margin_name,
        margin=paths.MARGIN,
        covers=session.pixels_covered,
        script=session.script("reduce_margins.py"),
    message:
        "Reducing {params.name}, job {wildcards.job:.5}: {params.covers}"
    shell:
        "{params.script} --margin={params.margin:q} --job {wildcards.job}"
        " --failure-mark={log:q}.failed 2> {log:q}"


rule finish_margin:
    input:
        receipts=session.receipts,
    output:
        done=paths.DONE,
    log:
        paths.FINISH_LOG,
    benchmark:
        paths.FINISH_BENCHMARK
    localrule: session.finishes_locally
    conda:
        "../envs/margin_cache.yaml"
    resources:
        **session.resources("finish_margin"),
    params:
        name=session.margin_name,
        margin=paths.MARGIN,
        script=session.script("finish_margin.py"),
    message:
        "Finishing {params.name}"
    shell:
        "{params.script} --margin={params.margin:q} --failure-mark={log:q}.failed 2> {log:q}"
