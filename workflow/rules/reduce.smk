def shards_of(wildcards):
    margin = MARGINS[wildcards.work]
    plan = margin.plan
    needs = plan.needs_of(plan.reduce_job_of(wildcards.job))
    return [str(margin.shard(plan.map_names[need])) for need in needs]


rule reduce_margins:
    input:
        shards_of,
    output:
        receipt="{work}/receipts/{job}.json",
        footers="{work}/receipts/{job}.parquet",
    log:
        "{work}/logs/reduce_margins/{job}.log",
    threads: 1
    params:
        name=lambda wildcards: MARGINS[wildcards.work].name,
        building=lambda wildcards: str(MARGINS[wildcards.work].building),
    message:
        "Reducing {params.name}, job {wildcards.job}"
    shell:
        "{PYTHON} {SCRIPTS:q}/reduce_margins.py --plan {wildcards.work:q}/plan.npz"
        " --job {wildcards.job} --building {params.building:q}"
        " --receipt {output.receipt:q} --footers {output.footers:q} 2> {log:q}"
